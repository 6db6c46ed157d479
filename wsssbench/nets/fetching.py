"""Weights that a user asks for by name and that lie on a server: those of timm and of torchvision.

Their own loaders fetch them (`torch.hub`, or `huggingface_hub` as timm does) into their own caches, which
TORCH_HOME and HF_HOME move. A file of the cache is taken as it is, and nothing is asked of the server.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlparse

import torch.hub
from filelock import FileLock

from wsssbench.errors import BadData, UnknownName, WsssError, nearest, printable
from wsssbench.files.digests import file_digest
from wsssbench.nets.backbones import BACKBONES
from wsssbench.nets.timm_nets import PREFIX as TIMM
from wsssbench.nets.timm_nets import nearest_of_timm, timm_package

TORCHVISION = "torchvision:"
HUB_FILES = ("model.safetensors", "pytorch_model.bin")  # in the order in which timm looks for them
SHA256_DIGITS = 64
OF_THE_DISK = (errno.EACCES, errno.EDQUOT, errno.ENOSPC, errno.EPERM, errno.EROFS)
YES = ("1", "ON", "TRUE", "YES")  # as huggingface_hub reads its switches
LOCK = ".wsssbench.lock"


@dataclass(frozen=True)
class Remote:
    """A file of weights on a server, and its place in the cache of the loader that fetches it."""

    name: str  # of the weights, for errors: with the backbone where the name alone does not say it
    origin: str  # its address
    cache: Path  # the folder of the loader's cache
    moved_by: str  # the variable of the environment that moves the cache
    cached: Callable[[], Path | None]  # the file, if it is in the cache
    fetch: Callable[[], Path]  # fetches it; raises whatever the loader raises
    digits: Callable[[Path], str]  # what its sha256 begins with; "" where the cache cannot tell


def is_remote(weights: str) -> bool:
    """Whether these are weights that are fetched, and no file."""
    return weights.startswith((TIMM, TORCHVISION))


def fetched_file(weights: str, backbone: str = "", *, offline: bool = False) -> Path:
    """The file of `timm:NAME` or, for a `backbone` of torchvision, `torchvision:TAG`.

    What is not in the cache is fetched, and a line on stderr says from where. Raises UnknownName for a name
    that the package does not know; WsssError where the file is not in the cache and `offline` (or
    HF_HUB_OFFLINE=1), where it cannot be fetched, and where a package is missing; BadData for a file whose
    sha256 is another one.
    """
    remote = remote_of(weights, backbone)
    path = remote.cached()
    if path is None:
        if offline or os.environ.get("HF_HUB_OFFLINE", "").upper() in YES:
            raise _not_cached(remote, weights, backbone)
        path = _fetched(remote)
    if not file_digest(path).startswith(remote.digits(path)):
        what = f"the weights {remote.name} in the cache do not have the sha256 that they should have"
        raise BadData(what, where=path, hint="remove this file; the next run without --offline fetches it")
    return path


def remote_of(weights: str, backbone: str = "") -> Remote:
    """Where weights called so lie. Raises UnknownName and WsssError as `fetched_file` does."""
    if weights.startswith(TIMM):
        return _of_timm(weights.removeprefix(TIMM))
    return _of_torchvision(weights.removeprefix(TORCHVISION), backbone)


# ------------------------------------------------------------------------------------------------- fetching


def _fetched(remote: Remote) -> Path:
    """The file, fetched by one process at a time: one that has waited finds it in the cache."""
    try:
        remote.cache.mkdir(parents=True, exist_ok=True)
        with FileLock(remote.cache / LOCK):
            path = remote.cached()
            if path is None:
                print(
                    printable(f"fetching the weights {remote.name} from {remote.origin}"),
                    file=sys.stderr, flush=True,
                )  # fmt: skip
                path = remote.fetch()
                _keep_if_whole(remote, path)
    except WsssError:
        raise
    except Exception as error:  # whatever the loaders and the packages below them raise
        raise _failed(remote, error) from error
    return path


def _keep_if_whole(remote: Remote, path: Path) -> None:
    """BadData, and the file is gone from the cache, where its sha256 is another one."""
    digits, found = remote.digits(path), file_digest(path)
    if found.startswith(digits):
        return
    blob = path.resolve()
    path.unlink()
    blob.unlink(missing_ok=True)
    what = f"what came for the weights {remote.name} has the sha256 {found}, and not {digits}"
    raise BadData(what, where=remote.origin, hint="try again; a proxy or a mirror may have changed the file")


def _failed(remote: Remote, error: Exception) -> WsssError:
    """The error that says why the loader failed: on the disk, or on the way to the server."""
    if isinstance(error, HTTPError):
        error.close()  # it holds the server's answer
    why = error.__cause__ or error  # huggingface_hub speaks of its cache and has the answer below that
    said = (str(why).strip() or type(why).__name__).splitlines()[0]
    what = f"the weights {remote.name} cannot be fetched: {said}"
    if isinstance(error, OSError) and error.errno in OF_THE_DISK:
        hint = f"make room in this folder and let it be written, or name another one by {remote.moved_by}"
        return WsssError(what, where=remote.cache, hint=hint)
    hint = "check the network; or fetch this file on another machine and give it by --weights FILE"
    return WsssError(what, where=remote.origin, hint=hint)


def _not_cached(remote: Remote, weights: str, backbone: str) -> WsssError:
    more = f" --backbone {backbone}" if weights.startswith(TORCHVISION) else ""
    hint = (
        f"fetch them where there is a network: wsssbench weights fetch {weights}{more}; "
        "or run without --offline, --dry-run and HF_HUB_OFFLINE"
    )
    what = f"the weights {remote.name} are not in the cache, and nothing is fetched here"
    return WsssError(what, where=remote.cache, hint=hint)


# ---------------------------------------------------------------------------------------------- torchvision


def _of_torchvision(tag: str, backbone: str) -> Remote:
    from torchvision import models

    known = [name for name in BACKBONES if name in models.list_models()]
    name = f"{TORCHVISION}{tag}"
    if backbone not in known:
        what = f"{name} are weights of torchvision, and {backbone or 'no backbone'} is none of its networks"
        hint = f"choose a backbone of torchvision: {', '.join(known)}"
        raise WsssError(what, where="option weights", hint=hint)
    tags = models.get_model_weights(backbone).__members__
    if tag not in tags:
        hint = nearest(tag, tuple(tags))
        raise UnknownName(
            f"torchvision has no weights {tag!r} of {backbone}", where="option weights", hint=hint
        )
    return _by_address(f"{name} of {backbone}", tags[tag].url)


def _by_address(name: str, url: str) -> Remote:
    """A file that torch.hub fetches. Its name ends in the first digits of its sha256."""
    cache = Path(torch.hub.get_dir()) / "checkpoints"
    path = cache / Path(urlparse(url).path).name
    digits = _named_digits(url)
    if not digits:
        hint = "fetch it yourself, compare what its authors say of it, and give it by --weights FILE"
        raise WsssError(f"the file of the weights {name} has no checksum in its name", where=url, hint=hint)

    def fetch() -> Path:
        torch.hub.download_url_to_file(url, str(path), digits, progress=False)
        return path

    return Remote(
        name, url, cache, "TORCH_HOME", lambda: path if path.is_file() else None, fetch, lambda _: digits
    )


def _named_digits(url: str) -> str:
    """The digits of a sha256 in the name of a file, as torch.hub reads it; "" where there are none."""
    found = torch.hub.HASH_REGEX.search(Path(urlparse(url).path).name)
    return found[1] if found else ""


# ----------------------------------------------------------------------------------------------------- timm


def _of_timm(name: str) -> Remote:
    """Where timm would load these weights from; its file at an address where huggingface_hub is missing."""
    asked = f"{TIMM}{name}"
    timm = timm_package(f"weights {asked}")
    _check_known(timm, name)
    told = timm.models.get_pretrained_cfg(name)
    if told.hf_hub_id and find_spec("huggingface_hub") is not None:
        return _by_hub(asked, told.hf_hub_id, told.hf_hub_filename)
    if told.hf_hub_id and not (told.url and _named_digits(told.url)):
        what = "these weights are fetched by the package huggingface_hub, which is not installed"
        raise WsssError(what, where=f"weights {asked}", hint="pip install huggingface_hub")
    return _by_address(asked, told.url)


def _check_known(timm: Any, name: str) -> None:
    """UnknownName where timm has no network or no weights of that name."""
    network, where = name.partition(".")[0], f"weights {TIMM}{name}"
    if not timm.is_model(network):
        hint = nearest_of_timm(network, timm.list_models())
        raise UnknownName(f"timm {timm.__version__} has no network {network!r}", where=where, hint=hint)
    known = timm.list_pretrained(f"{network}.*")
    if not known or name not in (network, *known):
        hint = nearest(name, known) if known else "choose another network, or give a file by --weights FILE"
        what = f"timm {timm.__version__} has no pretrained weights {name!r}"
        raise UnknownName(what, where=where, hint=hint)


def _by_hub(name: str, hub_id: str, file_name: str | None) -> Remote:
    """A file that huggingface_hub fetches; the first of HUB_FILES that the server has, unless it is named."""
    import huggingface_hub as hub

    repository, _, revision = hub_id.partition("@")
    names = (file_name,) if file_name else HUB_FILES

    def cached() -> Path | None:
        found = (hub.try_to_load_from_cache(repository, each, revision=revision or None) for each in names)
        return next((Path(path) for path in found if isinstance(path, str)), None)

    def fetch() -> Path:
        with _without_bars():
            for each in names[:-1]:
                try:
                    return Path(hub.hf_hub_download(repository, each, revision=revision or None))
                except hub.errors.RemoteEntryNotFoundError:
                    pass  # the repository is there, and has its weights in another format
            return Path(hub.hf_hub_download(repository, names[-1], revision=revision or None))

    origin = f"{hub.constants.ENDPOINT}/{repository}"
    return Remote(name, origin, Path(hub.constants.HF_HUB_CACHE), "HF_HOME", cached, fetch, _linked_digits)


def _linked_digits(path: Path) -> str:
    """The sha256 by which huggingface_hub keeps a large file; "" where it keeps no link to it."""
    kept = path.readlink().name if path.is_symlink() else ""
    return kept if len(kept) == SHA256_DIGITS else ""


@contextmanager
def _without_bars() -> Iterator[None]:
    """Inside, huggingface_hub draws no bars."""
    utils: Any = import_module("huggingface_hub.utils")
    off = utils.are_progress_bars_disabled()
    utils.disable_progress_bars()
    try:
        yield
    finally:
        if not off:
            utils.enable_progress_bars()
