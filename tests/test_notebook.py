"""The example notebook runs as it stands, shows tables, and is kept without outputs."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOK = ROOT / "docs" / "example.ipynb"
EXECUTE = """
import sys
import nbformat
from nbclient import NotebookClient

book = nbformat.read(sys.argv[1], 4)
nbformat.validate(book)
NotebookClient(book, timeout=240, resources={"metadata": {"path": sys.argv[2]}}).execute()
nbformat.write(book, sys.argv[3])
"""


def cells(path: Path = NOTEBOOK) -> list[dict[str, Any]]:
    return list(json.loads(path.read_text(encoding="utf-8"))["cells"])


def test_the_notebook_is_kept_without_outputs() -> None:
    code = [cell for cell in cells() if cell["cell_type"] == "code"]
    assert code
    assert [cell for cell in code if cell["outputs"] or cell["execution_count"]] == []
    assert "widgets" not in NOTEBOOK.read_text(encoding="utf-8")


def test_links_of_the_notebook_lead_somewhere() -> None:
    text = "".join("".join(cell["source"]) for cell in cells() if cell["cell_type"] == "markdown")
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert links
    assert [link for link in links if not (NOTEBOOK.parent / link).exists()] == []


def test_the_notebook_runs_and_shows_tables_and_a_picture(tmp_path: Path) -> None:
    for package in ("nbclient", "nbformat", "ipykernel"):
        if find_spec(package) is None:
            pytest.skip(f"the package {package} (extra `dev`) is not installed")
    done = tmp_path / "done.ipynb"
    command = [sys.executable, "-c", EXECUTE, str(NOTEBOOK), str(tmp_path), str(done)]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr[-3000:]
    shown = [
        "".join(output["data"].get("text/html", ""))
        for cell in cells(done)
        if cell["cell_type"] == "code"
        for output in cell["outputs"]
        if output["output_type"] == "execute_result"
    ]
    assert sum("<td>cam</td>" in text for text in shown) >= 3  # plan, rows, errors
    assert any('src="data:image/png;base64,' in text for text in shown)
    assert (tmp_path / "report.html").read_text().startswith("<!doctype html>")
    assert "\\toprule" in (tmp_path / "tables.tex").read_text()
