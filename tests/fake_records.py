"""Made-up records for the tests of the store, the report and the gate."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from wsssbench.identity import Record, RowIdentity, StepIdentity, Terms, content_key, plain

CLASSES = ("ring", "stripe")


def fake_terms(**changes: Any) -> Terms:
    """Terms of `seg` on a generated data set, with `changes`."""
    fields: dict[str, Any] = {
        "stage": "seg", "stage_version": "1", "custom": False, "dataset": "shapes", "dataset_version": "1",
        "dataset_options": {"size": 96}, "classes": CLASSES, "split": "val", "split_fingerprint": "",
        "tags_at_evaluation": False, "threshold_policy": "fixed", "crf": None, "scales": (1.0,),
        "flip": False, "resolution": "image", "limit": None, "judged": "seg",
        "threshold_rule": "1",
    }  # fmt: skip
    return Terms(**{**fields, **changes})


def fake_record(
    method: str = "cam",
    seed: int = 0,
    miou: float | None = 60.0,
    *,
    terms: Terms | None = None,
    config: dict[str, Any] | None = None,
    reason: str = "",
    scores: dict[str, Any] | None = None,
    **identity: Any,
) -> Record:
    """A record of one cell; `reason` makes it a failure."""
    step = StepIdentity(method, "1", {"backbone": "small", **(config or {})})
    fields: dict[str, Any] = {
        "terms": terms or fake_terms(), "recipe": (step,), "supervision": ("tags",),
        "fit_fingerprint": f"fit{seed}", "threshold": {"value": 0.3, "ids": []}, "seed": seed, "batch": 16,
        "precision": "fp32", "filter_backend": "lattice",
    }  # fmt: skip
    row = RowIdentity(**{**fields, **identity})
    iou = {
        "miou": miou, "miou_foreground": 50.0, "precision": 71.0, "recall": 72.0, "coverage": 100.0,
        "pixel_accuracy": 90.0, "per_class": [80.0, miou, None], "left_out": [2], "n_images": 40,
        **(scores or {}),
    }  # fmt: skip
    return Record(
        key=content_key(row),
        status="failed" if reason else "ok",
        method=method,
        identity=row,
        scores={} if reason else {"iou": iou},
        timing={"train_images_per_s": 100.0 + seed, "predict_images_per_s": 500.0},
        provenance={"cards": {method: {"pretraining": "imagenet"}}},
        reason=reason,
    )


def stored_content(folder: Path, **changes: Any) -> Path:
    """A record whose plain content has `changes`, by dotted path with "/" between keys."""
    content = plain(fake_record())
    for place, value in changes.items():
        *above, last = place.split("/")
        table = content
        for key in above:
            table = table[key]
        table[last] = value
    path = folder / "shapes" / "cam" / "seed0" / "seg-val-12345678" / "record.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content).replace("Infinity", "1e999"))
    return path
