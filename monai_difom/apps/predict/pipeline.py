"""Reading ahead and writing behind: what comes before and after the network is done while the network runs."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

Item = TypeVar("Item")
AHEAD, BEHIND = 2, 4  # pictures in memory beside the one at hand


def ahead(items: Iterable[Item], count: int = AHEAD) -> Iterator[Item]:
    """Yield items in their order, each taken in a thread while the one before is worked on.

    Args:
        items: what takes time to get; its errors are raised where the item would have come.
        count: items that are taken before they are asked for.
    """
    iterator, end = iter(items), object()
    with ThreadPoolExecutor(1) as reader:
        waiting = deque(reader.submit(next, iterator, end) for _ in range(count))
        while (item := waiting.popleft().result()) is not end:
            waiting.append(reader.submit(next, iterator, end))
            yield item  # type: ignore[misc]


@contextmanager
def behind(count: int = BEHIND) -> Iterator[Callable[..., None]]:
    """Yield a function that has calls done in a thread, one after another, and comes back at once.

    What was given is done when the context ends, by an error too. The first error of a call is raised by a later one, or at the
    end; nothing is done after it.

    Args:
        count: calls that may wait.
    """
    waiting: deque[Future] = deque()

    def later(call: Callable[..., Any], *arguments: Any) -> None:
        while len(waiting) >= count:
            waiting.popleft().result()
        waiting.append(writer.submit(one_by_one, call, *arguments))

    failed: list[BaseException] = []

    def one_by_one(call: Callable[..., Any], *arguments: Any) -> None:
        if failed:
            return
        try:
            call(*arguments)
        except BaseException as error:
            failed.append(error)
            raise

    with ThreadPoolExecutor(1) as writer:
        yield later
        while waiting:
            waiting.popleft().result()
