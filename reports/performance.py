"""Speed beside peers: what pytest-benchmark measured in tests/perf, as the tables of performance.md.

python reports/performance.py FILE...    keeps the numbers of FILE (--benchmark-json of tests/perf) beside the
                                         page, in performance/cpu.json, and writes the page's tables anew
"""

from __future__ import annotations

import argparse
import json
import runpy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tabulate import tabulate

HERE = Path(__file__).resolve().parent
PAGE, KEPT = HERE / "performance.md", HERE / "performance" / "cpu.json"
BUSY = 0.1  # share of the cores' time from which on others disturb a measurement
STATISTICS = ("median", "q1", "q3", "rounds")
BARS = ("what", "threads", "ours", "peer", "its time", "ratio [quartiles]", "bar", "met")
GROUPS = (
    "mining", "dense CRF", "dense energy", "scoring", "memory", "growth", "training", "main job", "inference",
    "drawing",
)  # fmt: skip
NO_GPU = "not run: no GPU at hand"
GPU_BARS = (
    ("reliable labels of 4 crops of 321x321", "under 10 ms"),
    ("dense energy of 4 crops, forward and backward", "under 5 ms"),
    ("dense CRF of 500x375, 21 labels, 10 iterations, in a batch", "under 10 ms an image"),
    ("training step of rrm, preset `paper`", "at least 13.3 steps/s"),
    ("the same beside mining and energy by pydensecrf in worker processes", "shown beside"),
)

Case = Mapping[str, Any]  # one benchmark, as `slim` leaves it
Row = dict[str, str]


# --------------------------------------------------------------------------------- from pytest-benchmark


def slim(measured: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What the page needs of pytest-benchmark's files, in one; the machine is that of the first."""
    first = measured[0]
    machines = {json.dumps({**m["machine_info"], "load_average": 0}, sort_keys=True) for m in measured}
    if len(machines) > 1:
        raise SystemExit("these files come from different machines or versions: measure again on one")
    loads = [m["machine_info"].get("load_average", 0.0) for m in measured]
    cases = {case["name"]: _slim_case(case) for m in measured for case in m["benchmarks"]}
    return {
        "measured": first["datetime"][:10],
        "commit": first["commit_info"].get("id", "")[:10],
        "changed_since": bool(first["commit_info"].get("dirty")),
        "machine": {**first["machine_info"], "load_average": max(loads)},
        "cases": list(cases.values()),
    }


def _slim_case(case: Mapping[str, Any]) -> dict[str, Any]:
    stats = {name: float(f"{case['stats'][name]:.4g}") for name in STATISTICS}
    return {"name": case["name"], "group": case["group"], **case["extra_info"], "seconds": stats}


# ------------------------------------------------------------------------------------------------- tables


def text_of(files: Sequence[Path]) -> str:
    """All tables of this report, of the one file in `files`."""
    (path,) = files
    kept = json.loads(path.read_text(encoding="utf-8"))
    cases: list[Case] = sorted(kept["cases"], key=lambda case: GROUPS.index(case["group"]))
    parts = [
        provenance(kept),
        "## Bars",
        table(bar_rows(cases), BARS),
        "A ratio says how many times as fast ours is; where a bar says `at most`, it is ours over theirs.",
        "## Beside peers, without a bar",
        table([row for case in cases for row in beside_rows(case, bars=False)], BARS[:-2]),
        *notes(cases),
        "## Inference",
        table(inference_rows(cases)),
        "## A training step, by phase",
        table(phase_rows(cases)),
        "## Growth",
        "In brackets the cost of one unit.",
        *growth_tables(cases),
        "## Drawing",
        table(drawing_rows(cases)),
    ]
    return "\n\n".join(part for part in parts if part)


def table(rows: Iterable[Mapping[str, str]], heads: Sequence[str] = ()) -> str:
    """A Markdown table; its columns are `heads`, else the keys of the rows as they come."""
    rows = list(rows)
    names = heads or list(dict.fromkeys(name for row in rows for name in row))
    cells = [[row.get(name, "") for name in names] for row in rows]
    return tabulate(cells, names, "github", disable_numparse=True) if rows else "Not measured."


def provenance(kept: Mapping[str, Any]) -> str:
    """Machine, versions and whether it was idle."""
    machine, cases = kept["machine"], kept["cases"]
    features = f" ({', '.join(machine['features'])})" if machine["features"] else ""
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    commit = kept["commit"] + (" with changes" if kept["changed_since"] else "")
    load = machine["load_average"]
    text = (
        f"Measured on {kept['measured']} at commit {commit}, on {machine['cores']} cores of {machine['cpu']}"
        f"{features}; load average at the start {load:.2f}. Versions: {versions}."
    )
    disturbed = [case for case in cases if busy(case)]
    if disturbed:
        text += (
            f"\n\n**The machine was not idle**: in {len(disturbed)} of {len(cases)} measurements other "
            f"processes took more than {BUSY:.0%} of the cores' time (marked `busy`). These figures are "
            "provisional: measure again on idle cores."
        )
    return text


def bar_rows(cases: Sequence[Case]) -> Iterator[Row]:
    """A row for each bar: beside a peer, of memory, of growth, of a time; those of the GPU stand empty."""
    for case in cases:
        yield from beside_rows(case, bars=True)
    for case in cases:
        if "memory" in case:
            mb, bar = case["memory"]["mb"], case["memory"]["bar"]
            row = {"what": f"memory above the inputs: {case['what']}", "ours": f"{mb} MB"}
            yield {**row, "bar": f"under {bar} MB", "met": yes(mb < bar)}
        if "near_linear" in case:
            n = case["near_linear"]
            what = (
                f"cost of a pixel at {n['to']}x{n['to']} over that at {n['from']}x{n['from']}: {case['what']}"
            )
            row = {"what": what, "threads": str(case["threads"]), "ratio [quartiles]": f"{n['ratio']:.2f}"}
            yield {**row, "bar": f"at most {n['bar']:g}", "met": yes(n["met"], case)}
        if "limit" in case:
            seconds, bar = case["seconds"]["median"], case["limit"]["bar"]
            row = {"what": case["what"], "threads": str(case["threads"]), "ours": f"{seconds:.0f} s"}
            yield {**row, "bar": f"at most {bar} s", "met": yes(seconds <= bar, case)}
    if not any("limit" in case for case in cases):
        yield {"what": "the main job on shapes", "bar": "at most 120 s", "met": "not run"}
    for what, bar in GPU_BARS:
        yield {"what": f"GPU (H200): {what}", "bar": bar, "met": NO_GPU}


def beside_rows(case: Case, *, bars: bool) -> Iterator[Row]:
    """A row for each peer that has a bar (or has none); inference and training have tables of their own."""
    for peer in case.get("beside", []):
        if bool(peer["bar"]) != bars or case["group"] in ("inference", "training"):
            continue
        aim = f", aim {peer['aim']:g}" if peer["aim"] else ""
        ratio, quartiles = peer["ratio"], peer["ratio_quartiles"]
        yield {
            "what": case["what"],
            "threads": str(case["threads"]),
            "ours": time(case["seconds"]["median"]),
            "peer": peer["peer"],
            "its time": time(peer["peer_seconds"]),
            "ratio [quartiles]": f"{ratio:.2f} [{quartiles[0]:.2f}, {quartiles[1]:.2f}]"
            + ("" if bars else mark(case)),
            "bar": f"{'at most' if peer['at_most'] else 'at least'} {peer['bar']:g}{aim}",
            "met": yes(peer["met"], case),
        }


def notes(cases: Sequence[Case]) -> list[str]:
    """What was checked while measuring."""
    found = {case["what"]: case["note"] for case in cases if "note" in case}
    return (
        ["Checked in the same run: " + "; ".join(f"{k}: {v}" for k, v in found.items()) + "."]
        if found
        else []
    )


def inference_rows(cases: Sequence[Case]) -> Iterator[Row]:
    """Images per second of a batch, and of the same images one after the other."""
    for case in cases:
        for peer in case.get("beside", []) if case["group"] == "inference" else ():
            yield {
                "stage": case["what"],
                "images/s": f"{case['images'] / case['seconds']['median']:.1f}",
                "image after image": f"{case['images'] / peer['peer_seconds']:.1f}",
                "ratio [quartiles]": "{:.2f} [{:.2f}, {:.2f}]".format(peer["ratio"], *peer["ratio_quartiles"])
                + mark(case),
            }


def phase_rows(cases: Sequence[Case]) -> Iterator[Row]:
    """Ours by phase (means; `rest` is what lies in none), and the whole step beside its peer's."""
    for case in cases:
        if "phases_ms" not in case:
            continue
        (peer,), whole = case["beside"], case["seconds"]["median"]
        phases = case["phases_ms"]
        rest = max(0.0, 1000 * whole - sum(phases.values()))
        yield {
            "what": case["what"] + mark(case),
            "ours": time(whole),
            **{name: f"{value:.0f} ms" for name, value in {**phases, "rest": rest}.items()},
            peer["peer"]: time(peer["peer_seconds"]),
            "ratio [quartiles]": "{:.2f} [{:.2f}, {:.2f}]".format(peer["ratio"], *peer["ratio_quartiles"]),
        }


def growth_tables(cases: Sequence[Case]) -> Iterator[str]:
    """A table for each axis, a line for each size, a column for each operation."""
    axes: dict[str, list[Case]] = {}
    for case in cases:
        if "growth" in case:
            axes.setdefault(case["growth"]["axis"], []).append(case)
    for axis, group in axes.items():
        rows: dict[int, Row] = {}
        for case in group:
            per = case["growth"]["per"]
            for line in case["growth"]["lines"]:
                size, seconds = line["size"], line["seconds"]
                unit = seconds / (size**2 if per == "pixel" else size)
                row = rows.setdefault(size, {axis: str(size)})
                cost = f" ({time(unit)} {'an' if per[0] in 'aeiou' else 'a'} {per})" if per else ""
                row[f"{case['what']}{mark(case)}"] = time(seconds) + cost
        yield table(rows[size] for size in sorted(rows))


def drawing_rows(cases: Sequence[Case]) -> Iterator[Row]:
    for case in cases:
        if case["group"] == "drawing":
            each = case["seconds"]["median"] / case["images"]
            yield {"what": case["what"] + mark(case), "an image": time(each)}


# -------------------------------------------------------------------------------------------------- words


def busy(case: Case) -> bool:
    return bool(case.get("others_busy", 0.0) > BUSY)


def mark(case: Case) -> str:
    return " (busy)" if busy(case) else ""


def yes(met: bool | None, case: Case | None = None) -> str:
    return ("yes" if met else "**no**") + (mark(case) if case else "")


def time(seconds: float) -> str:
    """Three digits in the unit that suits them."""
    units = (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6), ("ns", 1e-9))
    unit, size = next((u for u in units if seconds >= 0.9995 * u[1]), units[-1])
    value = seconds / size
    return f"{value:.0f} {unit}" if value >= 99.95 else f"{value:.3g} {unit}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("files", type=Path, nargs="+")
    given = parser.parse_args()
    kept = slim([json.loads(path.read_text(encoding="utf-8")) for path in given.files])
    KEPT.parent.mkdir(exist_ok=True)
    KEPT.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    render = runpy.run_path(str(HERE / "render.py"))["render"]
    PAGE.write_text(render(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    print(f"written: {KEPT.relative_to(HERE)}, {PAGE.name}")


if __name__ == "__main__":
    main()
