"""Work on the images of a split, one result after the other in the order of the ids; threads only where they
pay. What is done with an image, and with its result, must not enter.

Reading and counting a plain mask is a score of calls of some ten microseconds each, which let the
interpreter's lock go and want it back: two idle cores wait for each other so often that they take up to
1.6 times as long as one. An image that takes long spends it in few calls, and threads share those.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

Result = TypeVar("Result")

WORTH_SECONDS = 0.0015  # of one image from which threads pay; a plain pair of 500x375 takes a third of it
SLOW_IN_A_ROW = 4  # images that long after which the threads begin: a first one imports, another may wait


def in_order(work: Callable[[str], Result], ids: Sequence[str], threads: int) -> Iterator[Result]:
    """`work` of each id, in order, each asked for before the next is begun; once images take long, by that
    many `threads`, a few images ahead of the caller and no more. The first id that fails ends it."""
    rest, slow = iter(ids), 0
    for id in rest:
        start = time.perf_counter()
        result = work(id)
        slow = slow + 1 if time.perf_counter() - start > WORTH_SECONDS else 0
        yield result
        if slow >= SLOW_IN_A_ROW and threads > 1:
            yield from _by_threads(work, rest, threads)


def _by_threads(work: Callable[[str], Result], ids: Iterator[str], threads: int) -> Iterator[Result]:
    with ThreadPoolExecutor(threads, thread_name_prefix="judge") as pool:
        ahead: deque[Future[Result]] = deque(pool.submit(work, id) for id in islice(ids, 2 * threads))
        try:
            for id in ids:
                ahead.append(pool.submit(work, id))
                yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:  # after an error or an interruption the rest is not read
            for future in ahead:
                future.cancel()
