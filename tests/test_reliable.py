"""The reliable-label rule: published labels, small cases by hand, images that break the published code."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from wsssbench_methods.rrm import reliable_rule
from wsssbench_methods.rrm.reliable_rule import (
    ReliableRule,
    labels_at_scale,
    reliable_labels,
    reliable_labels_batch,
)

FAITHFUL = ReliableRule(variant="faithful")


def disc(size: int, row: float, column: float, radius: float) -> Tensor:
    """A CAM (S, S) in [0, 1] that falls off from a centre."""
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    distance = ((y - row) ** 2 + (x - column) ** 2).float().sqrt()
    return (1.3 - distance / radius).clamp(0, 1)


def scene(size: int = 48) -> tuple[Tensor, Tensor]:
    """An image of two coloured discs on grey, and the CAMs of both, (2, S, S)."""
    cams = torch.stack(
        [disc(size, size * 0.3, size * 0.3, size * 0.2), disc(size, size * 0.7, size * 0.7, size * 0.2)]
    )
    image = torch.full((size, size, 3), 90, dtype=torch.uint8)
    image[cams[0] > 0.3] = torch.tensor([200, 30, 30], dtype=torch.uint8)
    image[cams[1] > 0.3] = torch.tensor([30, 30, 200], dtype=torch.uint8)
    return image, cams


@pytest.mark.parametrize("case", range(12))
def test_published_labels_are_reproduced(shared: Callable[[str], Path], case: int) -> None:
    golden = np.load(shared(f"golden/rrm/reliable_{case:02d}.npz"))
    image, tags = torch.from_numpy(golden["image"]), torch.from_numpy(golden["tags"])
    cams = torch.from_numpy(golden["cam"].astype(np.float32))
    mined, want = reliable_labels(image, cams, tags, FAITHFUL).numpy(), golden["label"]
    assert mined.dtype == np.uint8
    for label in np.union1d(np.unique(mined), np.unique(want)):
        both, either = (mined == label) & (want == label), (mined == label) | (want == label)
        assert both.sum() / either.sum() >= 0.99, f"label {label}"
    assert abs((mined != 255).mean() - (want != 255).mean()) <= 0.005


def test_a_batch_equals_its_images_whatever_their_number_of_tags(shared: Callable[[str], Path]) -> None:
    images, cams, classes = [], torch.zeros(3, 20, 161, 161), []
    for b, case in enumerate((2, 8, 11)):  # two tags, then one
        golden = np.load(shared(f"golden/rrm/reliable_{case:02d}.npz"))
        images.append(torch.from_numpy(golden["image"]))
        classes.append(torch.from_numpy(golden["tags"]))
        cams[b, classes[-1]] = torch.from_numpy(golden["cam"].astype(np.float32))
    tags = torch.stack([torch.isin(torch.arange(20), c) for c in classes])
    together = reliable_labels_batch(torch.stack(images), cams, tags, FAITHFUL)
    for b, image in enumerate(images):
        assert torch.equal(together[b], reliable_labels(image, cams[b, classes[b]], classes[b], FAITHFUL))


def test_a_clean_image_gets_each_class_at_its_peak_background_far_away_and_little_else() -> None:
    image, cams = scene()
    mined = reliable_labels(image, cams, torch.tensor([3, 17]), scale=0.15)
    assert set(mined.unique().tolist()) == {0, 4, 18, 255}
    assert mined[14, 14] == 4
    assert mined[33, 33] == 18
    assert mined[2, 45] == 0
    for k, label in ((0, 4), (1, 18)):
        inside = cams[k][mined == label]
        counted = cams[k][cams[k] > 0.1]
        assert inside.min() > counted.quantile(0.55)  # the top 40 % of the counted values, ties aside


def test_maps_of_untagged_classes_are_not_read() -> None:
    image, cams = scene()
    planes = torch.ones(1, 5, 48, 48)
    planes[0, 2:4] = cams
    tags = torch.tensor([[False, False, True, True, False]])
    mined = reliable_labels_batch(image[None], planes, tags)[0]
    assert torch.equal(mined, reliable_labels(image, cams, torch.tensor([2, 3])))


def test_a_tagged_class_without_activation_is_never_mined() -> None:
    image, cams = scene()
    mined = reliable_labels(image, torch.stack([cams[0], torch.zeros(48, 48)]), torch.tensor([0, 1]))
    assert (mined != 2).all()
    assert (mined == 1).any()


def test_an_image_without_tags_is_background() -> None:
    image, _ = scene()
    mined = reliable_labels_batch(image[None], torch.rand(1, 4, 48, 48), torch.zeros(1, 4, dtype=torch.bool))
    assert (mined == 0).all()


@pytest.mark.parametrize("value", [0.0, 0.05, 0.5, 1.0])
def test_a_single_pixel_is_labelled_or_left_out(value: float) -> None:
    image = torch.zeros(1, 1, 3, dtype=torch.uint8)
    mined = reliable_labels(image, torch.full((1, 1, 1), value), torch.tensor([6]))
    assert mined.item() == (0 if value == 0 else 255)  # nothing is strictly above the cut of one value


def test_a_uniform_image_with_a_uniform_map_gives_nothing_to_learn() -> None:
    image = torch.full((20, 20, 3), 128, dtype=torch.uint8)
    mined = reliable_labels(image, torch.full((1, 20, 20), 0.9), torch.tensor([0]))
    assert (mined == 255).all()


@pytest.mark.parametrize("variant", ["fixed", "faithful"])
def test_a_class_of_the_crf_without_counted_cam_pixels_does_not_break(variant: str) -> None:
    # The CRF gives class 1 pixels, yet its map never exceeds the smallest counted value.
    rule = replace(ReliableRule(variant=variant), alpha_low=200.0, alpha_high=200.0)
    mined = reliable_labels(scene()[0], torch.full((1, 48, 48), 0.09), torch.tensor([0]), rule)
    assert (mined == 255).all()


def test_padding_is_unlabelled_in_fixed_and_labelled_in_faithful() -> None:
    image, cams = scene()
    valid = torch.ones(48, 48, dtype=torch.bool)
    valid[:, 47:] = False  # no map reaches there
    classes = torch.tensor([0, 1])
    fixed = reliable_labels(image, cams, classes, ReliableRule(), valid=valid)
    faithful = reliable_labels(image, cams, classes, FAITHFUL, valid=valid)
    assert (fixed[~valid] == 255).all()
    assert (faithful[~valid] != 255).any()
    assert torch.equal(fixed[valid], reliable_labels(image, cams, classes, FAITHFUL)[valid])


def test_padding_does_not_move_the_cut() -> None:
    image, cams = scene()
    valid = disc(48, 14, 14, 10) < 0.9  # the peak of class 0 is padding
    fixed = reliable_labels(image, cams, torch.tensor([0, 1]), ReliableRule(), valid=valid)
    assert (fixed == 1).any()
    assert (reliable_labels(image, cams, torch.tensor([0, 1]), FAITHFUL)[valid] == 1).sum() < (
        fixed == 1
    ).sum()


def at_scale(scale: float, variant: str = "fixed") -> tuple[Tensor, Tensor]:
    """Labels of the scene, whose last 40 rows are padding, mined at `scale` and at full size, (1, S, S)."""
    image, cams = scene(160)
    valid = torch.ones(1, 160, 160, dtype=torch.bool)
    valid[:, 120:] = False
    rule = ReliableRule(mining_scale=scale, variant=variant)  # type: ignore[arg-type]
    tags = torch.tensor([[True, True]])
    found = labels_at_scale(
        image.permute(2, 0, 1)[None], cams[None] * 7, tags, rule, valid,
        backend="lattice", scale=1.0, most_tags=None,
    )  # fmt: skip
    inside = cams if variant == "faithful" else cams * valid
    exact = inside / (inside.amax((1, 2), keepdim=True) + 1e-5)
    return found, reliable_labels_batch(image[None], exact[None], tags, rule, valid=valid)


@pytest.mark.parametrize("variant", ["fixed", "faithful"])
def test_mining_at_full_size_is_the_rule_itself(variant: str) -> None:
    found, exact = at_scale(1.0, variant)
    assert torch.equal(found, exact)
    assert len(found.unique()) == 4


def test_mining_at_half_size_gives_nearly_the_same_labels_and_none_on_padding() -> None:
    found, exact = at_scale(0.5)
    assert found.shape == exact.shape
    assert (found == exact).float().mean() > 0.97
    assert set(found.unique().tolist()) == {0, 1, 2, 255}
    assert (found[:, 120:] == 255).all()


@pytest.mark.parametrize("fraction", [0.0, 1e-17, 0.1, 0.4, 0.9, 1.0])
def test_cuts_select_as_the_sorted_list_does(fraction: float) -> None:
    seed = 51
    print(f"seed {seed}")
    random = np.random.default_rng(seed)
    values = torch.from_numpy(random.random((4, 200), dtype=np.float32))
    counted = torch.from_numpy(random.random((4, 200)) < 0.3)
    counted[2], counted[3] = False, True
    want = []
    for row, keep in zip(values.numpy(), counted.numpy(), strict=True):
        chosen = np.sort(row[keep])
        place = min(int((1 - fraction) * len(chosen)), len(chosen) - 1)
        want.append(chosen[place] if len(chosen) else np.inf)
    for cut in (reliable_rule._cut_by_selecting, reliable_rule._cut_by_sorting):
        np.testing.assert_array_equal(cut(values, counted, fraction).numpy(), np.array(want, np.float32))


def test_at_a_fraction_of_nothing_no_class_is_mined_and_what_is_no_share_is_refused() -> None:
    image, cams = scene()
    classes = torch.tensor([0, 1])
    mined = reliable_labels(image, cams, classes, ReliableRule(fraction=0.0))
    assert set(mined.unique().tolist()) <= {0, 255}
    for fraction in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="is not a share"):
            ReliableRule(fraction=fraction)


def test_the_first_of_equal_planes_wins() -> None:
    planes = torch.tensor([[1.0, 1.0, 0.0], [1.0, 2.0, 0.0], [1.0, 2.0, 3.0]])[None, :, :, None]
    assert reliable_rule.first_largest(planes).flatten().tolist() == [0, 1, 2]
    assert torch.equal(reliable_rule.first_largest(planes).long(), planes.argmax(1))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_gpu_mines_what_the_cpu_mines() -> None:
    image, cams = scene()
    tags = torch.ones(1, 2, dtype=torch.bool)
    want = reliable_labels_batch(image[None], cams[None], tags)
    mined = reliable_labels_batch(image[None].cuda(), cams[None].cuda(), tags).cpu()
    assert (mined == want).float().mean() > 0.99
