"""How bash, zsh and fish ask for completions and are told: click's ways, with two things mended.

Bash splits words at `=` and cannot tell a quoted `>` from one that redirects, so the whole line is handed
over; and no space follows what goes on, as `cam.` and `cam.steps=`. What is completed is
`wsssbench.cli.completion`.
"""

from __future__ import annotations

import os

from click.shell_completion import (
    BashComplete,
    CompletionItem,
    FishComplete,
    ShellComplete,
    ZshComplete,
    add_completion_class,
    split_arg_string,
)

VARIABLE = "_WSSSBENCH_COMPLETE"
OPEN = (".", "=")  # the last letter of what goes on
BASH = r"""%(complete_func)s() {
    local type value
    COMPREPLY=()
    while IFS=, read -r type value; do
        case $type in
            dir) compopt -o dirnames ;;
            file) compopt -o default ;;
            open) compopt -o nospace; COMPREPLY+=("$value") ;;
            plain) COMPREPLY+=("$value") ;;
        esac
    done < <(COMP_LINE="${COMP_LINE:0:COMP_POINT}" %(complete_var)s=bash_complete "$1" 2>/dev/null)
}
complete -o nosort -F %(complete_func)s %(prog_name)s
"""
DIR = 'elif [[ "$type" == "dir" ]]; then'
ZSH_OPEN = (
    f'elif [[ "$type" == "open" ]]; then\n            compadd -U -S "" -V unsorted -- "$key"\n        {DIR}'
)


def item_type(item: CompletionItem) -> str:
    """The type of a completion, "open" where a word goes on after it."""
    goes_on = item.type == "plain" and item.value.endswith(OPEN)
    return "open" if goes_on else item.type


@add_completion_class
class Bash(BashComplete):
    """Words come from the line up to the cursor."""

    source_template = BASH

    def source(self) -> str:
        return self.source_template % self.source_vars()

    def get_completion_args(self) -> tuple[list[str], str]:
        line = os.environ.get("COMP_LINE", "")
        words = split_arg_string(line)[1:]
        return (words, "") if line[-1:].isspace() or not words else (words[:-1], words[-1])

    def format_completion(self, item: CompletionItem) -> str:
        value = item.value.rpartition("=")[2] if not item.value.endswith("=") else item.value
        return f"{item_type(item)},{value}"


@add_completion_class
class Zsh(ZshComplete):
    """Without a space after what goes on."""

    source_template = ZshComplete.source_template.replace(DIR, ZSH_OPEN)

    def format_completion(self, item: CompletionItem) -> str:
        return super().format_completion(CompletionItem(item.value, item_type(item), item.help))


CLASSES: dict[str, type[ShellComplete]] = {"bash": Bash, "zsh": Zsh, "fish": FishComplete}
