"""The Python API: what the commands do, one import away, and nothing imported before it is used."""

from __future__ import annotations

import inspect
import json
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image as Pil

import wsssbench
from wsssbench.api import functions as api
from wsssbench.api.arguments import as_texts
from wsssbench.cli.main import main
from wsssbench.errors import BadData, UnknownName, WsssError
from wsssbench.planning.settings import parse_option

main.load()

PLUGIN = Path(__file__).with_name("bright_step.py")
TINY = {"shapes.preset": "tiny"}
HEAVY = {"click", "numpy", "torch", "torchvision", "pandas", "scipy", "numba", "matplotlib", "PIL"}
FUNCTIONS = sorted({*wsssbench.__all__} - {"__version__"})


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A working folder with the runs of two methods, made by `wsssbench.run`; no settings file in it."""
    folder = tmp_path_factory.mktemp("api")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        wsssbench.run(
            ["constant", "bright"], "shapes", seeds=(0, 1), stages="pseudo", options=TINY,
            plugins=[PLUGIN], device="cpu", quiet=True,
        )  # fmt: skip
        yield folder


def settings(**changes: Any) -> dict[str, Any]:
    return {"stages": ["pseudo"], "options": TINY, "plugins": [str(PLUGIN)], "quiet": True, **changes}


# ----------------------------------------------------------------------------------------------- imports


def imported_by(code: str) -> set[str]:
    """Top-level names, and rooms of wsssbench, that are imported after `code`."""
    lines = f"{code}\nimport sys\nprint(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", lines], capture_output=True, text=True, check=True)
    names = set(done.stdout.splitlines()[-1].split())
    return {name.partition(".")[0] for name in names} | {n for n in names if n.startswith("wsssbench.")}


def test_importing_wsssbench_imports_nothing_else() -> None:
    names = imported_by("import wsssbench")
    assert "wsssbench" in names
    assert not names & HEAVY
    assert {name for name in names if name.startswith("wsssbench.")} == {"wsssbench._version"}


def test_naming_a_function_imports_nothing_heavy() -> None:
    names = imported_by(
        "import wsssbench\nwsssbench.run, wsssbench.report, wsssbench.compare, dir(wsssbench)"
    )
    assert "wsssbench.api" in names
    assert not names & HEAVY


def test_a_report_is_made_without_torch(tmp_path: Path) -> None:
    code = f"import wsssbench\nassert str(wsssbench.report({str(tmp_path)!r})).startswith('No records')"
    assert not imported_by(code) & {"torch", "torchvision", "wsssbench_methods", "wsssbench_datasets"}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_is_there_typed_and_documented(name: str) -> None:
    assert name in dir(wsssbench)
    function = getattr(api, name)
    assert inspect.getdoc(function)
    signature = inspect.signature(function)
    assert signature.return_annotation is not inspect.Signature.empty
    assert all(p.annotation is not inspect.Parameter.empty for p in signature.parameters.values())


def test_no_room_hides_a_function_of_its_name() -> None:
    rooms = {room.name for room in pkgutil.iter_modules(wsssbench.__path__)}
    assert "reporting" in rooms
    assert not rooms & set(wsssbench.__all__)


def test_an_unknown_attribute_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'rum'"):
        _ = wsssbench.rum  # type: ignore[attr-defined]


# --------------------------------------------------------------------------------------------------- run


def test_a_run_gives_the_rows_of_the_command(here: Path) -> None:
    rows = wsssbench.run(["constant", "bright"], ["shapes"], seeds=(0, 1), **settings())
    assert sorted(row.method for row in rows) == ["bright", "constant"]
    assert [row.seeds for row in rows] == [(0, 1), (0, 1)]
    assert rows.failures == {}
    flags = ["-o", "shapes.preset=tiny", "--stages", "pseudo", "--seeds", "0,1", "-q", "--json"]
    names = ["--plugin", str(PLUGIN), "--method", "constant", "--method", "bright", "--dataset", "shapes"]
    done = CliRunner().invoke(main, ["run", *names, *flags])
    assert json.loads(rows.text("json")) == json.loads(done.stdout)


def test_rows_are_a_table_in_a_notebook_and_a_frame_for_pandas(here: Path) -> None:
    rows = wsssbench.run("bright", "shapes", seeds=[0], **settings())
    assert rows._repr_markdown_() == str(rows) == repr(rows)
    assert str(rows).startswith("## shapes: pseudo on train\n\n| rank ")
    assert (len(rows), rows[0].method, [row.method for row in rows[:1]]) == (1, "bright", ["bright"])
    frame = rows.frame()
    assert frame.loc[0, "miou_mean"] == pytest.approx(rows[0].numbers["miou"].mean)
    assert str(api.Rows(())) == "No rows."
    assert api.Rows(()).frame().empty


def test_a_dry_run_gives_the_cells_and_their_states(here: Path) -> None:
    names = settings()
    del names["quiet"]
    cells = wsssbench.dry_run("bright", "shapes", seeds=(0, 7), **names)
    assert [(cell.trial.seed, cell.state) for cell in cells] == [(0, "done"), (7, "missing")]
    assert "| shapes     | bright   |      7 | pseudo  |" in cells._repr_markdown_()


def test_options_reach_the_plugin(here: Path) -> None:
    names = settings(options={**TINY, "bright.threshold": 0.25, "bright.stride": 4})
    del names["quiet"]
    (cell,) = wsssbench.dry_run("bright", "shapes", **names)
    assert cell.identity.recipe[0].config == {"threshold": 0.25, "stride": 4}


@pytest.mark.parametrize("value", [448, 1e-7, True, "a b", "448", 'the "é" \\ \n', [1.0, 0.5], ["x"], ""])
def test_an_option_of_any_type_keeps_its_value(value: Any) -> None:
    (text,) = as_texts({"step.key": value})
    assert parse_option(text) == ("step", "key", value)


def test_none_and_paths_are_written_as_on_the_command_line() -> None:
    assert as_texts({"a.b": None, "c.d": Path("x") / "y"}) == ['a.b="none"', 'c.d="x/y"']


def test_a_failed_cell_is_a_row_with_its_reason(here: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.py"
    text = PLUGIN.read_text().replace("ctx.progress(", "raise ValueError('no luck')\n        ctx.progress(")
    broken.write_text(text.replace('"bright"', '"unlucky"'))
    rows = wsssbench.run("unlucky", "shapes", **settings(plugins=[broken], runs=tmp_path / "runs"))
    assert rows[0].failed
    assert "ValueError: no luck" in rows.failures["unlucky"][0]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"methods": "brigt"}, "unknown method 'brigt'"),
        ({"datasets": ["shape"]}, "unknown dataset 'shape'"),
        ({"seed": 3}, "unknown key 'seed'"),
        ({"device": "tpu"}, "unknown device 'tpu'"),
        ({"options": {"bright.stride": "wide"}}, "'wide' is not int"),
        ({"options": {"bright": 3}}, "not an option"),
        ({"weights": {"bright": "a.pth"}}, "no step of these methods takes weights"),
        ({"config": "none.toml"}, "cannot be read"),
    ],
)
def test_a_mistake_is_a_wsss_error_and_never_an_exit(
    here: Path, changes: dict[str, Any], sentence: str
) -> None:
    asked: Any = {"methods": "bright", "datasets": "shapes", **settings(), **changes}
    with pytest.raises(WsssError, match=sentence):
        wsssbench.run(**asked)


@pytest.mark.parametrize("name", sorted(main.commands))
def test_every_command_is_a_function_or_has_a_reason_not_to_be(name: str) -> None:
    other_names = {  # `wsssbench.errors` is a room of exceptions
        "errors": "find_errors", "weights": "inspect_weights", "export": "export_records",
    }  # fmt: skip
    of_a_shell = {"check", "doctor", "list", "show", "clean", "completion", "new"}  # text for a person
    assert other_names.get(name, name) in wsssbench.__all__ or name in of_a_shell


# ------------------------------------------------------------------------------------------- from records


def test_a_report_is_text_that_can_be_written(here: Path) -> None:
    report = wsssbench.report()
    assert report._repr_markdown_() == str(report)
    assert "| bright " in report.text
    assert "| constant " in report.text
    assert report.write("report.md").read_text() == report.text
    assert len(json.loads(wsssbench.report("runs", "json").text)) == 1
    assert wsssbench.report(["runs"], "csv")._repr_markdown_().startswith("```csv\ndataset,stage")
    with pytest.raises(UnknownName, match="unknown format 'odt'"):
        wsssbench.report(format="odt")
    with pytest.raises(BadData, match="no such folder"):
        wsssbench.report("nowhere")


def test_records_are_verified_packed_and_their_labels_exported(here: Path, tmp_path: Path) -> None:
    seen = wsssbench.verify()
    assert seen.ok
    assert len(seen) == 4
    assert seen._repr_markdown_().count("- ok: ") == 4
    packed = wsssbench.export_records(tmp_path / "records.zip")
    assert wsssbench.report(packed).text == wsssbench.report().text
    folder = wsssbench.export_labels(seen[0].path.parent, tmp_path / "labels")
    assert len(list(folder.glob("*.png"))) == seen[0].checked["images"]
    bright = next(one.path.parent for one in seen if one.record.method == "bright")
    maps = wsssbench.export_labels(bright, tmp_path / "maps", "psa")
    assert len(list(maps.glob("*.npy"))) == seen[0].checked["images"]
    masks = seen[0].path.parent / "masks"
    mask = next(masks.iterdir())
    before = mask.read_bytes()
    mask.write_bytes(next(path for path in masks.iterdir() if path != mask).read_bytes())
    try:
        assert not wsssbench.verify(seen[0].path.parent).ok
    finally:
        mask.write_bytes(before)
    with pytest.raises(BadData, match="no record here"):
        wsssbench.verify(tmp_path)


def test_data_sets_and_weights_are_looked_into(voc_tree: Any, tmp_path: Path) -> None:
    survey = wsssbench.prepare("voc12", options={"voc12.root": str(voc_tree.root)})
    assert survey.ok
    assert any("val" in line for line in survey.lines())
    assert wsssbench.prepare("shapes") is None
    file = tmp_path / "w.pth"
    file.write_bytes(b"no weights")
    with pytest.raises(WsssError, match=r"w\.pth"):
        wsssbench.inspect_weights(file)


def test_methods_are_compared_as_by_the_command(here: Path) -> None:
    found = wsssbench.compare("bright", "constant", stage="pseudo", resamples=200)
    (comparison,) = found
    assert (comparison.first, comparison.second, comparison.seeds) == ("bright", "constant", (0, 1))
    done = CliRunner().invoke(main, ["compare", "bright", "constant", "--resamples", "200"])
    assert done.stdout.strip() == found._repr_markdown_().strip()
    with pytest.raises(UnknownName, match="no results of 'rrm'"):
        wsssbench.compare("rrm", "constant", runs="runs")
    with pytest.raises(WsssError, match="two methods are needed"):
        wsssbench.compare("bright")


def test_a_folder_of_masks_is_scored_and_recorded(here: Path, tmp_path: Path) -> None:
    (masks,) = here.glob("runs/shapes/bright/seed0/*/masks")
    rows = wsssbench.score(
        masks, "shapes", "foreign", stage="pseudo", supervision="tags", options=TINY, runs=tmp_path / "runs"
    )
    assert (rows[0].method, rows[0].identity.supervision) == ("foreign", ("tags",))
    own = wsssbench.run("bright", "shapes", seeds=(0,), **settings())
    assert rows[0].numbers["miou"] == own[0].numbers["miou"]
    assert "| foreign " in wsssbench.report(tmp_path / "runs").text
    with pytest.raises(BadData):
        wsssbench.score(tmp_path, "shapes", "foreign", options=TINY, runs=tmp_path / "runs")


def cell(here: Path, method: str) -> Path:
    return next(here.glob(f"runs/shapes/{method}/seed0/pseudo-*"))


def test_errors_of_cells_are_found_as_by_the_command(here: Path) -> None:
    found = wsssbench.find_errors(cell(here, "bright"), cell(here, "constant"), ladder=False, resamples=200)
    assert [method.title for method in found] == ["bright", "constant"]
    arguments = [str(cell(here, m)) for m in ("bright", "constant")]
    done = CliRunner().invoke(main, ["errors", *arguments, "--no-ladder", "--resamples", "200"])
    assert done.stdout.strip() == found._repr_markdown_().strip()


def test_a_gate_is_written_and_judged(here: Path, tmp_path: Path) -> None:
    baseline = wsssbench.write_baseline(tmp_path / "baseline.json", tolerance=2.0)
    gate = wsssbench.gate(baseline)
    assert (gate.code, [line.verdict for line in gate]) == (0, ["ok", "ok"])
    rows = json.loads(baseline.read_text())
    rows["rows"][0]["mean"] += 50
    baseline.write_text(json.dumps(rows))
    assert wsssbench.gate(baseline, "runs").code == 1
    with pytest.raises(WsssError, match="the baseline file does not exist"):
        wsssbench.gate(tmp_path / "none.json")


def test_own_pictures_are_predicted_shown_and_written(here: Path, tmp_path: Path) -> None:
    wsssbench.run("constant", "shapes", **settings(stages=["seg"], runs=tmp_path / "runs"))
    (run,) = tmp_path.glob("runs/shapes/constant/seed0/seg-*")
    for name in ("a", "b"):
        Pil.new("RGB", (20, 10), "red").save(tmp_path / f"{name}.png")
    found = wsssbench.predict([tmp_path / "a.png", tmp_path / "b.png"], run)
    assert [(one.name, one.labels.shape, one.found) for one in found] == [
        ("a", (10, 20), ()),
        ("b", (10, 20), ()),
    ]
    assert found._repr_html_().count('src="data:image/png;base64,') == 2
    assert sorted(p.name for p in found.write(tmp_path / "out").iterdir()) == ["a.png", "b.png"]
    assert len(wsssbench.predict(tmp_path / "a.png", run)) == 1
    with pytest.raises(BadData, match=r"none\.png"):
        wsssbench.predict("none.png", run)


def test_speed_is_measured_and_what_fails_is_told(here: Path, tmp_path: Path) -> None:
    names = settings(runs=tmp_path / "runs", device="cpu")
    del names["stages"]
    found = wsssbench.bench("constant", "shapes", warmup=1, repeats=1, **names)
    assert ([record.method for record in found], found.failures) == (["constant"], {})
    assert "constant" in str(found)
    assert list(tmp_path.glob("runs/**/*.json"))


def test_figures_are_drawn(here: Path, tmp_path: Path) -> None:
    folder = wsssbench.plot(tmp_path / "figures", formats="svg")
    assert (folder / "captions.md").exists()
    assert {path.suffix for path in folder.iterdir()} == {".svg", ".md"}


def test_a_bundle_for_a_paper_is_written(here: Path, tmp_path: Path) -> None:
    folder = wsssbench.paper(tmp_path / "bundle", options=TINY, count=1)
    assert list(folder.glob("*.tex"))


# ---------------------------------------------------------------------------------------------- a notebook

EVIL = '<script>alert("x")</script>'


class Readable(HTMLParser):
    """Collects the text of cells; fails on a tag that is not closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.seen.append(tag)
        self.open += [] if tag == "img" else [tag]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_everything_that_is_returned_is_html_in_a_notebook(here: Path) -> None:
    rows = wsssbench.run(["constant", "bright"], "shapes", seeds=(0, 1), **settings())
    shown = [
        rows,
        wsssbench.report(),
        wsssbench.compare("bright", "constant", resamples=200),
        wsssbench.find_errors(cell(here, "bright"), ladder=False, resamples=200),
    ]
    for one in shown:
        tags = Readable(one._repr_html_()).seen
        assert {"table", "th", "td"} <= set(tags)
        assert not {"script", "style", "a"} & set(tags)
    assert "<td>bright</td>" in rows._repr_html_()
    for format in ("json", "csv", "tex"):
        assert wsssbench.report(format=format)._repr_html_().startswith("<pre>")


def test_names_from_anywhere_are_escaped() -> None:
    from wsssbench.reporting.notebook import html_of, html_pictures, preformatted

    text = f"## {EVIL}\n\n| a | b |\n|---|---|\n| {EVIL} | c \\| d |\n\n- {EVIL}\n\n{EVIL}\n"
    for page in (html_of(text), preformatted(EVIL), html_pictures([EVIL], [np.zeros((2, 2, 3), np.uint8)])):
        assert "<script" not in page
        assert "&lt;script&gt;" in page
        Readable(page)
    assert "<td>c | d</td>" in html_of(text)
    assert "<li>" in html_of(text)


def test_a_page_is_shown_in_a_frame_that_reaches_nothing(here: Path, tmp_path: Path) -> None:
    page = wsssbench.report(format="html", options=TINY)
    assert page.write(tmp_path / "report.html").read_text().startswith("<!doctype html>")
    shown = page._repr_html_()
    assert Readable(shown).seen == ["iframe"]
    assert 'sandbox="allow-scripts"' in shown
