"""What the field's own evaluators print for the same files, to the last printed digit.

The numbers of the VOC devkit that stand here were printed by its VOCevalseg.m (2012) in GNU Octave 7.3.0 for
the tree that `devkit_tree` draws; those of MMSegmentation by IoUMetric of onedl-mmsegmentation 1.4.2. The
slow tests compute them again: the devkit's arithmetic in Octave, the metric itself where it is installed.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image as Pil

from wsssbench.cli.main import main
from wsssbench.metrics import Iou, confusion_counts
from wsssbench.scores.compatible import Compatible

IDS = tuple(f"2009_{n:06d}" for n in range(6))
PALETTE = [(37 * i + 11 * c) % 256 for i in range(256) for c in range(3)]  # the devkit reads indices


def truth(n: int) -> np.ndarray:
    """(H, W) uint8 of image `n`: blocks of all 21 labels with rings of void. Integers alone draw it."""
    y, x = np.mgrid[: 60 + 3 * n, : 75 + 2 * n]
    labels = (y // 12 * 7 + x // 10 + 5 * n) % 21
    return np.where((y % 12 == 0) | (x % 10 == 0), 255, labels).astype(np.uint8)


def predicted(n: int) -> np.ndarray:
    """The blocks moved by a few pixels, with scattered errors, and a label at every pixel."""
    y, x = np.mgrid[: 60 + 3 * n, : 75 + 2 * n]
    labels = ((y + 2) // 12 * 7 + (x + 3) // 10 + 5 * n) % 21
    return np.where((3 * y + 5 * x + n) % 11 == 0, (4 * labels + 1) % 21, labels).astype(np.uint8)


def without(label: int, labels: np.ndarray) -> np.ndarray:
    """`labels` in which background stands for `label`."""
    return np.where(labels == label, 0, labels).astype(np.uint8)


def silent_in_void(n: int) -> np.ndarray:
    return np.where(truth(n) == 255, 255, predicted(n)).astype(np.uint8)


# name -> (truth, result pictures): what the devkit is asked about
VARIANTS: dict[str, tuple[Any, Any]] = {
    "plain": (truth, predicted),
    "predicted only": (lambda n: without(10, truth(n)), predicted),
    "nowhere": (lambda n: without(10, truth(n)), lambda n: without(10, predicted(n))),
    "void silent": (truth, silent_in_void),
}
DEVKIT = (  # IoU in % of background and the 20 classes, "plain"
    33.8824821527,
    34.6666666667,
    32.2053675613,
    34.8351648352,
    33.8102808691,
    35.9653591442,
    34.8813209494,
    34.5603271984,
    34.6391752577,
    32.5369738339,
    35.9069275516,
    34.5273631841,
    36.7575462512,
    34.7604485219,
    33.9046598822,
    34.4244408074,
    31.9362455726,
    35.3585112206,
    33.5084033613,
    35.3096876654,
    33.8226990401,
)
MEANS = {"plain": 34.3904786441, "predicted only": 32.0064621791, "nowhere": None}
BACKGROUND = {"plain": DEVKIT[0], "predicted only": 19.7250639386, "nowhere": 34.9137931034}


def printed(name: str) -> tuple[str, list[str]]:
    """What VOCevalseg gives for a variant: its mean, and the IoU of each class."""
    tenth = {"plain": DEVKIT[10], "predicted only": 0.0, "nowhere": None}[name]
    return digits(MEANS[name]), list(map(digits, (BACKGROUND[name], *DEVKIT[1:10], tenth, *DEVKIT[11:])))


def digits(value: float | None) -> str:
    return "NaN" if value is None else f"{value:.10f}"


@pytest.fixture
def devkit_tree(voc_tree: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A VOC tree whose val split is IDS; `devkit_tree(name)` writes a variant, and returns its results."""
    monkeypatch.chdir(tmp_path)
    voc_tree.list_file("val").write_text("".join(f"{id}\n" for id in IDS))
    voc_tree.classes.update(dict.fromkeys(IDS, (0,)))
    voc_tree.write_labels(voc_tree.table())
    Path("wsssbench.toml").write_text(f"[datasets.voc12]\nroot = {json.dumps(str(voc_tree.root))}\n")

    def written(name: str, mode: str = "P") -> Path:
        results = Path(f"results-{name}-{mode}".replace(" ", "-"))
        results.mkdir()
        for n, id in enumerate(IDS):
            gold, said = (drawn(n) for drawn in VARIANTS[name])
            Pil.fromarray(np.zeros((*gold.shape, 3), np.uint8)).save(voc_tree.image(id))
            for path, labels in ((voc_tree.mask(id), gold), (results / f"{id}.png", said)):
                picture = Pil.fromarray(labels)
                if mode == "P":
                    picture.putpalette(PALETTE)
                picture.save(path)
        return results

    written.voc = voc_tree  # type: ignore[attr-defined]
    return written


def score(results: Path) -> dict[str, Any]:
    """The scores of `wsssbench score`, stage seg of voc12."""
    asked = ["score", str(results), "--dataset", "voc12", "--as", "x", "--metrics", "compatible", "--json"]
    done = CliRunner().invoke(main, asked, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return dict(json.loads(done.stdout)["scores"])


@pytest.mark.parametrize("name", MEANS)
def test_the_product_and_the_devkit_agree_to_every_printed_digit(name: str, devkit_tree: Any) -> None:
    scores = score(devkit_tree(name))
    mean, classes = printed(name)
    theirs = scores["compatible"]
    assert (digits(theirs["voc-devkit_miou"]), [digits(v) for v in theirs["voc-devkit_per_class"]]) == (
        mean,
        classes,
    )
    ours = [digits(value) for value in scores["iou"]["per_class"]]
    left_out = [] if name == "plain" else [10]
    assert scores["iou"]["left_out"] == left_out
    assert [v for k, v in enumerate(ours) if k not in left_out] == [
        v for k, v in enumerate(classes) if k not in left_out
    ]
    if name == "plain":
        assert digits(scores["iou"]["miou"]) == mean


def test_grey_pictures_give_the_devkits_number_too(devkit_tree: Any) -> None:
    assert digits(score(devkit_tree("plain", "L"))["iou"]["miou"]) == digits(MEANS["plain"])


def test_labels_that_are_silent_where_the_truth_is_void_stop_the_devkit_alone(devkit_tree: Any) -> None:
    scores = score(devkit_tree("void silent"))
    assert digits(scores["iou"]["miou"]) == digits(MEANS["plain"])
    theirs = scores["compatible"]
    assert theirs["voc-devkit_miou"] is theirs["voc-devkit_per_class"] is None
    assert "out of range value 255" in theirs["voc-devkit_note"]
    assert digits(theirs["mmseg_miou"]) == digits(MEANS["plain"])


OCTAVE = """
[ids, ~] = textread('two.txt', '%s %d');
seen = zeros(21);
for k = 1:numel(ids)
  gold = double(imread(fullfile('gold', [ids{k} '.png'])));
  said = double(imread(fullfile('said', [ids{k} '.png'])));
  if max(said(:)) > 20, printf('refused %d', max(said(:))); exit; end
  valid = gold < 255;
  seen += accumarray([gold(valid), said(valid)] + 1, 1, [21 21]);
end
iou = 100 * diag(seen) ./ (sum(seen, 2) + sum(seen, 1)' - diag(seen));
printf('%.10f ', mean(iou), iou);
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", VARIANTS)
def test_the_devkits_arithmetic_in_octave_gives_the_numbers_of_this_file(
    name: str, devkit_tree: Any, tmp_path: Path
) -> None:
    octave = shutil.which("octave-cli") or shutil.which("octave")
    if octave is None:
        pytest.skip("GNU Octave is not installed")
    shutil.move(devkit_tree(name), "said")
    shutil.move(devkit_tree.voc.mask(IDS[0]).parent, "gold")
    Path("two.txt").write_text("".join(f"{id} 1\n" for id in IDS))
    Path("devkit.m").write_text(OCTAVE)
    done = subprocess.run([octave, "--no-init-file", "devkit.m"], capture_output=True, text=True)
    wanted = "refused 255" if name == "void silent" else " ".join([printed(name)[0], *printed(name)[1]])
    assert done.stdout.strip() == wanted, done.stderr


# -------------------------------------------------------------------------------- cases of a peer's reading


def image_of(pixels: list[tuple[int, int, int]], width: int) -> tuple[np.ndarray, np.ndarray]:
    """(truth, prediction) of pixels given as (truth, prediction, how many)."""
    gold, said = (np.repeat([one[side] for one in pixels], [one[2] for one in pixels]) for side in (0, 1))
    return gold.reshape(-1, width).astype(np.uint8), said.reshape(-1, width).astype(np.uint8)


B = [(0, 0, 182), (0, 1, 10), (0, 255, 8), (3, 3, 132), (3, 255, 12), (3, 0, 16), (255, 0, 40)]
C = [(gold, 0 if said == 255 else said, pixels) for gold, said, pixels in B]
CASES: dict[str, tuple[list[tuple[int, int, int]], int, int]] = {  # pixels, width, foreground classes
    "a": ([(0, 0, 150), (0, 1, 10), (0, 255, 20), (255, 0, 20)], 20, 2),
    "b": (B, 20, 3),
    "c": (C, 20, 3),
    "d": ([(gold, 3 if said == 1 else said, pixels) for gold, said, pixels in C], 20, 3),
}
PEERS = {  # as these evaluators print them; None: NaN, or an error
    "ours": (83.3333, 83.3796, 82.9167, 80.4902),
    "chainercv": (27.7778, 41.6898, 55.2778, 80.4902),
    "mmseg": (41.67, 55.59, 55.28, 80.49),
    "voc-devkit": (None, None, None, None),
}


@pytest.mark.parametrize("case", CASES)
def test_each_evaluator_prints_its_own_number_for_a_class_without_truth(case: str) -> None:
    pixels, width, classes = CASES[case]
    gold, said = image_of(pixels, width)
    counts = confusion_counts(gold, said, classes)
    found = Compatible().score(counts, classes)
    assert found["ours"] == Iou().score(counts, classes)["miou"]
    for name, numbers in PEERS.items():
        wanted = numbers["abcd".index(case)]
        got = found["ours" if name == "ours" else f"{name}_miou"]
        assert got == (None if wanted is None else pytest.approx(wanted, abs=0.005)), name
    refused = case in "ab"
    assert ("stops" if refused else "NaN: labels") in found["voc-devkit_note"]
    assert (found["voc-devkit_per_class"] is None) == refused
    assert (found["mmseg_note"] != "") == (case != "d")


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_iou_metric_of_mmsegmentation_prints_what_stands_here(case: str) -> None:
    module = pytest.importorskip("mmseg.evaluation.metrics.iou_metric", reason="mmseg is not installed")
    import torch

    pixels, width, classes = CASES[case]
    gold, said = (torch.from_numpy(side.astype(np.int64)) for side in image_of(pixels, width))
    metric = module.IoUMetric()
    metric.dataset_meta = {"classes": [str(k) for k in range(classes + 1)]}
    metric.process({}, [{"pred_sem_seg": {"data": said}, "gt_sem_seg": {"data": gold}}])
    assert metric.compute_metrics(metric.results)["mIoU"] == pytest.approx(PEERS["mmseg"]["abcd".index(case)])
    counts = confusion_counts(*image_of(pixels, width), classes)
    mine = Compatible().score(counts, classes)["mmseg_per_class"]
    theirs = metric.intersect_and_union(said, gold, classes + 1, 255)
    iou = (100 * theirs[0].double() / theirs[1].double()).tolist()
    assert [np.nan if v is None else v for v in mine] == pytest.approx(iou, nan_ok=True)
