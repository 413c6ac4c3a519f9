"""What the library's own convolution is estimated to cost: by the path that it takes, whatever the rates are."""

from __future__ import annotations

import pytest

from xconv._methods.native_cost import PAGED, eigen_cost, onednn_cost
from xconv._methods.native_fused import fused_cost
from xconv._plan.geometry import Axis, Geometry
from xconv._plan.rates import rates_of
from xconv._plan.task import Task

TORCH, JAX = rates_of("torch"), rates_of("jax")
DIRECTIONS = ("forward", "backward_data", "backward_filter")


def task(direction, channels, filters, *axes, batch=4, groups=1):
    return Task(direction, Geometry.of([Axis(*axis) for axis in axes]), batch, groups, channels, filters)


def padded(d, k, s=1, a=1):
    around = a * (k - 1) // 2
    return d, k, s, a, around, around


class TestOneDNN:
    def test_channels_of_an_image_fill_no_registers(self):
        few, many = (onednn_cost(TORCH, task("forward", c, 64, padded(64, 3), padded(64, 3))) for c in (15, 16))
        three, four = (onednn_cost(TORCH, task("backward_filter", c, 64, padded(64, 3), padded(64, 3))) for c in (3, 4))
        assert few < many
        assert three < four / 2

    @pytest.mark.parametrize(
        ("direction", "near", "far"),
        [
            ("backward_filter", padded(64, 14), padded(64, 15)),
            ("forward", (64, 23, 1, 1, 11, 11), (64, 24, 1, 1, 12, 11)),
            ("backward_data", (64, 12, 1, 1, 0, 0), (64, 13, 1, 1, 0, 0)),
        ],
    )
    def test_windows_that_it_has_no_code_for_are_laid_out(self, direction, near, far):
        near_cost, far_cost = (onednn_cost(TORCH, task(direction, 16, 16, padded(64, 3), axis)) for axis in (near, far))
        assert far_cost > 1.2 * near_cost

    @pytest.mark.parametrize("direction", DIRECTIONS)
    def test_groups_of_few_channels_are_laid_out(self, direction):
        axes = padded(64, 3), padded(64, 3)
        odd, even = (onednn_cost(TORCH, task(direction, c, c, *axes, groups=4)) for c in (7, 8))
        assert odd > even

    def test_one_small_sample_is_not_brought_into_lanes(self):
        one, two = (onednn_cost(TORCH, task("forward", 16, 16, padded(8, 3), batch=batch)) for batch in (1, 2))
        assert one < two / 2
        large, wide = (
            onednn_cost(TORCH, task("forward", 16, 16, axis, axis, batch=1)) for axis in (padded(36, 3), padded(8, 5))
        )
        assert min(large, wide) > TORCH.own.operation > 2 * one

    def test_depthwise_windows_without_room_are_plain_loops(self):
        few, many = (
            onednn_cost(TORCH, task("forward", 1, 1, padded(36, 17), padded(36, 17), batch=1, groups=groups))
            for groups in (3, 30)
        )
        assert few > many / 4

    def test_windows_of_gradients_by_filters_come_page_by_page(self):
        below, above = (
            onednn_cost(TORCH, task("backward_filter", c, 1, padded(64, 15), padded(64, 15), batch=2)) for c in (3, 6)
        )
        assert above > 3 * below

    def test_large_arrays_come_page_by_page(self):
        below, above = (onednn_cost(TORCH, task("forward", 1, 16, (d, 1), batch=1)) for d in (PAGED // 16, PAGED // 8))
        assert above > 3 * below


class TestEigen:
    def test_gradients_by_filters_of_groups_are_of_all_by_all(self):
        axes = padded(32, 3), padded(32, 3)
        two, four = (eigen_cost(JAX, task("backward_filter", 8, 8, *axes, groups=groups)) for groups in (2, 4))
        assert four > 3 * two

    def test_three_axes_take_longer_than_two(self):
        flat, deep = (eigen_cost(JAX, task("forward", 8, 8, *[padded(16, 3)] * n, batch=16 ** (3 - n))) for n in (2, 3))
        assert deep > 3 * flat

    @pytest.mark.parametrize("direction", DIRECTIONS)
    def test_more_than_three_axes_are_plain_loops(self, direction):
        three, four = (eigen_cost(JAX, task(direction, 8, 8, *[padded(8, 3)] * n, batch=8 ** (4 - n))) for n in (3, 4))
        assert four > 3 * three

    def test_strides_of_a_volume_are_read_one_by_one(self):
        once, twice = (eigen_cost(JAX, task("backward_data", 8, 8, *[padded(16, 3, s)] * 3)) for s in (1, 2))
        assert twice > 2 * once

    def test_strides_of_an_image_are_added(self):
        once, twice = (eigen_cost(JAX, task("backward_data", 8, 8, *[padded(64, 3, s)] * 2)) for s in (1, 2))
        assert twice < once

    def test_windows_without_padding_are_laid_out(self):
        around, none = (
            eigen_cost(JAX, task("forward", 32, 32, axis, axis)) for axis in (padded(32, 5), (36, 5, 1, 1, 0, 0))
        )
        assert none > 1.3 * around

    @pytest.mark.parametrize(("axis", "times"), [(padded(32, 3), 1.5), ((34, 3, 1, 1, 0, 0), 3)])
    def test_for_few_filters_no_windows_are_laid_out(self, axis, times):
        few, many = (eigen_cost(JAX, task("backward_filter", 16, filters, axis, axis)) for filters in (7, 8))
        assert many > times * few


@pytest.mark.parametrize(("cost", "rates"), [(onednn_cost, TORCH), (eigen_cost, JAX)])
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_nothing_takes_no_more_than_a_call(cost, rates, direction):
    assert cost(rates, task(direction, 0, 0, padded(8, 3), batch=0)) <= rates.own.operation


@pytest.mark.parametrize("groups", [1, 4])
def test_zeros_between_gradients_of_strides_are_multiplied_too(groups):
    once, twice = (
        fused_cost(task("backward_filter", 1, 1, *[padded(31 * s + 1, 3, s)] * 2, groups=groups)) for s in (1, 2)
    )
    assert twice > 3 * once
