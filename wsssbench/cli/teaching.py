"""What --help teaches beside the options: examples that can be typed and what comes next, which each command
has at the end of its docstring, and in which order commands are met.
"""

from __future__ import annotations

from collections.abc import Mapping
from inspect import cleandoc

import click

SECTIONS: Mapping[str, tuple[str, ...]] = {
    "Run and judge": ("run", "score", "merge", "predict", "bench"),
    "Read the results": ("report", "compare", "errors", "mined", "plot", "paper"),
    "Trust and share": ("verify", "gate", "export"),
    "Look up and extend": ("list", "show", "prepare", "check", "new", "weights"),
    "Maintain": ("doctor", "clean", "completion"),
}
EXAMPLES = "Examples:\n"


def teach(command: click.Command) -> None:
    """Show the examples of `command`, and of those below it, after its options, each in one line."""
    text, found, examples = cleandoc(command.help or "").partition(EXAMPLES)
    if found:
        command.help, command.epilog = text.strip(), f"\b\n{EXAMPLES}{examples}"
    for below in command.commands.values() if isinstance(command, click.Group) else ():
        teach(below)


def examples_of(command: click.Command) -> list[str]:
    """What its help has as examples, first the simplest."""
    lines = (command.epilog or "").partition(EXAMPLES)[2].partition("\n\n")[0].splitlines()
    return [line.strip() for line in lines]


def write_sections(ctx: click.Context, group: click.Group, formatter: click.HelpFormatter) -> None:
    """The commands of `group` under the headings of SECTIONS, those of no section last."""
    placed = {name for names in SECTIONS.values() for name in names}
    rest = tuple(name for name in group.list_commands(ctx) if name not in placed)
    for title, names in (*SECTIONS.items(), ("Others", rest)):
        known = [(name, group.get_command(ctx, name)) for name in names]
        lines = [(name, command.get_short_help_str(100)) for name, command in known if command]
        if lines:
            with formatter.section(title):
                formatter.write_dl(lines)
