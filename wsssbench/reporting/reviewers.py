"""What a reviewer needs to make numbers again and to see that nothing was exchanged: commands and hashes.

From records alone. Absolute paths are cut to their last name: they mean nothing elsewhere, and a submission
may be anonymous.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from wsssbench.identity import Record, plain
from wsssbench.plugins.table import dataset_plugin

PATH = re.compile(r"(?<![^=:,\s\[\"'])(?:~|/|[A-Za-z]:[\\/])[^,\s\]\"']*")  # begins a word, or follows = : ,
COMMANDS_HEAD = """\
# How each record was made. Lines that begin with # say which records; the others are commands.
# Absolute paths are cut to their last name: put your own folder before them. A command without --config also
# reads ./wsssbench.toml, if there is one.
"""
HASHES_HEAD = """\
# record: what identifies it (a hash of all that could change its numbers), then what it was made with.
"""


def commands_text(records: Sequence[Record]) -> str:
    """Every command once, with the records that it made; built from the identity where none was kept."""
    found: dict[str, list[Record]] = {}
    for record in records:
        found.setdefault(_command(record), []).append(record)
    parts = []
    for command, made in found.items():
        titles = "\n".join(f"# {_title(record)}" for record in made)
        parts.append(f"{titles}\n{command}\n")
    return "\n".join([COMMANDS_HEAD, *parts])


def _title(record: Record) -> str:
    terms = record.identity.terms
    return (
        f"{record.key[:8]} {record.method} seed {record.identity.seed} {terms.stage} on "
        f"{terms.dataset}:{terms.split}"
    )


def _command(record: Record) -> str:
    given = record.provenance.get("command")
    if isinstance(given, Sequence) and not isinstance(given, str) and len(given) > 1:
        return shlex.join(without_folders(str(word)) for word in given)
    return "# no command was kept; this one is built from the record\n" + shlex.join(built_command(record))


def without_folders(word: str) -> str:
    """`word` with absolute paths cut: "cam=/data/w.pth" becomes "cam=w.pth"."""
    return PATH.sub(lambda found: re.split(r"[\\/]", found[0].rstrip("\\/"))[-1], word)


def built_command(record: Record) -> list[str]:
    """A command that asks for what the record's identity says, each option by name."""
    identity, terms = record.identity, record.identity.terms
    plugin = dataset_plugin(terms.dataset)
    head = ["--dataset", plugin]
    options = [f"{_of('datasets', plugin, record)}.{k}={_toml(v)}" for k, v in terms.dataset_options.items()]
    tail = ["--limit", str(terms.limit)] if terms.limit is not None else []
    if identity.recipe[0].name.startswith("import:"):
        known = ["--stage", terms.stage, "--as", record.method, "--seed", str(identity.seed)]
        value = (identity.threshold or {}).get("value")
        known += ["--threshold", f"{value:g}"] if value is not None else []
        known += ["--supervision", ",".join(identity.supervision)] if identity.supervision else []
        return ["wsssbench", "score", "FOLDER", *head, *known, *_each("-o", options), *tail]
    steps = " > ".join(step.name for step in identity.recipe)
    for step in identity.recipe:
        options += [
            f"{_of('steps', step.name, record)}.{k}={_toml(v)}"
            for k, v in plain(step.config).items()
            if v != ""
        ]
    asked = ["--method", steps, *head, "--seeds", str(identity.seed), "--stages", terms.stage]
    asked += ["--threshold-policy", terms.threshold_policy] if terms.threshold_policy in CHOSEN else []
    asked += ["--precision", identity.precision, "--filter", identity.filter_backend]
    return ["wsssbench", "run", *asked, *_each("-o", options), *tail]


CHOSEN = ("held-out", "label-free", "oracle")


def _of(group: str, name: str, record: Record) -> str:
    """The name that -o takes: with its group where a step and the data set are called alike."""
    plugin = dataset_plugin(record.identity.terms.dataset)
    both = name == plugin and any(s.name == name for s in record.identity.recipe)
    return f"{group}.{name}" if both else name


def _toml(value: Any) -> str:
    """A value as -o reads it; a file stands as its sha256, which is to be replaced by the file."""
    if isinstance(value, Mapping):
        return (
            f"<file with sha256 {value['sha256']}>" if set(value) == {"sha256"} else json.dumps(plain(value))
        )
    return value if isinstance(value, str) else json.dumps(plain(value))


def _each(flag: str, values: Sequence[str]) -> list[str]:
    return [word for value in values for word in (flag, value)]


# -------------------------------------------------------------------------------------------------- hashes


def hashes_text(records: Sequence[Record]) -> str:
    """Keys, fingerprints, weights, code and versions; what many records share is said once."""
    parts = [HASHES_HEAD]
    for record in records:
        parts.append("\n".join([f"record {record.key}", *(f"  {line}" for line in _facts(record))]) + "\n")
    groups: dict[str, list[str]] = {}
    for record in records:
        groups.setdefault(json.dumps(_made_with(record), sort_keys=True), []).append(record.key[:8])
    for known, keys in groups.items():
        lines = [f"  {name}: {value}" for name, value in json.loads(known).items()]
        parts.append("\n".join([f"made with ({', '.join(keys)})", *lines]) + "\n")
    return "\n".join(parts)


def _facts(record: Record) -> list[str]:
    identity, terms = record.identity, record.identity.terms
    lines = [f"cell: {_title(record)[9:]}"]
    lines += [f"step {s.name}: version {s.version}" for s in identity.recipe]
    lines += [
        f"code of {name}: sha256 {digest}"
        for part in ("code", "judged_by")
        for name, digest in record.provenance.get(part, {}).items()
    ]
    lines += [
        f"{name}: sha256 {digest}"
        for step in identity.recipe
        for name, digest in _files(step.name, step.config)
    ]
    known = {"judged split": terms.split_fingerprint, "split learned from": identity.fit_fingerprint}
    lines += [f"{name}: sha256 {digest}" for name, digest in known.items() if digest]
    files = record.provenance.get("hashes") or {}  # `wsssbench verify` compares them
    lines += [f"{name}: sha256 {digest}" for name, digest in files.items()]
    labels = record.provenance.get("labels", {}).get("sha256")
    return [*lines, f"labels: sha256 {labels}"] if labels else lines


def _files(name: str, value: Any) -> list[tuple[str, str]]:
    """Every {"sha256": ...} below `value`, by its path of names."""
    if isinstance(value, Mapping):
        if set(value) == {"sha256"}:
            return [(name, str(value["sha256"]))]
        return [pair for key, below in value.items() for pair in _files(f"{name}.{key}", below)]
    if isinstance(value, (list, tuple)):
        return [pair for n, below in enumerate(value) for pair in _files(f"{name}[{n}]", below)]
    return []


def _made_with(record: Record) -> dict[str, Any]:
    known = dict(record.provenance.get("versions", {}))
    known |= {"commit": record.provenance["commit"]} if record.provenance.get("commit") else {}
    known |= {f"hardware {k}": v for k, v in record.provenance.get("hardware", {}).items()}
    return {**known, "precision": record.identity.precision, "filters": record.identity.filter_backend}
