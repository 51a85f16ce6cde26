"""What is read ahead and written behind comes in its order, and its errors come to whom they concern."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from monai_difom.apps.predict.pipeline import ahead, behind


def test_items_come_in_order_and_one_is_taken_before_it_is_asked_for() -> None:
    taken = threading.Event()

    def items() -> Iterator[int]:
        yield 0
        taken.set()
        yield 1
        yield 2

    found = []
    for item in ahead(items()):
        if item == 0:
            assert taken.wait(5)
        found.append(item)
    assert found == [0, 1, 2]
    assert list(ahead([])) == []


def test_an_error_of_reading_comes_after_the_items_before_it() -> None:
    def items() -> Iterator[int]:
        yield 0
        raise OSError("torn")

    reader = ahead(items())
    assert next(reader) == 0
    with pytest.raises(OSError, match="torn"):
        next(reader)


def test_who_stops_early_waits_for_no_more_than_what_was_begun() -> None:
    taken = []

    def items() -> Iterator[int]:
        for item in range(100):
            taken.append(item)
            yield item

    reader = ahead(items())
    assert next(reader) == 0
    reader.close()  # type: ignore[attr-defined]
    assert len(taken) < 5


def test_calls_are_done_in_order_before_the_context_ends() -> None:
    done: list[int] = []
    with behind(2) as later:
        for number in range(20):
            later(done.append, number)
    assert done == list(range(20))


def test_an_error_of_the_reader_loses_nothing_that_was_given_before_it() -> None:
    done: list[int] = []

    def work() -> None:
        with behind() as later:
            later(done.append, 0)
            raise KeyError("of the reader")

    with pytest.raises(KeyError):
        work()
    assert done == [0]


def test_nothing_is_written_after_an_error_of_writing_which_is_raised() -> None:
    done: list[int] = []

    def fail() -> None:
        raise OSError("the disk is full")

    def work() -> None:
        with behind(100) as later:
            for call in (lambda: done.append(0), fail, lambda: done.append(1)):
                later(call)

    with pytest.raises(OSError, match="the disk is full"):
        work()
    assert done == [0]
