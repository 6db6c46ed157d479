"""The words of `wsssbench completion`: the script by which a shell completes commands, names and options."""

from __future__ import annotations

import click

PROGRAM = "wsssbench"


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the script that lets SHELL complete commands, names of methods and data sets, and -o keys."""
    from wsssbench.cli.shells import CLASSES, VARIABLE

    click.echo(
        CLASSES[shell](click.get_current_context().find_root().command, {}, PROGRAM, VARIABLE)
        .source()
        .strip()
    )
