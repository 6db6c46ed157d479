"""What --help teaches beside the options: examples that can be typed, what comes next, and in which order
commands are met. Texts alone; a command that has none here is found by the tests.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import click

SECTIONS: Mapping[str, tuple[str, ...]] = {
    "Run and judge": ("run", "score", "merge", "predict", "bench"),
    "Read the results": ("report", "compare", "errors", "plot", "paper"),
    "Trust and share": ("verify", "gate", "export"),
    "Look up and extend": ("list", "show", "prepare", "check", "new", "weights"),
    "Keep house": ("doctor", "clean", "completion"),
}


class Lesson(NamedTuple):
    """Examples, and a sentence about what comes next."""

    examples: tuple[str, ...]
    next: str


LESSONS: Mapping[str, Lesson] = {
    "": Lesson(
        (
            "wsssbench doctor",
            "wsssbench run --method constant --method cam --dataset shapes",
            "wsssbench report --html report.html",
        ),
        "`wsssbench COMMAND --help` has examples of each command.",
    ),
    "run": Lesson(
        (
            "wsssbench run --method cam --method rrm --dataset shapes --seeds 0,1,2",
            'wsssbench run --method "cam > crf" --dataset voc12 -o voc12.root=FOLDER --stages pseudo',
            "wsssbench run --plugin my.py --method my --dataset shapes --dry-run",
            "wsssbench run --method cam --dataset shapes --seeds 0,1,2,3 --jobs 4",
            "wsssbench run --method cam --dataset shapes --executor slurm -o slurm.partition=gpu",
        ),
        "`wsssbench report` for the tables, `wsssbench compare rrm cam` for differences with intervals.",
    ),
    "bench": Lesson(
        ("wsssbench bench --method cam --method rrm --dataset shapes",), "`wsssbench report` has the tables."
    ),
    "report": Lesson(
        (
            "wsssbench report",
            "wsssbench report runs --format csv --out rows.csv",
            "wsssbench report runs --html report.html -o voc12.root=FOLDER",
        ),
        "`wsssbench compare A B` says whether a difference is more than chance.",
    ),
    "compare": Lesson(
        ("wsssbench compare rrm cam cam+crf --stage seg",),
        "`wsssbench errors rrm cam --stage seg` says where the difference comes from.",
    ),
    "errors": Lesson(
        ("wsssbench errors rrm cam --stage seg", "wsssbench errors runs/shapes/cam/seed0/seg-val-1a2b3c4d"),
        "`wsssbench report --html report.html` shows the images.",
    ),
    "gate": Lesson(
        (
            "wsssbench gate runs --baseline baselines/shapes.json --write",
            "wsssbench gate runs --baseline baselines/shapes.json",
        ),
        "with exit code 1, `wsssbench compare` and `wsssbench errors` say what got worse.",
    ),
    "score": Lesson(
        (
            "wsssbench score masks --dataset voc12 -o voc12.root=FOLDER --as irn --supervision tags",
            "wsssbench score out/cam --dataset voc12 --stage seed --as irn --threshold 0.15",
            "wsssbench score out --dataset voc12 --as irn --format help",
        ),
        "`wsssbench report` has the row beside those of `run`.",
    ),
    "merge": Lesson(
        (
            "wsssbench score masks --dataset voc12 -o voc12.root=FOLDER --as irn --runs parts --shard 1/4",
            "wsssbench merge parts",
            "wsssbench merge from-node-1 from-node-2 --runs runs",
        ),
        "`wsssbench report` has the row beside those of `run`; the shards may be removed.",
    ),
    "list": Lesson(
        ("wsssbench list", "wsssbench list --check"), "`wsssbench show NAME` has the page of one of them."
    ),
    "show": Lesson(
        ("wsssbench show rrm", "wsssbench show shapes", "wsssbench show seg+crf"),
        "an option is set with -o, as `wsssbench run --method rrm --dataset shapes -o rrm.steps=100`.",
    ),
    "check": Lesson(
        ("wsssbench check cam", "wsssbench check my --plugin my.py"),
        "`wsssbench run --plugin my.py --method my --dataset shapes`.",
    ),
    "prepare": Lesson(
        ("wsssbench prepare shapes", "wsssbench prepare voc12 -o voc12.root=FOLDER"),
        "`wsssbench run --method cam --dataset voc12 -o voc12.root=FOLDER --limit 8` tries it.",
    ),
    "doctor": Lesson(("wsssbench doctor",), "`wsssbench run --method constant --dataset shapes`."),
    "clean": Lesson(
        ("wsssbench clean", "wsssbench clean runs --artifacts", "wsssbench clean runs --artifacts --yes"),
        "what was removed is made again by the next `wsssbench run` that needs it.",
    ),
    "predict": Lesson(
        ("wsssbench predict photo.jpg --run runs/shapes/cam/seed0/seg-val-1a2b3c4d --out predictions",),
        "look at predictions/photo_overlay.png.",
    ),
    "weights": Lesson(
        ("wsssbench weights inspect resnet50.pth",), "`wsssbench run ... --weights cam=resnet50.pth`."
    ),
    "weights inspect": Lesson(
        ("wsssbench weights inspect resnet50.pth", "wsssbench weights inspect ilsvrc.params --json"),
        "`wsssbench run ... -o cam.backbone=resnet50 --weights cam=resnet50.pth`.",
    ),
    "new": Lesson(
        ("wsssbench new step my-method", "wsssbench new metric my-metric --out ../plugins"),
        "it says what to type; `wsssbench check my-method` tests the contract.",
    ),
    "paper": Lesson(
        ("wsssbench paper runs --out bundle --method rrm --method cam --stage seg",),
        "compile bundle/*.tex; `wsssbench export records runs records.zip` for the reviewers.",
    ),
    "plot": Lesson(
        ("wsssbench plot runs --out figures --format pdf --method rrm --method cam",),
        "`wsssbench paper` has tables and a figure of masks.",
    ),
    "verify": Lesson(
        ("wsssbench verify", "wsssbench verify runs -o voc12.root=FOLDER --json"),
        "what differs is judged again by `wsssbench run --rerun all`.",
    ),
    "export": Lesson(
        ("wsssbench export records runs records.zip", "wsssbench export png CELL masks"),
        "others read the archive with `wsssbench report records.zip`.",
    ),
    "export records": Lesson(
        ("wsssbench export records runs records.zip",),
        "`wsssbench compare rrm cam --runs records.zip` on any machine, without masks.",
    ),
    "export png": Lesson(
        ("wsssbench export png runs/shapes/cam/seed0/seg-val-1a2b3c4d masks",),
        "`wsssbench score masks --dataset shapes --as copy` reads them again.",
    ),
    "export psa": Lesson(
        ("wsssbench export psa runs/voc12/cam/seed0/seed-train-1a2b3c4d cam_npy",),
        "give the folder to a program that reads PSA's dicts.",
    ),
    "export voc12-test": Lesson(
        ("wsssbench export voc12-test runs/voc12/cam-2step/seed0 -o voc12.root=FOLDER",),
        "send the archive to the VOC evaluation server.",
    ),
    "completion": Lesson(
        (
            """echo 'eval "$(wsssbench completion bash)"' >> ~/.bashrc""",
            """echo 'eval "$(wsssbench completion zsh)"' >> ~/.zshrc""",
            "wsssbench completion fish > ~/.config/fish/completions/wsssbench.fish",
        ),
        "open a new shell and press Tab after `wsssbench run --method `.",
    ),
}


def teach(command: click.Command, words: str = "") -> None:
    """Give `command`, called by `words`, and those below it their examples and what comes next."""
    lesson = LESSONS.get(words)
    if lesson:
        lines = "\n".join(f"  {example}" for example in lesson.examples)
        command.epilog = f"\b\nExamples:\n{lines}\n\nNext: {lesson.next}"
    for name, below in command.commands.items() if isinstance(command, click.Group) else ():
        teach(below, f"{words} {name}".strip())


def example_of(ctx: click.Context) -> str:
    """The first example of the command that `ctx` belongs to, for one who got it wrong; "" without one."""
    words: list[str] = []
    while ctx.parent is not None:
        words.insert(0, ctx.info_name or "")
        ctx = ctx.parent
    lesson = LESSONS.get(" ".join(words))
    return lesson.examples[0] if lesson else ""


def write_sections(ctx: click.Context, group: click.Group, formatter: click.HelpFormatter) -> None:
    """The commands of `group` under the headings of SECTIONS, those of no section last."""
    placed = {name for names in SECTIONS.values() for name in names}
    rest = tuple(name for name in group.list_commands(ctx) if name not in placed)
    for title, names in (*SECTIONS.items(), ("Others", rest)):
        lines = [
            (name, group.commands[name].get_short_help_str(100)) for name in names if name in group.commands
        ]
        if lines:
            with formatter.section(title):
                formatter.write_dl(lines)
