"""`wsssbench report --html`: what the page holds, that it is safe, and that it needs no network."""

from __future__ import annotations

import json
import os
import re
import runpy
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from wsssbench.cli.main import main
from wsssbench.errors import BadData
from wsssbench.files.atomic import safe_name
from wsssbench.identity import Record
from wsssbench.masks import write_labels
from wsssbench.metrics import confusion_counts
from wsssbench.records.finding import find_records
from wsssbench.records.store import StoredRecord, cell_folder, write_record
from wsssbench.reporting.choice import RULES, choose
from wsssbench.reporting.figures.curves import threshold_figure
from wsssbench.reporting.figures.drawn import CAPTIONS, read_log, step_folders
from wsssbench.reporting.page import html_page
from wsssbench.reporting.page.figures import drawn
from wsssbench.reporting.sections import Section, sections_of
from wsssbench.scores.counts_table import COUNTS, CountsTable
from wsssbench_datasets.shapes.dataset import PRESETS, Shapes, ShapesConfig

HERE = Path(__file__).parent
FAKE = runpy.run_path(str(HERE / "fake_page.py"))
CLASSES, EVIL, Pictures, write_runs = (FAKE[n] for n in ("CLASSES", "EVIL", "Pictures", "write_runs"))
fake_record, fake_terms = FAKE["fake_record"], FAKE["fake_terms"]
Made = tuple[Path, Any, str]  # the folder of runs, its data set, the page


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """The runs' folder, their data set, and the page."""
    runs = tmp_path_factory.mktemp("page") / "runs"
    data = write_runs(runs)
    return runs, data, html_page(find_records(runs), open_data=lambda record: data)


@pytest.fixture(scope="module")
def page(made: Made) -> str:
    return made[2]


class Outline(HTMLParser):
    """Every element with its attributes, what stands in it, and whether tags close what they opened."""

    VOID = ("meta", "img", "input", "br", "line", "circle", "link")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.text: dict[str, list[str]] = {}
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.setdefault(self.open[-1] if self.open else "", []).append(data)

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attrs for name, attrs in self.elements if name == tag]


# ------------------------------------------------------------------------------------------------- structure


def test_the_page_is_well_formed_and_every_table_says_what_its_heads_are(page: str) -> None:
    outline = Outline(page)
    ids = [attrs["id"] for _, attrs in outline.elements if "id" in attrs]
    assert len(set(ids)) == len(ids)
    assert all(attrs.get("scope") in ("col", "row") for attrs in outline.all("th"))
    assert len(outline.all("caption")) == len(outline.all("table")) > 3
    assert all("alt" in attrs for attrs in outline.all("img"))
    pictures = [attrs for _, attrs in outline.elements if attrs.get("role") == "img"]
    named = [attrs for attrs in pictures if attrs.get("aria-label")]
    assert len(pictures) - len(named) == 2  # the two sides of the viewer, named by its script
    assert outline.all("html") == [{"lang": "en"}]


def test_ranks_intervals_seeds_protocol_and_definition_are_those_of_the_report(
    made: Made,
) -> None:
    from markupsafe import Markup

    from wsssbench.reporting.table_parts import definition

    runs, _, page = made
    (section,) = sections_of(find_records(runs))
    best = section.rows[0]
    assert best.method == "rrm"
    number = best.numbers["miou"]
    assert number.interval is not None
    low, high = number.interval
    assert f">{number.mean:.2f} ± {number.sd:.2f} [{low:.2f}, {high:.2f}] (2)</td>" in page
    assert str(Markup.escape(definition(section.rows))) in page
    for words in (">stage seg (version 1)", "split val", "image tags not given at evaluation",
                  "threshold policy fixed", "fixed 0.3", ">tags</td>",
                  "no CRF by the stage", "1 of 1 failed"):  # fmt: skip
        assert words in page, words


def test_an_oracle_a_custom_stage_and_a_limit_are_marked_as_warnings() -> None:
    terms = fake_terms(threshold_policy="oracle", custom=True, limit=8)
    cells = [StoredRecord(fake_record(terms=terms), Path("a/b/c/d/record.json"))]
    page = html_page(cells, open_data=nothing_there, limited=True, stale={cells[0].record.key})
    warnings = set(re.findall(r'class="badge warn">([^<]*)<', page))
    of_row = {"oracle threshold", "custom stage", "limit 8", "stale"}
    of_table = {
        "threshold policy oracle",
        "stage seg (version 1, custom)",
        "limit 8: the first 8 images alone",
    }
    assert warnings == of_row | of_table
    assert "are of runs with --limit" in html_page(cells, open_data=nothing_there)


def nothing_there(record: Record) -> Any:
    raise BadData("no such data")


def test_every_kind_of_figure_that_the_records_hold_is_there_with_its_numbers_and_caption(page: str) -> None:
    titles = re.findall(r'<h3 id="[^"]*">([^<]*)</h3>', page)
    steps = map(safe_name, (*FAKE["METHODS"], "shared"))
    kinds = ("IoU per class", "mIoU by threshold", "Error ladder", "Calibration")
    assert set(titles) == {*kinds, *(f"Training: {step}" for step in steps)}
    assert page.count("<summary>The numbers</summary>") == len(titles)
    pictures = [a for a in Outline(page).all("img") if a["src"].startswith("data:image/png") and a["alt"]]
    assert len([a for a in pictures if "the numbers are in the table below" in a["alt"]]) == len(titles)
    assert CAPTIONS["ladder"] in page
    assert "background → ring 12.5; ring → background 8.0" in page
    assert "Where training time goes" in page
    assert "3.0 (75 %)" in page


def test_labels_that_abstain_get_a_figure_of_precision_and_coverage() -> None:
    scores = {"coverage": 40.0, "precision": 95.0}
    cells = [StoredRecord(fake_record(scores=scores), Path("a/b/c/d/record.json"))]
    page = html_page(cells, open_data=nothing_there)
    assert "Precision and coverage" in page
    assert '<th scope="row">40</th>' in page
    assert '<td data-value="95.0" class="number">95</td>' in page


# --------------------------------------------------------------------------------------------- safe, offline


def test_html_in_names_of_methods_classes_and_reasons_is_shown_and_never_obeyed(page: str) -> None:
    outline = Outline(page)
    assert "onerror" not in {name for _, attrs in outline.elements for name in attrs}
    assert "b" not in {tag for tag, _ in outline.elements}
    assert "&lt;img src=x onerror=alert(1)&gt;" in page
    assert "&lt;/script&gt;&lt;b&gt;stripe&lt;/b&gt;" in page
    assert "&lt;script&gt;boom&lt;/script&gt;" in page
    assert len(outline.all("script")) == page.count("</script>") == 3


def test_the_page_asks_no_other_place_for_anything(page: str) -> None:
    outline = Outline(page)
    for tag, attrs in outline.elements:
        for name in ("src", "href", "srcset", "action", "data", "poster"):
            assert attrs.get(name, "#").startswith(("#", "data:image/")), (tag, attrs)
    assert not outline.all("link")
    assert not re.search(r"""(src|href)\s*=\s*["']?\s*(https?:)?//""", page)
    assert not re.search(r"""url\(\s*(?!["']?data:|["']?var)""", page)
    for word in (
        "@import",
        "fetch(",
        "XMLHttpRequest",
        "WebSocket",
        "sendBeacon",
        "import(",
        "sourceMappingURL",
    ):
        assert word not in page, word
    (policy,) = [
        a["content"] for a in outline.all("meta") if a.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policy.startswith("default-src 'none'")
    assert "http" not in policy


def test_help_imports_neither_jinja2_nor_torch() -> None:
    code = (
        "import sys; from wsssbench.cli.main import main\n"
        "try: main(['report', '--help'])\n"
        "except SystemExit: pass\n"
        "assert not {'jinja2', 'torch', 'numpy', 'PIL'} & set(sys.modules), sorted(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


# --------------------------------------------------------------------------------------------------- gallery


def test_images_are_chosen_by_each_rule_and_only_once() -> None:
    mean = np.array([50.0, 90.0, 10.0, 60.0, 58.0, 80.0, 57.0, np.nan])
    scores = np.array([mean, mean])
    scores[:, 3] = 20.0, 100.0
    chosen = choose(list("abcdefgh"), scores, each=1)
    assert [c.rule for c in chosen] == list(RULES)
    assert [c.id for c in chosen[:4]] == ["b", "c", "e", "d"]
    assert chosen[4].id in ("a", "f", "g")
    every = choose(list("abcdefgh"), scores, each=3)
    assert len({c.id for c in every}) == len(every) == 7  # "h" has no truth


def test_the_gallery_shows_each_method_on_the_chosen_images_and_states_the_rule(page: str) -> None:
    assert page.count('<figure class="shot"') == 12
    for words in (
        "best 1",
        "worst 1",
        "Seed 0, 3 of 4 rows",
        "drawn with seed 0",
        "No class maps of this split",
    ):
        assert words in page, words
    assert len(re.findall(r'aria-label="rrm on val\d{4}: ', page)) == 12
    assert page.count('class="wrong"') == 3 * 12


def test_without_the_data_set_the_page_says_so_and_has_no_gallery(made: Made) -> None:
    page = html_page(find_records(made[0]), open_data=nothing_there)
    assert "No gallery: the data set cannot be shown (no such data)." in page
    assert '<figure class="shot"' not in page


def test_a_page_of_five_methods_and_voc_val_stays_under_15_mb(tmp_path: Path) -> None:
    data, terms = Pictures(1449, (375, 500)), fake_terms(classes=CLASSES)
    labels = np.random.default_rng(3).integers(0, 3, (25, 32), np.uint8).repeat(15, 0).repeat(16, 1)[:, :500]
    labels = np.pad(labels, ((0, 375 - labels.shape[0]), (0, 500 - labels.shape[1])))
    one = tmp_path / "one.png"
    write_labels(one, labels)
    counts = [confusion_counts(data.mask(id), labels, 2) for id in data.ids[:18]]
    for method in "abcde":
        record = fake_record(method, terms=terms)
        folder = cell_folder(tmp_path / "runs", "shapes", method, 0, "seg", "val", record.key)
        (folder / "masks").mkdir(parents=True)
        for id in data.ids:
            os.link(one, folder / "masks" / f"{id}.png")
        CountsTable.of(data.ids, [counts[i % 18] for i in range(1449)]).save(folder / COUNTS)
        write_record(folder, record)
    page = html_page(find_records(tmp_path / "runs"), open_data=lambda record: data)
    assert page.count('<figure class="shot"') == 25
    assert len(page) < 15_000_000


# -------------------------------------------------------------------------------------------------- training


def test_a_record_tells_where_its_steps_lie(tmp_path: Path) -> None:
    run = runpy.run_path(str(HERE / "fake_run.py"))["run"]
    failed, _ = run(tmp_path, "first > second > third", seeds=(0, 3))
    assert not failed
    for cell in find_records(tmp_path):
        folders = step_folders(cell)
        assert [name for name, _ in folders] == ["first", "second", "third"]
        assert all((folder / "fitted.json").exists() for _, folder in folders)


def test_steps_that_were_written_twice_count_once_and_a_cut_off_line_is_passed_over(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    lines = [{"done": n + 1, "total": 1000, "losses": {"total": float(n)}} for n in range(1000)]
    log.write_text(
        "".join(json.dumps(line) + "\n" for line in [*lines[:300], *lines[200:]]) + '{"done": 7, "to'
    )
    assert read_log(log) == {"total": [(n + 1, float(n)) for n in range(1000)]}
    log.write_text("")
    assert read_log(log) == {}


def test_the_numbers_of_a_long_curve_keep_both_ends_and_names_are_shown_as_they_are() -> None:
    curve = {"best_miou": 60.0, "thresholds": [i / 100 for i in range(100)], "curve": list(range(100))}
    record = fake_record("$a$")
    cell = StoredRecord(record, Path("a/b/c/d/record.json"))
    record.scores["threshold_curve"] = curve
    (section,) = sections_of([cell])
    (grid,) = numbers(section)
    assert list(grid.lines[0].values()) == ["0", "0"]
    assert grid.lines[-1] == {"": "0.99", "$a$": "99"}
    assert len(grid.lines) == 11


def numbers(section: Section) -> Any:
    """The tables of numbers beside the threshold curves of a table."""
    figure = threshold_figure(section)
    assert figure is not None
    return drawn("thresholds", figure).numbers


def test_measured_throughput_has_its_table_and_its_phases() -> None:
    bench = runpy.run_path(str(HERE / "test_throughput.py"))["made_up"](EVIL)
    page = html_page([], [bench], open_data=nothing_there)
    assert "throughput: shapes on Old, 2 threads" in page
    assert re.search(r'data-value="8.0" class="number">8.0</td>', page)  # 16 images in 2 s
    assert "Where a step&#39;s time goes on Old, 2 threads" in page
    assert "1500.0 (75 %)" in page
    assert EVIL not in page
    Outline(page)


# --------------------------------------------------------------------------------------------------- command


def tiny_cell(runs: Path) -> Shapes:
    """A finished cell of the smallest generated data set, judged on its own truth."""
    config = ShapesConfig(**PRESETS["tiny"])
    data = Shapes(config, 0)
    card = data.card
    terms = fake_terms(
        classes=card.class_names, dataset_options=dict(card.options_of("val")), dataset_version=card.version
    )
    record = fake_record("cam", terms=terms, scores={"per_class": [80.0] * (len(card.class_names) + 1)})
    folder = cell_folder(runs, "shapes", "cam", 0, "seg", "val", record.key)
    ids, counts = data.ids("val"), []
    for id in ids:
        write_labels(folder / "masks" / f"{id}.png", data.mask(id))
        counts.append(confusion_counts(data.mask(id), data.mask(id), len(card.class_names)))
    CountsTable.of(ids, counts).save(folder / COUNTS)
    write_record(folder, record)
    return data


def test_the_command_writes_the_page_and_draws_a_generated_data_set_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    tiny_cell(tmp_path / "runs")
    done = CliRunner().invoke(main, ["report", "runs", "--html", "out/page.html"])
    assert done.exit_code == 0, done.output
    assert done.stdout == ""
    assert "wrote out/page.html" in done.stderr
    page = (tmp_path / "out" / "page.html").read_text()
    assert '<figure class="shot"' in page
    Outline(page)
    again = CliRunner().invoke(main, ["report", "runs", "--html", "out/again.html", "--out", "tables.md"])
    assert again.exit_code == 0
    assert (tmp_path / "out" / "again.html").read_text() == page
    assert "## shapes: seg on val" in (tmp_path / "tables.md").read_text()


def test_an_option_that_makes_another_data_set_is_said_and_leaves_the_gallery_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    tiny_cell(tmp_path / "runs")
    done = CliRunner().invoke(main, ["report", "runs", "--html", "page.html", "-o", "shapes.image_px=64"])
    assert done.exit_code == 0, done.output
    assert "not the data set of the cell" in done.stderr
    assert "No gallery" in (tmp_path / "page.html").read_text()


def test_a_page_without_records_says_so(tmp_path: Path) -> None:
    page = html_page([], open_data=nothing_there)
    assert "No records yet." in page
    Outline(page)
