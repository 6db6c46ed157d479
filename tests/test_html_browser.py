"""The HTML page in a real browser, headless: it sorts, filters, draws and compares, and complains of nothing.

Skipped where no chromium is found.
"""

from __future__ import annotations

import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from wsssbench.records.finding import find_records
from wsssbench.reporting.page import html_page

HERE = Path(__file__).parent
FAKE = runpy.run_path(str(HERE / "fake_page.py"))
CHROMIUM = runpy.run_path(str(HERE / "headless_chromium.py"))
CLASSES, EVIL = FAKE["CLASSES"], FAKE["EVIL"]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Chromium with the page open on a desktop; skipped where there is none."""
    program = CHROMIUM["find_chromium"]()
    if program is None:
        pytest.skip("no chromium on PATH (WSSSBENCH_CHROMIUM names one)")
    folder = tmp_path_factory.mktemp("browser")
    data = FAKE["write_runs"](folder / "runs")
    (folder / "page.html").write_text(html_page(find_records(folder / "runs"), open_data=lambda record: data))
    with CHROMIUM["Chromium"](program, folder / "profile") as chromium:
        chromium.look(1200, 900)
        chromium.open(folder / "page.html")
        chromium.file = folder / "page.html"
        yield chromium


METHODS_SHOWN = (
    "[...document.querySelectorAll('#table-1-grid-1 tbody tr')].filter(r => !r.hidden)"
    ".map(r => r.cells[0].firstChild.textContent)"
)
HEADS = "[...document.querySelectorAll('#table-1-grid-1 thead th')].map(h => h.textContent)"


def test_a_click_on_a_head_sorts_and_says_so_and_a_third_one_restores(browser: Any) -> None:
    ranked = browser.run(METHODS_SHOWN)
    assert ranked == ["rrm", EVIL, "cam", "broken"]
    column = browser.run(HEADS).index("mIoU") + 1
    head = f"#table-1-grid-1 thead th:nth-child({column})"
    sort = f"document.querySelector('{head}').getAttribute('aria-sort')"
    browser.click(f"{head} button")
    assert (browser.run(sort), browser.run(METHODS_SHOWN)) == ("descending", ranked)
    browser.click(f"{head} button")
    assert (browser.run(sort), browser.run(METHODS_SHOWN)) == ("ascending", ["cam", EVIL, "rrm", "broken"])
    browser.click(f"{head} button")
    assert (browser.run(sort), browser.run(METHODS_SHOWN)) == (None, ranked)


def test_words_and_badges_filter_rows_by_keyboard_alone(browser: Any) -> None:
    browser.run("document.querySelector('#table-1-grid-1 input[type=search]').focus()")
    browser.send("Input.insertText", text="RRM 0.3")
    browser.settle()
    assert browser.run(METHODS_SHOWN) == ["rrm"]
    assert browser.run("document.querySelector('#table-1-grid-1 .count').textContent") == "1 of 4 rows"
    for _ in range(7):
        browser.press("Backspace", 8)
    assert len(browser.run(METHODS_SHOWN)) == 4
    browser.press("Tab", 9)
    focused = "document.activeElement.textContent"
    chip = browser.run(focused)
    assert "failed" in chip
    assert browser.run("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    browser.press(" ", 32)
    assert browser.run(METHODS_SHOWN) == ["broken"]
    assert browser.run("document.activeElement.getAttribute('aria-pressed')") == "true"
    browser.press(" ", 32)
    assert len(browser.run(METHODS_SHOWN)) == 4


def test_figures_are_shown_whole_and_their_numbers_open(browser: Any) -> None:
    figure = "document.querySelector('#table-1-figure-0')"
    browser.run(f"{figure}.scrollIntoView({{block: 'center'}})")
    browser.settle()
    assert browser.run(f"{figure}.querySelector('img').naturalWidth") > 500
    assert browser.run(f"{figure}.querySelector('tbody').checkVisibility()") is False
    browser.click("#table-1-figure-0 summary")
    assert browser.run(f"{figure}.querySelector('tbody').checkVisibility()") is True
    rows = f"[...{figure}.querySelectorAll('tbody tr')].map(r => r.cells[0].textContent)"
    assert len(browser.run(rows)) == 1 + len(CLASSES)


def test_the_divider_moves_by_key_and_by_mouse(browser: Any) -> None:
    edge = (
        "(s => s.querySelector('.edge').getBoundingClientRect().x - s.getBoundingClientRect().x)"
        "(document.querySelector('.stage')) / document.querySelector('.stage').clientWidth"
    )
    assert abs(browser.run(edge) - 0.5) < 0.02
    browser.run("document.querySelector('.cut').focus()")
    browser.press("Home", 36)
    assert browser.run("document.querySelector('.cut').value") == "0"
    assert abs(browser.run(edge)) < 0.02
    browser.click(".stage")
    assert abs(browser.run(edge) - 0.5) < 0.05
    assert browser.run("getComputedStyle(document.querySelector('.second')).clipPath").startswith(
        "inset(0px 0px 0px 5"
    )
    browser.click(".shot:nth-of-type(3) .look")
    chosen = browser.run("document.querySelector('.which').value")
    assert chosen == browser.run("document.querySelector('.shot:nth-of-type(3) .look').dataset.figure")
    assert browser.run("document.querySelector('.first').getAttribute('aria-label')").startswith(
        "truth of val"
    )


def test_dark_follows_the_system_until_the_reader_chooses(browser: Any) -> None:
    back = "getComputedStyle(document.body).backgroundColor"
    browser.look(1200, 900, "dark")
    dark = browser.run(back)
    browser.click("#theme")
    light = browser.run(back)
    assert (dark, light) == ("rgb(15, 19, 23)", "rgb(255, 255, 255)")
    assert browser.run("document.getElementById('theme').textContent") == "Dark colours"
    browser.look(1200, 900, "light")


def test_on_a_phone_nothing_but_tables_and_charts_scrolls_sideways(browser: Any) -> None:
    browser.look(390, 844)
    browser.open(browser.file)
    assert browser.run("document.documentElement.scrollWidth") <= 390
    browser.look(1200, 900)


def test_the_browser_had_nothing_to_complain_about_and_asked_for_the_file_alone(browser: Any) -> None:
    browser.open(browser.file)
    browser.run("document.querySelectorAll('figure.chart').forEach(f => f.scrollIntoView())")
    browser.settle()
    assert browser.problems == []
    assert {r for r in browser.requests if not r.startswith("data:")} == {browser.file.as_uri()}
