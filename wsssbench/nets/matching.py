"""Which tensors of a weight file are a backbone's: found by the names and shapes of all of them, whatever
stands before the names. Every tensor that a method uses comes from the file, or the error says which do not.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor, nn

from wsssbench.errors import BadData, printable
from wsssbench.nets.weights import read_state_dict

COUNTERS = "num_batches_tracked"  # of BatchNorm, which old files lack
USUAL = re.compile(r"(state_dict\.)?(module\.)?")  # before names, where nothing needs to be said of it
LETTERS = re.compile(r"(?:arg:|aux:)?([^\d.]*)")  # of a name, up to the first number
MOST_PREFIXES = 16  # that are looked at; a file with more such networks is none of a backbone
KEEP = (
    "import sys, torch; from wsssbench.nets.weights import read_state_dict as r; "
    'torch.save({{k: v for k, v in r({path}).items() if k.startswith(sys.argv[1])}}, "chosen.pth")'
)


@dataclass(frozen=True)
class Fit:
    """How the tensors of a file match a backbone. `names`: the network's key -> the file's, of what can be
    taken over; the lists hold the file's names, without the prefix but for `unused`."""

    prefix: str  # before the backbone's names in the file, such as "module." or "teacher.backbone."
    names: dict[str, str]
    matched: int  # tensors of the right name, shape and kind of numbers
    missing: list[str]
    unexpected: list[str]  # within the backbone; what lies beside it is `unused`
    reshaped: list[str]  # of another shape
    absent: list[str]  # of the classifier that the backbone was pretrained with: not needed
    unused: list[str]  # whole names of everything else in the file
    rivals: tuple[str, ...] = ()  # the prefixes of all that fit alike, where there are several

    @property
    def misfits(self) -> int:
        return len(self.missing) + len(self.unexpected) + len(self.reshaped)

    @property
    def usable(self) -> bool:
        """Whether it fits, and nothing else in the file does."""
        return not self.misfits and not self.rivals

    def __str__(self) -> str:
        """ "2 keys missing (a, b), 1 unexpected (c)"."""
        if self.rivals:
            return f"the file holds {len(self.rivals)} networks that fit ({', '.join(self.rivals)})"
        found = {
            "keys missing": self.missing,
            "unexpected": self.unexpected,
            "of another shape or type": self.reshaped,
        }
        said = ", ".join(f"{len(keys)} {what} ({few(keys)})" for what, keys in found.items() if keys)
        return f"{said}, of names that begin with {self.prefix}" if self.prefix else said

    @property
    def remark(self) -> str:
        """What is worth a line where the file is more or less than the network; often empty."""
        unusual = not USUAL.fullmatch(self.prefix)
        return "; ".join(
            [f"names begin with {self.prefix}"] * unusual
            + [f"{few(self.absent)} absent or of another shape or type, and not needed"] * bool(self.absent)
            + [f"{len(self.unused)} more not used ({few(self.unused)})"] * bool(self.unused)
        )


def fit(net: nn.Module, state: Mapping[str, Tensor], classifier: str = "") -> Fit:
    """The part of `state` that is `net`'s, wherever in the file: the one that fits, else the nearest.

    A network may know files with other names by `file_layouts` (functions from its own keys to the file's),
    and what such files hold beside it by `besides`. Its keys that begin with `classifier`, if given, need not
    be in the file. Old files lack BatchNorm's counters of batches.
    """
    own = net.state_dict()
    layouts = (str, *getattr(net, "file_layouts", ()))
    found = []
    for table in ({key: layout(key) for key in own} for layout in layouts):
        needed = {n for k, n in table.items() if not (classifier and k.startswith(classifier))}
        counters = sum(name.endswith(COUNTERS) for name in needed)
        for prefix in _prefixes(state, needed, len(needed) - counters):
            found.append(_fit_at(prefix, own, table, needed, getattr(net, "besides", frozenset()), state))
    fitting = [one for one in found if not one.misfits]
    if len(fitting) > 1:
        return replace(fitting[0], rivals=tuple(one.prefix or "no prefix" for one in fitting))
    return max(fitting or found, key=lambda one: (one.matched, -one.misfits))


def _prefixes(names: Iterable[str], needed: set[str], enough: int) -> list[str]:
    """What stands before the `needed` names wherever `enough` of them are, else where most are."""
    found, longest = Counter({"": 0}), max(map(len, needed))
    for name in names:
        first = max(0, len(name) - longest - 1)
        starts = [0, *(first + dot.end() for dot in re.finditer(r"\.", name[first:]))]
        found.update(name[:start] for start in starts if name[start:] in needed)
    whole = [prefix for prefix, count in found.items() if count >= enough]
    return whole[:MOST_PREFIXES] or [found.most_common(1)[0][0]]


def _fit_at(
    prefix: str,
    own: Mapping[str, Tensor],
    table: Mapping[str, str],
    needed: set[str],
    besides: Iterable[str],
    state: Mapping[str, Tensor],
) -> Fit:
    """The fit of what has names with `prefix`; `table`: the network's key -> the file's name."""
    under = beneath(state, prefix)
    same = {k for k, n in table.items() if n in under and _alike(own[k], under[n])}
    body, known = set(map(_module, needed)), {*table.values(), *besides}
    unexpected = [n for n in under if n not in known and _module(n) in body]
    said = {prefix + n for n in (*known, *unexpected)}
    return Fit(
        prefix,
        names={k: prefix + table[k] for k in table if k in same},
        matched=len(same),
        missing=[n for n in table.values() if n in needed - under.keys() and not n.endswith(COUNTERS)],
        unexpected=unexpected,
        reshaped=[n for k, n in table.items() if n in needed and n in under and k not in same],
        absent=[n for k, n in table.items() if n not in needed and k not in same],
        unused=[name for name in state if name not in said],
    )


def _alike(own: Tensor, other: Tensor) -> bool:
    return own.shape == other.shape and own.is_floating_point() == other.is_floating_point()


def beneath(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """What of `state` has names with `prefix`, by the rest of them."""
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}


def _module(name: str) -> str:
    """The kind of the outermost module of a name: "layer" of "layer4.0.conv1.weight", "bn" of MXNet's
    "arg:bn2a_branch2a_gamma"."""
    return LETTERS.match(name)[1]  # type: ignore[index]


def checked_fit(
    net: nn.Module, state: Mapping[str, Tensor], path: str | Path, name: str, classifier: str = ""
) -> Fit:
    """The fit of `state` to `net`; raises BadData with what is missing, unexpected or misshapen, or with the
    places of several that fit."""
    found = fit(net, state, classifier)
    if found.rivals:
        raise BadData(f"{found}, and nothing says which is meant", where=path, hint=choice(path))
    if found.misfits:
        raise BadData(
            f"these weights do not fit {name}: {found}",
            where=path,
            hint="name the backbone that the file was saved from; `wsssbench weights inspect FILE` tells",
        )
    return found


def choice(path: str | Path) -> str:
    """How to choose one of the rivals of a fit: by its prefix."""
    code = shlex.quote(KEEP.format(path=json.dumps(str(path))))
    return (
        "keep the one you mean in a file of its own, by its PREFIX (the codes of MoCo go on with encoder_q, "
        f"those of DINO with the teacher): python -c {code} PREFIX"
    )


def fill(net: nn.Module, state: Mapping[str, Tensor], names: Mapping[str, str]) -> None:
    """Copy into `net` what `state` holds; `names`: the network's key -> the file's."""
    net.load_state_dict({k: state[n] for k, n in names.items() if n in state}, strict=False)


def load_backbone_weights(
    net: nn.Module, path: str | Path, *, name: str, folded: bool, classifier: str = ""
) -> None:
    """Fill `net` from the file, strictly but for the `classifier` that no method uses; a folded file fits a
    folded backbone only. A file that is more or less than the network is described in a line on stderr."""
    state = read_state_dict(path)
    found = checked_fit(net, state, path, name, classifier)
    if is_folded(taken(found, state)) != folded:
        other = name.removesuffix("_folded") if folded else f"{name}_folded"
        known = name.startswith("mobilenet_v2")
        raise BadData(
            f"BatchNorm is {'not ' if folded else ''}folded in this file, so its pixel range is another",
            where=path,
            hint=f"use backbone {other}" if known else "give the weights of a network that has been trained",
        )
    fill(net, state, found.names)
    tell(found, path, name)


def tell(found: Fit, path: str | Path, name: str) -> None:
    """A line on stderr where the file is more or less than the network."""
    if found.remark and os.environ.get("RANK", "0") == "0":  # of torchrun's processes the first says it
        print(printable(f"weights of {name} from {path}: {found.remark}"), file=sys.stderr, flush=True)


def taken(found: Fit, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What a fit takes over, by the network's keys."""
    return {key: state[name] for key, name in found.names.items()}


def is_folded(state: Mapping[str, Tensor]) -> bool:
    """Whether every BatchNorm in `state` is the identity (running mean 0, variance 1)."""
    means = [v for k, v in state.items() if k.endswith(("running_mean", "moving_mean"))]
    variances = [v for k, v in state.items() if k.endswith(("running_var", "moving_var"))]
    near_one = all(bool(((v.float() - 1).abs() < 1e-3).all()) for v in variances)
    return bool(means) and near_one and all(not m.float().any() for m in means)


def few(names: list[str]) -> str:
    """The first three of `names`."""
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
