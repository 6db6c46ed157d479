"""`wsssbench weights`: what a weight file is and what it fits; weights by name are fetched."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from wsssbench.errors import WsssError, printable
from wsssbench.files.digests import file_digest
from wsssbench.nets.fetching import TORCHVISION, fetched_file, is_remote
from wsssbench.nets.inspection import PURPOSES, WeightReport, inspect_weights
from wsssbench.nets.matching import Fit, choice
from wsssbench.nets.pretrained import weights_file
from wsssbench.nets.timm_nets import PREFIX

FORMATS = {"torch": "torch checkpoint", "safetensors": "safetensors", "mxnet": "MXNet NDArray list"}
FEW = 5  # names of keys per line


def inspect_command(file: Path, as_json: bool) -> None:
    """Print the report of `file`, or of the file of weights called so, which is not fetched for this; raises
    BadData for a file that cannot be read."""
    file = Path(weights_file(str(file), offline=True))
    report = inspect_weights(file)
    click.echo(json.dumps(as_plain(report), indent=2) if as_json else as_text(report, file))


def fetch_command(name: str, backbone: str) -> None:
    """Print the file of the weights `name`, fetched where it is not in the cache, and its sha256.

    WsssError for what is no name of weights that are fetched, and as `fetched_file` raises.
    """
    if not is_remote(name):
        hint = f"write {PREFIX}NETWORK.TAG, or {TORCHVISION}TAG with --backbone"
        raise WsssError("these are no weights that can be fetched", where=name, hint=hint)
    path = fetched_file(name, backbone)
    click.echo(f"{path}\nsha256 {file_digest(path)}")


def as_plain(report: WeightReport) -> dict[str, object]:
    """The report for JSON; of the backbones that do not fit, the nearest in full."""
    apart = ("fit", "misfits", "classifier", "segmentation")
    plain = {k: v for k, v in asdict(report).items() if k not in apart}
    fit, near = report.fit, report.misfits.get(report.nearest)
    keys = ("prefix", "missing", "unexpected", "reshaped", "rivals")
    return plain | {
        "found": fit and {key: getattr(fit, key) for key in ("prefix", "absent", "unused")},
        "nearest_misfit": near and {"backbone": report.nearest} | {key: getattr(near, key) for key in keys},
        "classifier": _plain_head(report.classifier),
        "segmentation": _plain_head(report.segmentation),
    }


def as_text(report: WeightReport, file: Path) -> str:
    """One line a fact; the nearest misfit is shown only where nothing fits."""
    dtypes = ", ".join(f"{count} {name}" for name, count in report.dtypes.items())
    facts = [
        ("format", FORMATS[report.format]),
        ("size", f"{report.bytes:,} bytes"),
        ("sha256", report.sha256),
        ("tensors", f"{report.tensors} ({dtypes or 'none'})"),
        ("parameters", f"{report.parameters:,}"),
        ("BatchNorm", report.batchnorm),
        ("fits backbone", ", ".join(report.fits) or "none"),
        ("classifier", _head_text(report.classifier)),
        ("segmentation", _head_text(report.segmentation)),
    ]
    if report.fit:
        facts += _found_facts(report.fit)
    elif report.nearest:
        facts += _misfit_facts(report.nearest, report.misfits[report.nearest], file)
    return printable("\n".join(f"{name:<14} {value}" for name, value in facts))


def _found_facts(fit: Fit) -> list[tuple[str, str]]:
    sides = (
        ("not needed", fit.absent, "absent or of another shape or type"),
        ("not used", fit.unused, "beside it"),
    )
    return [
        *([("names begin", fit.prefix)] if fit.prefix else []),
        *((name, f"{len(keys)} {what}: {_few(keys)}") for name, keys, what in sides if keys),
    ]


def _misfit_facts(name: str, near: Fit, file: Path) -> list[tuple[str, str]]:
    if near.rivals:
        return [
            ("undecided", f"{len(near.rivals)} networks in it fit {name}: {', '.join(near.rivals)}"),
            ("  next", choice(file)),
        ]
    if not near.misfits:
        return [("nearest", f"{name}: every key fits; BatchNorm is folded, or was never trained")]
    sides = (
        ("missing", near.missing),
        ("unexpected", near.unexpected),
        ("other shape or type", near.reshaped),
    )
    return [
        ("nearest", f"{name}, {near.misfits} keys do not fit"),
        *([("  names begin", near.prefix)] if near.prefix else []),
        *((f"  {name}", f"{len(keys)}: {_few(keys)}") for name, keys in sides if keys),
    ]


def _few(names: list[str]) -> str:
    return ", ".join(names[:FEW]) + (", ..." if len(names) > FEW else "")


def _head_text(head: tuple[str, int] | None) -> str:
    if head is None:
        return "none"
    name, outputs = head
    purpose = f" ({PURPOSES[outputs]})" if outputs in PURPOSES else ""
    return f"{name}, {outputs} outputs{purpose}"


def _plain_head(head: tuple[str, int] | None) -> dict[str, object] | None:
    return head and {"weight": head[0], "outputs": head[1]}
