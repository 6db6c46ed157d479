"""Images are worked on in order whoever works on them, by threads only once they take long, and no image is
begun after one has failed, but for the few that are ahead."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from wsssbench.judging import in_order as room
from wsssbench.judging.in_order import in_order

IDS = [f"{n:02}" for n in range(60)]
THREADS = 3


class Clock:
    """Stands in for `time`; an image takes as long as `seconds` says when it is worked on."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now


class Work:
    """Notes by which thread each image was worked on; the images of `slow` take long, that of `bad` fails."""

    def __init__(self, clock: Clock, slow: list[str], bad: str = "") -> None:
        self.clock, self.slow, self.bad = clock, slow, bad
        self.by: dict[str, int] = {}

    def __call__(self, id: str) -> str:
        self.by[id] = threading.get_ident()
        self.clock.now += 2 * room.WORTH_SECONDS if id in self.slow else room.WORTH_SECONDS / 2
        if id == self.bad:
            raise ValueError(id)
        return f"of {id}"

    def elsewhere(self) -> list[str]:
        return sorted(id for id, thread in self.by.items() if thread != threading.get_ident())


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    monkeypatch.setattr(room, "time", clock := Clock())
    return clock


def rarely_slow() -> list[str]:
    return [id for n, id in enumerate(IDS) if n % room.SLOW_IN_A_ROW]  # one quick one in between


@pytest.mark.parametrize("slow", [[], rarely_slow()], ids=["none", "never that many in a row"])
def test_quick_images_stay_with_the_caller(clock: Clock, slow: list[str]) -> None:
    work = Work(clock, slow)
    assert list(in_order(work, IDS, THREADS)) == [f"of {id}" for id in IDS]
    assert work.elsewhere() == []


def test_threads_take_over_after_a_few_slow_images_in_a_row(clock: Clock) -> None:
    work = Work(clock, IDS[10:])
    assert list(in_order(work, IDS, THREADS)) == [f"of {id}" for id in IDS]
    assert work.elsewhere() == IDS[10 + room.SLOW_IN_A_ROW :]


def test_one_thread_is_the_callers(clock: Clock) -> None:
    work = Work(clock, IDS)
    assert list(in_order(work, IDS, 1)) == [f"of {id}" for id in IDS]
    assert work.elsewhere() == []


@pytest.mark.parametrize("count", range(8))
def test_splits_of_few_images_come_whole(clock: Clock, count: int) -> None:
    work = Work(clock, IDS)
    assert list(in_order(work, IDS[:count], THREADS)) == [f"of {id}" for id in IDS[:count]]


@pytest.mark.parametrize("slow", [[], IDS], ids=["alone", "by threads"])
def test_the_first_that_fails_ends_it_and_few_are_begun_behind_it(clock: Clock, slow: list[str]) -> None:
    work = Work(clock, slow, bad="20")
    found: list[str] = []
    with pytest.raises(ValueError, match="20"):
        found.extend(in_order(work, IDS, THREADS))
    assert found == [f"of {id}" for id in IDS[:20]]
    assert max(work.by) <= IDS[20 + 2 * THREADS]


def test_few_images_are_ahead_of_the_caller(clock: Clock) -> None:
    work = Work(clock, IDS)
    results: Iterator[str] = in_order(work, IDS, THREADS)
    taken = [next(results) for _ in range(20)]
    assert taken == [f"of {id}" for id in IDS[:20]]
    assert len(work.by) <= 20 + 2 * THREADS
    results.close()  # type: ignore[attr-defined]
    assert len(work.by) <= 20 + 2 * THREADS
