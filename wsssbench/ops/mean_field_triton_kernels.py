"""The Triton kernel of one mean-field step on a GPU, and nothing else; `mean_field_triton` launches it."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def update(
    unary, out, q, points, labels, alternatives,
    near_table, near_ids, near_weights, near_rows, far_table, far_ids, far_weights,
    FIRST: tl.constexpr, LAST: tl.constexpr, NEAR: tl.constexpr, FAR: tl.constexpr,
    LABELS: tl.constexpr, CHANNELS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Q = softmax(-unary + both filters of the Q before), of a block of points of one image and alternative.

    What the filters answer is sliced on the spot: sum_k weight_k table[corner k], NEAR corners on the lattice
    of positions, which all images share (tables of `near_rows`), FAR on that of colours and positions; norms
    and compatibilities are in the weights. The FIRST step has no Q before. Q goes into rows of CHANNELS, for
    each alternative LABELS (labels and padding), and in the LAST step into planes (B, A, L, N) as `unary` is.
    """
    n = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    image, alternative = tl.program_id(1).to(tl.int64), tl.program_id(2)
    inside, label = (n < points)[:, None], tl.arange(0, LABELS)[None, :]
    known = inside & (label < labels)
    plane = ((image * alternatives + alternative) * labels + label) * points + n[:, None]
    logits = -tl.load(unary + plane, mask=known, other=0.0)
    channel, point = alternative * LABELS + label, image * points + n
    if not FIRST:
        for k in tl.static_range(NEAR):
            corner = tl.load(near_ids + n * NEAR + k, mask=n < points, other=0) + image * near_rows
            weight = tl.load(near_weights + n * NEAR + k, mask=n < points, other=0.0)
            logits += weight[:, None] * tl.load(near_table + corner[:, None] * CHANNELS + channel)
        for k in tl.static_range(FAR):
            corner = tl.load(far_ids + point * FAR + k, mask=n < points, other=0).to(tl.int64)
            weight = tl.load(far_weights + point * FAR + k, mask=n < points, other=0.0)
            logits += weight[:, None] * tl.load(far_table + corner[:, None] * CHANNELS + channel)
    logits = tl.where(label < labels, logits, -float("inf"))
    share = tl.exp(logits - tl.max(logits, 1)[:, None])
    share = share / tl.sum(share, 1)[:, None]
    if LAST:
        tl.store(out + plane, share, mask=known)
    else:
        tl.store(q + point[:, None] * CHANNELS + channel, share, mask=inside)
