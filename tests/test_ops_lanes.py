"""The vector operations of compiled code, each against numpy."""

from __future__ import annotations

import numpy as np

from wsssbench.ops.kernels import Floats, compiled, turn
from wsssbench.ops.lanes import WIDTH, exp, larger, load, madd, quotient, store, zeros


@compiled()
def _exps(x: Floats, out: Floats) -> None:
    for n in range(0, x.shape[1], WIDTH):
        store(exp(load(x, 0, n)), out, 0, n)


@compiled()
def _sums(a: Floats, b: Floats, turned: Floats, out: Floats) -> None:
    turn(a, turned)
    for row in range(a.shape[0]):
        for c in range(0, a.shape[1], WIDTH):
            x, y = load(a, row, c), load(b, row, c)
            store(
                madd(quotient(larger(x, y), y), np.float32(2), madd(zeros(), np.float32(3), x)), out, row, c
            )


def test_exp_is_accurate_to_float32_down_to_its_smallest_normal_number() -> None:
    x = -np.linspace(0, 87, 8000, dtype=np.float32)[None]
    out = np.empty_like(x)
    _exps(x, out)
    np.testing.assert_allclose(out, np.exp(x.astype(np.float64)), rtol=2e-7)
    assert out[0, 0] == 1
    _exps(x - 1000, out)
    assert (out == out[0, 0]).all()
    assert 0 < out[0, 0] < 2e-38


def test_arithmetic_and_transposition_are_numpys() -> None:
    seed = 61
    print(f"seed {seed}")
    a, b = np.random.default_rng(seed).random((2, 16, 24), dtype=np.float32) + np.float32(0.5)
    out, turned = np.empty_like(a), np.empty((24, 16), np.float32)
    _sums(a, b, turned, out)
    np.testing.assert_array_equal(turned, a.T)
    np.testing.assert_allclose(out, np.maximum(a, b) / b + 6 * a, rtol=1e-6)
