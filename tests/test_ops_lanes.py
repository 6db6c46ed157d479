"""The vector operations and the exponential function of compiled code, each against numpy."""

from __future__ import annotations

import numpy as np

from wsssbench.ops.kernels import ROWS, Floats, compiled, turn
from wsssbench.ops.lanes import WIDTH, load, madd, store, zeros
from wsssbench.ops.mean_field_kernels import exp


@compiled()
def _exps(x: Floats, top: Floats, total: Floats) -> None:
    bits = np.empty(ROWS, np.int32)
    for row in range(x.shape[0]):
        exp(x[row], top, bits, bits.view(np.float32), total)


@compiled()
def _sums(a: Floats, b: Floats, turned: Floats, out: Floats) -> None:
    turn(a, turned)
    for row in range(a.shape[0]):
        for c in range(0, a.shape[1], WIDTH):
            total = madd(load(b, row, c), np.float32(2), load(a, row, c))
            store(madd(total, np.float32(3), zeros()), out, row, c)


def test_exp_is_accurate_to_float32_down_to_its_smallest_normal_number() -> None:
    x = -np.linspace(0, 87, 125 * ROWS, dtype=np.float32).reshape(-1, ROWS)
    out, top, total = x + 1, np.ones(ROWS, np.float32), np.zeros(ROWS, np.float32)
    exact = np.exp((out - top).astype(np.float64))
    _exps(out, top, total)
    np.testing.assert_allclose(out, exact, rtol=2e-7)
    np.testing.assert_allclose(total, exact.sum(0), rtol=1e-6)
    assert out[0, 0] == 1
    far = x - 1000
    _exps(far, top, total)
    assert (far == far[0, 0]).all()
    assert 0 < far[0, 0] < 2e-38


def test_arithmetic_and_transposition_are_numpys() -> None:
    seed = 61
    print(f"seed {seed}")
    a, b = np.random.default_rng(seed).random((2, 16, 24), dtype=np.float32) + np.float32(0.5)
    out, turned = np.empty_like(a), np.empty((24, 16), np.float32)
    _sums(a, b, turned, out)
    np.testing.assert_array_equal(turned, a.T)
    np.testing.assert_allclose(out, b + 2 * a, rtol=1e-6)
