"""The demo's network and its training: gradients, the same course on every backend, and that it learns."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

import xconv
from xconv import Pooling
from xconv.demo.backends import load_backend
from xconv.demo.data import LARGEST_SHIFT, Digits, load_digits, shift_randomly, shuffled_batches
from xconv.demo.errors import CommandError
from xconv.demo.learning import Momentum, count_steps, learning_rate, predict, training_steps
from xconv.demo.network import Affine, ReLU, accuracy, build_network, cross_entropy
from xconv.testing import check_gradient, numerical_gradient

STEPS = 20
SEED = 5


def load_or_skip(name):
    try:
        return load_backend(name)
    except CommandError as reason:
        pytest.skip(str(reason))


def loss_curve(library):
    """Losses of a training that has as many steps, so that its rate rises and falls within them."""
    digits, _ = load_digits()
    rng = np.random.default_rng(SEED)
    network = build_network(rng, library.from_numpy)
    with library.full_precision():
        steps = training_steps(network, digits[: 20 * STEPS], library, rng, epochs=1, batch_size=20)
        return np.array([step.loss for step in steps])


@pytest.fixture(scope="module", autouse=True)
def one_blas_thread():
    """As in the command: on a busy machine, threads wait for each other longer than these products take."""
    with threadpool_limits(1, user_api="blas"):
        yield


@pytest.fixture(scope="module")
def numpy_curve():
    return loss_curve(load_backend("numpy"))


@pytest.fixture
def one_torch_thread():
    """PyTorch has threads of its own."""
    torch = pytest.importorskip("torch", reason="torch is not installed")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def assert_same_curve(curve, expected):
    """Each step rounds sums of at most 32*49 products, whose errors grow like a random walk: sqrt(32*49) epsilons of
    the loss. At worst those of all steps point the same way.
    """
    epsilon = np.finfo(np.float32).eps
    assert curve.shape == (STEPS,)
    assert curve == pytest.approx(expected, rel=STEPS * np.sqrt(32 * 49) * epsilon)
    assert curve[:5].mean() - curve[-5:].mean() > 0.3, "a curve that does not fall says nothing about the updates"


def test_jax_gives_the_loss_curve_of_numpy(numpy_curve):
    assert_same_curve(loss_curve(load_or_skip("jax")), numpy_curve)


@pytest.mark.usefixtures("one_torch_thread")
def test_torch_gives_the_loss_curve_of_numpy(numpy_curve):
    assert_same_curve(loss_curve(load_or_skip("torch")), numpy_curve)


class Halving:
    """ReLU, then a convolution with stride 2, or the transposed one: a layer written with functions alone."""

    def __init__(self, rng, transposed, *shape):
        name, self.keywords = "conv", {"stride": 2, "padding": 1}
        if transposed:
            name, self.keywords = "conv_transpose", self.keywords | {"output_padding": 1}
        self.function, self.gradients = getattr(xconv, name), getattr(xconv, f"{name}_backward")
        self.w = rng.normal(0, 1 / np.sqrt(shape[1] * 9), (*shape, 3, 3)).astype(np.float32)
        self.b = np.zeros(shape[transposed], dtype=np.float32)
        self.moments = [(np.zeros_like(array), np.zeros_like(array)) for array in (self.w, self.b)]

    def forward(self, x):
        self.x = np.maximum(x, 0)
        return self.function(self.x, self.w, self.b, **self.keywords)

    def learn(self, dy, step):
        """Adam, and the gradient by the input."""
        dx, *gradients = self.gradients(dy, self.x, self.w, **self.keywords)
        for array, gradient, (mean, square) in zip((self.w, self.b), gradients, self.moments, strict=True):
            mean += 0.1 * (gradient - mean)
            square += 0.001 * (gradient**2 - square)
            array -= 0.01 * mean / (1 - 0.9**step) / (np.sqrt(square / (1 - 0.999**step)) + 1e-8)
        return dx * (self.x > 0)


def test_an_autoencoder_learns_with_numpy_alone():
    """Its loss falls below a third of what the mean image leaves."""
    images, rng = load_digits()[0].images, np.random.default_rng(SEED)
    layers = [Halving(rng, at > 1, *shape) for at, shape in enumerate([(16, 1), (8, 16), (8, 16), (16, 1)])]

    def decoded(x):
        for layer in layers:
            x = layer.forward(x)
        return x

    for step in range(1, 61):
        batch = images[rng.integers(0, len(images), 32)]
        gradient = (decoded(batch) - batch) / len(batch)
        for layer in reversed(layers):
            gradient = layer.learn(gradient, step)
    batch = images[:200]
    loss, of_the_mean = (np.mean((guess - batch) ** 2) for guess in (decoded(batch), images.mean(axis=0)))
    assert loss < of_the_mean / 3


def test_the_seed_decides_the_weights():
    first, same, other = (
        build_network(np.random.default_rng(seed), lambda array: array).parameters["conv1.W"]
        for seed in (SEED, SEED, SEED + 1)
    )
    assert np.array_equal(first, same)
    assert not np.array_equal(first, other)


def test_one_epoch_reads_nine_of_ten_digits():
    library = load_backend("numpy")
    digits, held_out = load_digits()
    rng = np.random.default_rng(SEED)
    network = build_network(rng, library.from_numpy)
    for step in training_steps(network, digits, library, rng, epochs=1, batch_size=25):
        assert np.isfinite(step.loss)
    assert accuracy(predict(network, held_out.images, library), held_out.targets) > 0.9


def test_the_network_stays_float32():
    library = load_backend("numpy")
    digits, _ = load_digits()
    rng = np.random.default_rng(SEED)
    network = build_network(rng, library.from_numpy)
    list(training_steps(network, digits[:8], library, rng, epochs=1, batch_size=4))
    assert {str(array.dtype) for array in network.parameters.values()} == {"float32"}
    assert network.forward(digits.images[:2]).dtype == np.float32


def test_gradient_of_the_whole_network():
    """Along random directions, in float64, where a step of 1e-6 meets no kink of ReLU or of a maximum."""
    rng = np.random.default_rng(SEED)
    network = build_network(rng, lambda array: array.astype(np.float64))
    images, targets = rng.random((3, 1, 28, 28)), np.eye(10)[[3, 1, 4]]
    _, dlogits = cross_entropy(network.forward(images), targets)
    gradients = {"images": network.backward(dlogits)}
    for name, layer in network.trained_layers.items():
        gradients |= {f"{name}.W": layer.dW, f"{name}.b": layer.db}
    arrays = {"images": images, **network.parameters}
    assert gradients.keys() == arrays.keys()
    for name, array in arrays.items():
        direction, original, step = rng.standard_normal(array.shape), array.copy(), 1e-6
        losses = []
        for sign in (1, -1):
            array[...] = original + sign * step * direction
            losses.append(cross_entropy(network.forward(images), targets)[0])
        array[...] = original
        slope = (losses[0] - losses[1]) / (2 * step)
        assert slope == pytest.approx(np.sum(gradients[name] * direction), rel=1e-6), name


def test_gradients_of_the_layers_and_the_loss():
    rng = np.random.default_rng(SEED)
    affine = Affine(rng.standard_normal((12, 5)), rng.standard_normal(5))
    check_gradient(affine.forward, affine.backward, rng.standard_normal((4, 3, 2, 2)))
    relu = ReLU()
    check_gradient(relu.forward, relu.backward, rng.standard_normal((4, 7)))
    logits, targets = rng.standard_normal((4, 5)), np.eye(5)[[0, 3, 3, 1]]
    expected = numerical_gradient(lambda logits: cross_entropy(logits, targets)[0], logits)
    assert cross_entropy(logits, targets)[1] == pytest.approx(expected, abs=1e-9)


def test_large_logits_do_not_overflow():
    loss, dlogits = cross_entropy(np.array([[1e4, 0.0]]), np.array([[0.0, 1.0]]))
    assert float(loss) == pytest.approx(1e4)
    np.testing.assert_allclose(dlogits, [[1.0, -1.0]])


def test_pooling_and_relu_change_places():
    x = np.random.default_rng(SEED).standard_normal((2, 3, 6, 6))
    pooled, clipped = Pooling(2, 2), Pooling(2, 2)
    assert np.array_equal(ReLU().forward(pooled.forward(x)), clipped.forward(ReLU().forward(x)))


def test_momentum_keeps_nine_tenths_of_its_speed():
    network = build_network(np.random.default_rng(SEED), lambda array: array)
    before = network.parameters["conv1.W"].copy()
    for layer in network.trained_layers.values():
        layer.dW, layer.db = np.ones_like(layer.W), np.ones_like(layer.b)
    optimizer = Momentum(network)
    optimizer.step(0.1)
    optimizer.step(0.1)
    assert network.parameters["conv1.W"] == pytest.approx(before - 0.1 - (0.09 + 0.1), abs=1e-6)


def test_learning_rate_climbs_and_falls_to_nothing():
    rates = [learning_rate(progress, batch_size=50) for progress in np.linspace(0, 1, 101)]
    assert rates[0] == 0
    assert max(rates) == rates[10]
    assert rates[-1] == pytest.approx(0)


def test_learning_rate_follows_the_batch_size_up_to_a_limit():
    rates = [learning_rate(0.1, batch_size) for batch_size in (1, 10, 1000, 4000)]
    assert rates[1] == pytest.approx(10 * rates[0])
    assert rates[2] == rates[3] > rates[1]


def test_the_split_holds_out_a_thousand_digits():
    digits, held_out = load_digits()
    assert (len(digits), len(held_out)) == (4000, 1000)
    assert digits.images.shape == (4000, 1, 28, 28)
    assert digits.images.dtype == np.float32
    assert (digits.images.min(), digits.images.max()) == (0, 1)
    assert np.bincount(held_out.labels).min() > 80, "no class may be missing"
    np.testing.assert_array_equal(digits.targets.argmax(axis=1), digits.labels)
    learned = {image.tobytes() for image in digits.images}
    assert not any(image.tobytes() in learned for image in held_out.images)


@pytest.mark.parametrize(("size", "sizes"), [(4, [4, 4, 2]), (5, [5, 5]), (99, [10])])
def test_batches_have_every_digit_once(size, sizes):
    digits = Digits(np.arange(10), np.arange(10) + 100)
    batches = shuffled_batches(digits, size, np.random.default_rng(SEED))
    assert [len(batch) for batch in batches] == sizes
    assert count_steps(digits, epochs=3, batch_size=size) == 3 * len(sizes)
    labels = np.concatenate([batch.labels for batch in batches])
    np.testing.assert_array_equal(np.sort(labels), digits.labels)
    np.testing.assert_array_equal(np.concatenate([batch.images for batch in batches]), labels - 100)


def test_shifts_move_whole_images_both_ways():
    images = np.zeros((500, 1, 9, 9), dtype=np.float32)
    images[:, 0, 4, 4] = 1
    _, _, rows, columns = np.nonzero(shift_randomly(images, np.random.default_rng(SEED)))
    assert len(rows) == len(images)
    reach = set(range(4 - LARGEST_SHIFT, 4 + LARGEST_SHIFT + 1))
    assert set(zip(rows.tolist(), columns.tolist(), strict=True)) == set(itertools.product(reach, reach))
