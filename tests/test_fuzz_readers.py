"""Every reader of strangers' files, on damaged real files: a value or one clear error, never anything else.

`tests/fuzz/fuzz_readers.py` does the same for as long as one likes, guided by what the readers do.
"""

from __future__ import annotations

import functools
import random
import runpy
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from wsssbench.errors import WsssError

KNOWN = SimpleNamespace(**runpy.run_path(str(Path(__file__).parent / "fuzz" / "readers.py")))
READERS = {reader.name: reader for reader in KNOWN.READERS}
EXAMPLES = 60  # of each reader
pytestmark = pytest.mark.filterwarnings("ignore")  # Pillow's and torch's, of what they find odd


@functools.cache
def real_files(name: str) -> tuple[bytes, ...]:
    return tuple(READERS[name].files())


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Facts of these files are not kept in the user's home."""
    with tempfile.TemporaryDirectory() as folder:
        monkeypatch.setenv("XDG_CACHE_HOME", folder)
        yield


@pytest.mark.parametrize("name", READERS)
def test_real_files_are_read(tmp_path: Path, name: str) -> None:
    reader, read = READERS[name], 0
    path = tmp_path / reader.file
    path.parent.mkdir(parents=True, exist_ok=True)
    for data in real_files(name):
        path.write_bytes(data)
        try:
            reader.read(path)
        except WsssError:
            continue  # some are files of another kind on purpose
        read += 1
    assert read


@pytest.mark.parametrize("name", READERS)
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(seed=st.integers(0, 2**63))
@example(seed=0)
def test_damage_gives_a_value_or_one_clear_error(tmp_path: Path, name: str, seed: int) -> None:
    reader, draw = READERS[name], random.Random(seed)  # hypothesis prints the seed of what fails
    files, error = real_files(name), None
    path = tmp_path / reader.file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(KNOWN.FILES.mutated(draw.choice(files), draw))
    try:
        reader.read(path)
    except WsssError as refused:
        error = refused
    assert error is None or (error.what and error.where)
