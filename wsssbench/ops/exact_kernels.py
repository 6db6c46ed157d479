"""The Triton kernel of the exact Gaussian filter on a GPU; `exact_triton` launches it.

    out_i = after_i * sum_j 2^(-|g_i - g_j|^2) v_j,   g = f sqrt(log2(e) / 2)

so that 2^(-|g_i - g_j|^2) = exp(-|f_i - f_j|^2 / 2). A program owns ROWS points i of one image and walks over
all points j, COLUMNS at a time: weights live in registers, nothing of size N x N in memory. Distances come
from differences of coordinates, since |a|^2 + |b|^2 - 2ab cancels in float32. Sums have one order, so two
calls give the same bits.

Tensor cores take TF32, which keeps 11 of float32's 24 significant bits, and add without rounding to nearest.
So a number is cut into its first 11 bits and the rest, x = x1 + x2, and p v = p1 v1 + p1 v2 + p2 v1 up to
2^-20; and they add COLUMNS products only, from zero, ordinary additions the rest. Emulated for 25,600 points
(tests/test_ops_exact_triton.py) the largest relative error is 1e-6, against 7e-5 if the tensor cores add all
and 7e-4 if p and v are just taken as TF32.

Four images of 160 x 160, five dimensions, up to 32 channels on an H200 (132 processors, 1.75 GHz): the loop
compiled for sm_90 issues 19.6 instructions for a pair of points, 10 of them for the distance, which takes
1.7 ms and is what bounds it. 2^x takes 0.7 ms beside it, the tensor cores 1.1 ms, L2 reads about 0.8 ms.
"""

from __future__ import annotations

import triton
import triton.language as tl

FIRST_BITS = tl.constexpr(-(2**13))  # of a float32: sign, exponent and the 10 bits that TF32 stores


@triton.jit
def gaussian_sum(
    features, values, after, out, points, padded, channels,
    DIMENSIONS: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """`out` (B, C, N) of g `features` (B, d, M), `values` (B, C, M) and factors `after` (B, N), all float32.

    M is `padded`, a multiple of ROWS and COLUMNS; values from N on are zero. The grid is (blocks of ROWS
    points, blocks of CHANNELS channels, B).
    """
    image = tl.program_id(2).to(tl.int64)
    features += image * DIMENSIONS * padded
    values += image * channels * padded
    i = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    c = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    total = tl.zeros((ROWS, CHANNELS), tl.float32)
    for start in range(0, points, COLUMNS):
        j = start + tl.arange(0, COLUMNS)
        square = tl.zeros((ROWS, COLUMNS), tl.float32)
        for k in tl.static_range(DIMENSIONS):
            difference = (
                tl.load(features + k * padded + i)[:, None] - tl.load(features + k * padded + j)[None, :]
            )
            square += difference * difference
        p = tl.exp2(-square)
        v = tl.load(values + c[:, None] * padded + j[None, :], mask=c[:, None] < channels, other=0.0)
        p1, v1 = first_bits(p), first_bits(v)
        block = tl.dot(p - p1, v1.T, input_precision="tf32")
        block = tl.dot(p1, (v - v1).T, block, input_precision="tf32")
        total += tl.dot(p1, v1.T, block, input_precision="tf32")
    total *= tl.load(after + image * points + i, mask=i < points, other=0.0)[:, None]
    there = (i[:, None] < points) & (c[None, :] < channels)
    tl.store(out + image * channels * points + c[None, :] * points + i[:, None], total, mask=there)


@triton.jit
def first_bits(x):
    """float32 x without the bits that TF32 does not hold."""
    return (x.to(tl.int32, bitcast=True) & FIRST_BITS).to(tl.float32, bitcast=True)
