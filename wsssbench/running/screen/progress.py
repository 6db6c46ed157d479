"""What a person sees while a run goes on: one quiet area in a terminal (`live_view`), plain lines
elsewhere. Never on stdout."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from wsssbench.running.screen.tasks import Task

if TYPE_CHECKING:
    from wsssbench.running.screen.live_view import LiveView

BARE = ("dumb", "unknown")  # terminals in which no line can be written twice


class Progress:
    """Announces tasks and their progress on stderr."""

    def __init__(self, stream: TextIO | None = None, *, quiet: bool = False) -> None:
        self.stream = stream or sys.stderr
        self.quiet = quiet
        logging.getLogger("wsssbench").setLevel(logging.ERROR if quiet else logging.NOTSET)
        self.fancy = not quiet and self.stream.isatty() and os.environ.get("TERM", "dumb") not in BARE
        self.view: LiveView | None = None

    def say(self, text: str) -> None:
        """One line of talk; in a terminal it stands above the live area."""
        if self.quiet:
            return
        if self.view is not None:
            self.view.say(text)
        else:
            print(text, file=self.stream, flush=True)

    @contextmanager
    def live(self) -> Iterator[None]:
        """While inside, a terminal shows what goes on in one area below all that is said.

        It is gone at the end, also after an error. Elsewhere, and inside another one, this does nothing.
        """
        if not self.fancy or self.view is not None:
            yield
            return
        from wsssbench.running.screen.live_view import LiveView

        with LiveView(self.stream) as self.view:
            try:
                yield
            finally:
                self.view = None

    def heading(self, text: str, place: str = "") -> None:
        """What the next tasks are for, and where that stands: `cell 2 of 6`. Shown in a live area alone."""
        if self.view is not None:
            self.view.begin(text, place)

    @contextmanager
    def task(self, title: str) -> Iterator[Task]:
        """A unit of work called `title`; update it through the yielded task."""
        alone = self.view is None
        with self.live():
            view = self.view
            task = Task(title, self.say if view is None else None)
            if view is None:
                yield task
            else:
                with view.showing(task):
                    yield task
        if alone and task.unsaid:
            self.say(str(task))
