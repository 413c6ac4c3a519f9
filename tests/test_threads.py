"""The pool of threads: it computes as the caller would, and never keeps a call from its result."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
import warnings

import numpy as np
import pytest
import threadpoolctl

import xconv
import xconv.ndimage
import xconv.signal
from xconv._run import threads as _threads
from xconv._run.threads import for_each


@pytest.mark.parametrize("state", ["ignore", "raise"])
def test_what_numpy_does_about_errors_holds_in_every_thread(state):
    both, seen = threading.Barrier(2, timeout=30), {}

    def work(item):
        both.wait()  # one item for each thread
        seen[threading.get_ident()] = np.geterr()["invalid"]

    with np.errstate(invalid=state):
        for_each(work, range(2), 2)
    assert list(seen.values()) == [state, state]


def test_the_caller_does_what_no_thread_could_be_started_for(monkeypatch):
    """The pool queues a call before it starts a thread: one that it has may find it when nobody waits for it."""
    queued, done = [], []

    class Pool:
        def submit(self, *call):
            queued.append(call)
            raise RuntimeError("can't start new thread")

    def work(item):
        for function, *arguments in queued:
            function(*arguments)  # as by another thread, while the caller is at work
        done.append(item)

    monkeypatch.setattr(_threads, "_pool", Pool)
    for_each(work, range(5), 2)
    assert done == list(range(5))


def test_a_convolution_of_inf_warns_nobody_who_ignores_it():
    x, w = np.full((8, 32, 40, 40), np.inf, dtype="float32"), np.zeros((32, 32, 3, 3), dtype="float32")
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("error")
        y = xconv.conv(x, w, method="im2col")
    assert np.all(np.isnan(y))


def run_script(text):
    command = [sys.executable, "-c", textwrap.dedent(text)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_calls_go_on_while_the_interpreter_shuts_down():
    """No thread can be started then, in threads that outlive the main one or at exit, nor every module loaded."""
    process = run_script(
        """
        import atexit, threading, time, numpy as np, xconv
        from xconv._run import blockwise
        blockwise.cpu_count = lambda: 2
        x, w = np.ones((8, 32, 40, 40), dtype="float32"), np.ones((32, 32, 3, 3), dtype="float32")
        def convolve(name):
            for method in ("auto", "fft", "winograd"):
                y = xconv.conv(x, w, method=method)
            print(name, y.shape, flush=True)
        def late():
            threading.main_thread().join()
            convolve("thread")
        threading.Thread(target=late).start()
        atexit.register(convolve, "exit")
        """
    )
    assert process.stderr == ""
    assert process.stdout.split("\n") == ["thread (8, 32, 38, 38)", "exit (8, 32, 38, 38)", ""]


def test_a_child_forked_while_another_thread_loads_something_does_not_wait_for_it():
    """A fork at each module that the first calls load, whose lock the child would find held by a thread it lacks."""
    process = run_script(
        """
        import os, signal, sys, threading, time, numpy as np, xconv
        from xconv._run import blockwise
        blockwise.cpu_count = lambda: 2
        names = {
            "array_api_compat", "array_api_compat.numpy", "threadpoolctl", "concurrent.futures.thread", "scipy.fft",
            "xconv._methods.coefficients", "fractions",
        }
        begun, children = threading.Event(), []
        class Slow:
            def find_spec(self, name, path=None, target=None):
                if name in names and threading.current_thread() is not threading.main_thread():
                    names.discard(name)
                    begun.set()
                    time.sleep(0.3)
        sys.meta_path.insert(0, Slow())
        def call():
            x, w = np.ones((8, 32, 40, 40), dtype="float32"), np.ones((32, 32, 3, 3), dtype="float32")
            for method in ("winograd", "fft"):
                xconv.conv(x, w, method=method)
        first = threading.Thread(target=call)
        first.start()
        while first.is_alive():
            if begun.wait(0.01):
                begun.clear()
                child = os.fork()
                if child == 0:
                    signal.alarm(20)
                    sys.meta_path.pop(0)
                    call()
                    os._exit(0)
                children.append(child)
        print(sorted(names), {os.waitpid(child, 0)[1] for child in children})
        """
    )
    assert process.stdout == "[] {0}\n", process.stderr


def test_blas_adds_up_on_this_thread_alone(monkeypatch):
    """Where a call is too short for threads: those of BLAS would make it wait for CPUs that are busy."""
    longest = 10_000  # numbers that OpenBLAS adds up on one thread: dot.c of its kernels for x86_64
    seen = []

    def watched(function, terms):
        def call(first, second):
            blas = [pool["num_threads"] for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]
            seen.append(terms(first))
            assert seen[-1] <= longest or set(blas) == {1}
            return function(first, second)

        return call

    monkeypatch.setattr(np, "vdot", watched(np.vdot, lambda first: first.size))
    monkeypatch.setattr(np, "vecdot", watched(np.vecdot, lambda first: first.shape[-1]))
    x = np.random.default_rng(0).normal(size=(128, 128))
    for method in ("fft", "direct", "toeplitz"):
        for taps in (3, 9, 64):
            keywords = {"padding": "full", "method": method}
            dy = xconv.conv(x[None, None], x[None, None, :taps, :taps], **keywords)
            xconv.conv_backward(dy, x[None, None], x[None, None, :taps, :taps], **keywords)
    xconv.ndimage.correlate(x, x[:3, :3])
    xconv.signal.fftconvolve(x, x[:64, :64])
    assert max(seen) > 4096
