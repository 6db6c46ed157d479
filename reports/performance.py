"""Speed beside peers: what pytest-benchmark measured in tests/perf, as the tables of performance.md.

python reports/performance.py FILE...    keeps the numbers of FILE (--benchmark-json of tests/perf) beside the
                                         page, in performance/cpu.json, those made on a GPU (`-m gpu`) in
                                         performance/gpu.json, and writes the page's tables anew
"""

from __future__ import annotations

import argparse
import json
import re
import runpy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tabulate import tabulate

HERE = Path(__file__).resolve().parent
PAGE, FOLDER = HERE / "performance.md", HERE / "performance"
FLOORS = runpy.run_path(str(HERE / "performance_floors.py"))
CPU, GPU, FILTERS, STEP = "cpu.json", "gpu.json", "gpu_floors.json", "step_floors.json"
BUSY = 0.1  # share of the cores' time from which on others disturb a measurement
STATISTICS = ("median", "q1", "q3", "rounds")
BARS = ("what", "threads", "ours", "peer", "its time", "ratio [quartiles]", "bar", "met")
GROUPS = (
    "mining", "dense CRF", "dense energy", "scoring", "memory", "growth", "training", "main job", "inference",
    "drawing",
)  # fmt: skip
NO_GPU = "not run: no GPU at hand"
GPU_BARS = (  # the row's name in `extra_info`, what stands where it was not run, the bar in its own unit
    ("mining", "reliable labels of 4 crops of 321x321", "under 10 ms", 10.0),
    ("energy", "dense energy of 4 crops, forward and backward", "under 5 ms", 5.0),
    ("crf", "dense CRF of 500x375, 21 labels, 10 iterations, in a batch", "under 10 ms an image", 10.0),
    ("paper", "training step of rrm, preset `paper`", "at least 13.3 steps/s", 13.3),
    ("peer", "the same beside mining and energy by pydensecrf in worker processes", "shown beside", 0.0),
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
    commits = dict.fromkeys(m["commit_info"].get("id", "")[:10] for m in measured)
    return {
        "measured": first["datetime"][:10],
        "commit": ", ".join(commits),
        "changed_since": any(m["commit_info"].get("dirty") for m in measured),
        "machine": {**first["machine_info"], "load_average": max(loads)},
        "cases": list(cases.values()),
    }


def _slim_case(case: Mapping[str, Any]) -> dict[str, Any]:
    stats = {name: float(f"{case['stats'][name]:.4g}") for name in STATISTICS}
    return {"name": case["name"], "group": case["group"], **case["extra_info"], "seconds": stats}


# ------------------------------------------------------------------------------------------------- tables


def text_of(files: Sequence[Path]) -> str:
    """All tables of this report: of the file of the CPU, and of those of the GPU that there are."""
    found = {path.name: json.loads(path.read_text(encoding="utf-8")) for path in files}
    kept, more = found[CPU], [found[name] for name in (GPU,) if name in found]
    on_gpu: list[Case] = [case for gpu in more for case in gpu["cases"]]
    cases: list[Case] = sorted(kept["cases"], key=lambda case: GROUPS.index(case["group"]))
    parts = [
        provenance(kept),
        *(provenance(gpu) for gpu in more),
        "## Bars",
        table([*bar_rows(cases), *gpu_rows(on_gpu, more)], BARS),
        "A ratio says how many times as fast ours is; where a bar says `at most`, it is ours over theirs.",
        "## Beside peers, without a bar",
        table([row for case in cases for row in beside_rows(case, bars=False)], BARS[:-2]),
        *notes(cases),
        "## Inference",
        table(inference_rows(cases)),
        *gpu_parts(on_gpu, found.get(FILTERS), found.get(STEP)),
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
    gpu = f"one {machine['gpu']} (CUDA {machine['cuda']}) and " if "gpu" in machine else ""
    text = (
        f"Measured on {kept['measured']} at commit {commit}, on {gpu}{machine['cores']} cores of "
        f"{machine['cpu']}{features}; load average at the start {load:.2f}. Versions: {versions}."
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
    """A row for each bar that is of the CPU: beside a peer, of memory, of growth, of a time."""
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
            if "anchor" in case["limit"]:
                row |= {"peer": case["limit"]["anchor"], "its time": time(case["limit"]["anchor_seconds"])}
            yield {**row, "bar": f"at most {bar} s", "met": yes(seconds <= bar, case)}
    if not any("limit" in case for case in cases):
        yield {"what": "the main job on shapes", "bar": "at most 120 s", "met": "not run"}


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


def gpu_rows(cases: Sequence[Case], measured: Sequence[Mapping[str, Any]]) -> Iterator[Row]:
    """A row for each bar of the GPU, on which GPU it was measured; those that were not stand empty."""
    found = {case["gpu"]["row"]: case for case in cases}
    name = measured[0]["machine"]["gpu"] if measured else "H200"
    for row, what, bar, limit in GPU_BARS:
        case = found.get(row)
        if case is None:
            yield {"what": f"GPU ({name}): {what}", "bar": bar, "met": NO_GPU}
            continue
        rate, value = "per_second" in case["gpu"], gpu_value(case)
        met = value >= limit if rate else value <= limit
        ours = f"{value:.1f} steps/s" if rate else f"{value:.2f} ms"
        shown = {"what": f"GPU ({name}): {case['what']}", "ours": ours, "bar": bar}
        yield {**shown, "met": yes(met, case) if limit else ""}


def gpu_value(case: Case) -> float:
    """Steps a second of a training, else milliseconds of a call or, of the CRF, of an image."""
    gpu = case["gpu"]
    if "per_second" in gpu:
        return float(gpu["per_second"])
    return float(1000 * case["seconds"]["median"] / (gpu["images"] if gpu["row"] == "crf" else 1))


def gpu_parts(cases: Sequence[Case], filters: Any, step: Any) -> Iterator[str]:
    """What was measured on a GPU, and the least that it could take, counted where there is none."""
    if cases:
        yield "## On a GPU"
        yield table(gpu_case(case) for case in cases)
    yield from FLOORS["parts"](filters, step, table)


def gpu_case(case: Case) -> Row:
    """Time of a call or step with quartiles, images or steps a second, and memory."""
    gpu, stats = case["gpu"], case["seconds"]
    if "per_second" in gpu:
        spread = [gpu[name] for name in ("median_ms", "quartile1_ms", "quartile3_ms")]
        rate = f"{gpu['per_second']:.1f} steps/s"
    else:
        spread = [1000 * stats[name] for name in ("median", "q1", "q3")]
        rate = f"{gpu['images'] / stats['median']:.1f} images/s" if "images" in gpu else ""
    peak = gpu.get("peak_bytes")
    return {
        "what": case["what"],
        "median ms [quartiles]": "{:.2f} [{:.2f}, {:.2f}]".format(*spread),
        "rate": rate,
        "peak MB": "" if peak is None else f"{peak / 1e6:.0f}",
        "checked": gpu.get("note", ""),
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
    measured = [json.loads(path.read_text(encoding="utf-8")) for path in given.files]
    FOLDER.mkdir(exist_ok=True)
    for name, group in by_device(measured).items():
        kept = slim(group)
        (FOLDER / name).write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
        print(f"written: {FOLDER.name}/{name}")
    text = with_sources(PAGE.read_text(encoding="utf-8"))
    render = runpy.run_path(str(HERE / "render.py"))["render"]
    PAGE.write_text(render(text), encoding="utf-8")
    print(f"written: {PAGE.name}")


def by_device(measured: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """Files of pytest-benchmark by the file that keeps their numbers; none of a device without any."""
    on_gpu = ["gpu" in each["machine_info"] for each in measured]
    groups = {CPU: False, GPU: True}
    found = {
        name: [each for each, own in zip(measured, on_gpu, strict=True) if own == wanted]
        for name, wanted in groups.items()
    }
    return {name: group for name, group in found.items() if group}


def with_sources(text: str) -> str:
    """The page's text, its marked part naming the files that are kept."""
    names = " ".join(name for name in (CPU, GPU, FILTERS, STEP) if (FOLDER / name).exists())
    return re.sub(r"<!-- performance: .+? -->", f"<!-- performance: {names} -->", text)


if __name__ == "__main__":
    main()
