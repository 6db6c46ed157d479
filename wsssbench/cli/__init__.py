"""The command line: click words alone. What a command does lies in `wsssbench.commands`."""

from wsssbench.cli.main import main

__all__ = ["main"]
