"""`wsssbench completion`: the script by which a shell asks the program what could come next.

The scripts and the protocol are click's, with two corrections. Bash splits words at `=`, so it hands over the
whole line; and bash and zsh put no space after what goes on, such as `cam.` and `cam.steps=`. What is
completed is `wsssbench.cli.completion`.
"""

from __future__ import annotations

import os

import click
from click.shell_completion import (
    BashComplete,
    CompletionItem,
    ZshComplete,
    add_completion_class,
    get_completion_class,
    split_arg_string,
)

PROGRAM, VARIABLE = "wsssbench", "_WSSSBENCH_COMPLETE"


@add_completion_class
class Bash(BashComplete):
    """Words come from the line up to the cursor."""

    source_template = BashComplete.source_template.replace(
        "env COMP", 'env COMP_LINE="${COMP_LINE:0:COMP_POINT}" COMP'
    ).replace("COMPREPLY+=($value)", "COMPREPLY+=($value); [[ $value == *[.=] ]] && compopt -o nospace")

    def get_completion_args(self) -> tuple[list[str], str]:
        line = os.environ.get("COMP_LINE", "")
        words = split_arg_string(line)[1:]
        return (words, "") if line[-1:].isspace() or not words else (words[:-1], words[-1])

    def format_completion(self, item: CompletionItem) -> str:
        """Bash replaces what stands after the last `=`."""
        return f"{item.type},{item.value.rpartition('=')[2] or item.value}"


@add_completion_class
class Zsh(ZshComplete):
    """Without a space after what goes on."""

    source_template = ZshComplete.source_template.replace(
        'if [[ "$descr" == "_" ]]; then',
        'if [[ "$key" == *[.=] ]]; then\n                compadd -U -S "" -V unsorted -- "$key"\n'
        '            elif [[ "$descr" == "_" ]]; then',
    )


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the script that lets SHELL complete commands, names of methods and data sets, and -o keys.

    Examples:
      echo 'eval "$(wsssbench completion bash)"' >> ~/.bashrc
      echo 'eval "$(wsssbench completion zsh)"' >> ~/.zshrc
      wsssbench completion fish > ~/.config/fish/completions/wsssbench.fish

    Next: open a new shell and press Tab after `wsssbench run --method `.
    """
    found = get_completion_class(shell)
    assert found is not None  # one of the choices
    click.echo(found(click.get_current_context().find_root().command, {}, PROGRAM, VARIABLE).source().strip())
