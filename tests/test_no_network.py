"""wsssbench asks nothing of any host: commands run where every look-up and connection raises, and is noted.

An audit hook sees the calls of Python's own sockets, whichever package makes them; it is installed before
anything else is imported. What a library would do below Python (torch's own TCP store) it does not see.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

HOOK = """
import os, sys
TO_AN_ADDRESS = ("socket.connect", "socket.sendto", "socket.sendmsg")
LOOK_UPS = ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr")
def refuse(event, arguments):
    if event not in (*TO_AN_ADDRESS, *LOOK_UPS, "urllib.Request", "http.client.connect"):
        return
    if event in TO_AN_ADDRESS and not isinstance(arguments[1], tuple):
        return  # a socket of this machine: its address is a path, or it is connected already
    with open(os.environ["NETWORK_LOG"], "a") as log:
        log.write(f"{event} {arguments[-1]!r}\\n")
    raise ConnectionRefusedError(f"no network in this test: {event}")
sys.addaudithook(refuse)
"""
COMMANDS = """
import json, sys
from pathlib import Path
from click.testing import CliRunner
from wsssbench.cli.main import main
for arguments in json.loads(sys.argv[1]):
    arguments = [str(next(Path().glob(each))) if "*" in each else each for each in arguments]
    done = CliRunner().invoke(main, arguments)
    print(f"{arguments} -> {done.exit_code}", done.output, sep="\\n")
    if done.exit_code:
        raise SystemExit(1) from done.exception
"""


def offline(arguments: list[str], folder: Path) -> tuple[subprocess.CompletedProcess[str], str]:
    """Python with `arguments` where the network is refused, and what was asked of it."""
    place, log = folder / "hook", folder / "network.log"
    place.mkdir(exist_ok=True)
    (place / "sitecustomize.py").write_text(HOOK)
    path = os.pathsep.join(each for each in (str(place), os.environ.get("PYTHONPATH", "")) if each)
    inherited = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    env = {**inherited, "PYTHONPATH": path, "NETWORK_LOG": str(log)}
    done = subprocess.run([sys.executable, *arguments], cwd=folder, env=env, capture_output=True, text=True)
    return done, log.read_text() if log.exists() else ""


def test_the_hook_refuses_and_notes_a_connection_even_where_the_error_is_swallowed(tmp_path: Path) -> None:
    text = (
        "import socket\ntry:\n    socket.create_connection(('localhost', 9))\nexcept OSError as e: print(e)"
    )
    done, asked = offline(["-c", text], tmp_path)
    assert done.stdout == "no network in this test: socket.getaddrinfo\n"
    assert asked.startswith("socket.getaddrinfo ")


def test_training_judging_reporting_and_comparing_ask_nothing_of_any_host(tmp_path: Path) -> None:
    tiny = ["--dataset", "shapes", "-o", "shapes.preset=tiny"]
    methods = ["--method", "constant", "--method", "cam", "-o", "cam.steps=2"]
    commands = [
        ["list"],
        ["run", *tiny, *methods, "--stages", "seg"],
        ["report"],
        ["report", "--html", "page.html", "-o", "shapes.preset=tiny"],
        ["compare", "cam", "constant", "--resamples", "100"],
        ["score", "runs/shapes/constant/seed0/seg-*/masks", *tiny, "--stage", "seg", "--as", "own"],
        ["doctor"],
    ]
    done, asked = offline(["-c", COMMANDS, json.dumps(commands)], tmp_path)
    assert asked == ""
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "page.html").is_file()
