"""Fuzz every reader of strangers' files with atheris (libFuzzer for Python), each in a process of its own.

    pip install atheris
    python tests/fuzz/fuzz_readers.py --seconds 60            # each reader; --reader NAME for some of them
    python tests/fuzz/fuzz_readers.py --reader record --repeat FILE   # one input again

A reader may return a value or raise a WsssError. Anything else, more than 5 seconds for one input or more
than 1 GB of memory is a find: the input is kept under --out, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE), str(ROOT), str(ROOT / "datasets"), str(ROOT / "methods")]
SLOWEST_SECONDS, MOST_MB, LONGEST_INPUT = 5, 1024, 1 << 16
INSTRUMENTED = ["wsssbench", "wsssbench_datasets", "readers", "pickle", "tomllib", "zipfile", "tarfile"]


def main() -> int:
    arguments = _arguments()
    from readers import READERS

    if arguments.child:
        fuzz(arguments.reader[0], arguments.seconds, Path(arguments.out), arguments.seed)
        return 0
    chosen = [reader for reader in READERS if not arguments.reader or reader.name in arguments.reader]
    if arguments.repeat:
        return repeat(chosen[0].name, Path(arguments.repeat))
    return max(run_child(reader.name, arguments) for reader in chosen)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--reader", action="append", default=[], help="its name; may be repeated")
    parser.add_argument("--seconds", type=int, default=60, help="for each reader")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", default="fuzz-finds", help="folder for inputs that broke a reader")
    parser.add_argument("--repeat", help="read this input once")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def run_child(name: str, arguments: argparse.Namespace) -> int:
    """Fuzz one reader in a process of its own and print a line of what came of it."""
    Path(arguments.out).mkdir(parents=True, exist_ok=True)
    command = [sys.executable, __file__, "--child", "--reader", name, "--out", arguments.out]
    command += ["--seconds", str(arguments.seconds), "--seed", str(arguments.seed)]
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(prefix="fuzz-", dir=memory) as folder:  # which libFuzzer leaves behind
        own = {**os.environ, "TMPDIR": folder}
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", env=own)
    tried = re.findall(r"number_of_executed_units: (\d+)", done.stderr)
    covered = re.findall(r"\bcov: (\d+)", done.stderr)
    count, cover = tried[-1] if tried else "?", covered[-1] if covered else "?"
    print(
        f"{name:20} {count:>9} inputs, {cover:>6} branches, {'clean' if not done.returncode else 'FOUND'}",
        flush=True,
    )
    if done.returncode:
        print(done.stdout[-3000:], done.stderr[-1000:], flush=True)
    return int(bool(done.returncode))


def repeat(name: str, path: Path) -> int:
    """Read one input again; what it raises is shown."""
    with tempfile.TemporaryDirectory() as folder:
        print(repr(target(name, Path(folder))(path.read_bytes()))[:400])
    return 0


def target(name: str, folder: Path) -> Any:
    """A function of bytes: written to a file in `folder` and read; a WsssError is an answer."""
    from readers import READERS

    from wsssbench.errors import WsssError

    reader = next(each for each in READERS if each.name == name)
    path = folder / reader.file
    path.parent.mkdir(parents=True, exist_ok=True)

    def read(data: bytes) -> Any:
        path.write_bytes(data)
        try:
            return reader.read(path)
        except WsssError as error:
            str(error)
            return None

    return read


def fuzz(name: str, seconds: int, out: Path, seed: int) -> None:
    """Run libFuzzer on one reader; it ends this process."""
    import atheris

    with atheris.instrument_imports(include=INSTRUMENTED):
        from readers import FILES, READERS

        reader = next(each for each in READERS if each.name == name)
        real = reader.files()
    folder = tempfile.mkdtemp()
    os.environ["XDG_CACHE_HOME"] = f"{folder}/cache"
    read, corpus = target(name, Path(folder) / "at"), Path(folder) / "corpus"
    corpus.mkdir()
    for number, data in enumerate(real):
        (corpus / str(number)).write_bytes(data)
    with atheris.instrument_imports(include=INSTRUMENTED):
        for data in real:  # once each, so that what they import is instrumented
            read(data)

    def mutate(data: bytes, most: int, number: int) -> bytes:
        draw = random.Random(number)
        if draw.random() < 0.5:
            return bytes(atheris.Mutate(data, most))
        base = draw.choice(real) if draw.random() < 0.3 else data
        return FILES.mutated(base, draw)[:most]

    warnings.simplefilter("ignore")  # Pillow's, of metadata
    options = [f"-max_total_time={seconds}", f"-timeout={SLOWEST_SECONDS}", f"-rss_limit_mb={MOST_MB}"]
    options += [f"-max_len={LONGEST_INPUT}", f"-seed={seed}", "-print_final_stats=1", "-verbosity=1"]
    prefix = out.resolve() / f"{name.replace(' ', '-')}-"
    atheris.Setup([sys.argv[0], *options, f"-artifact_prefix={prefix}", str(corpus)], read_only(read),
                  custom_mutator=mutate)  # fmt: skip
    atheris.Fuzz()


def read_only(read: Any) -> Any:
    """libFuzzer wants no value."""

    def one(data: bytes) -> None:
        read(data)

    return one


if __name__ == "__main__":
    sys.exit(main())
