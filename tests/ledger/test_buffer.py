from __future__ import annotations

import pytest

from ledger.buffer import Entry, Pending, WriteBuffer
from model.records import DeadLetter
from model.status import Status


def entry(rows: int, arrived: float = 0.0, text: str = "") -> Entry:
    return Entry(arrived, letters=[DeadLetter(0, row, Status.BAD_ROW, "why", text) for row in range(rows)])


def buffer(*entries: Entry) -> WriteBuffer:
    made = WriteBuffer(flush_rows=10, flush_bytes=10_000, flush_interval_s=1.0)
    for one in entries:
        made.add(one)
    return made


def test_nothing_waiting_is_never_due() -> None:
    assert buffer().due_in(99.0) is None


def test_a_batch_is_due_after_the_interval() -> None:
    assert buffer(entry(1, arrived=5.0)).due_in(5.25) == 0.75


def test_a_batch_is_due_at_once_when_rows_or_bytes_are_enough() -> None:
    assert buffer(entry(6), entry(4)).due_in(0.0) == 0.0
    assert buffer(entry(1, text="x" * 10_000)).due_in(0.0) == 0.0


def test_a_batch_takes_whole_entries_up_to_the_limit() -> None:
    waiting = buffer(entry(6), entry(6), entry(1))
    assert [len(one.letters) for one in waiting.take()] == [6, 6]
    assert [len(one.letters) for one in waiting.take()] == [1]


def test_hurry_makes_due_what_waits_now_and_not_what_comes_later() -> None:
    waiting = buffer(entry(1))
    waiting.hurry()
    assert waiting.due_in(0.0) == 0.0
    waiting.take()
    waiting.add(entry(1))
    assert waiting.due_in(0.0) == 1.0


def test_there_is_no_room_while_four_batches_wait_or_are_written() -> None:
    waiting = buffer(*[entry(10)] * 4)
    assert not waiting.has_room()
    waiting.take()
    assert not waiting.has_room()
    waiting.written()
    assert waiting.has_room()


def test_the_first_word_about_a_result_counts() -> None:
    pending: Pending[int] = Pending()
    pending.resolve(1)
    pending.fail(ValueError())
    assert pending.result(0) == 1


def test_a_result_that_does_not_come_in_time_is_a_timeout() -> None:
    with pytest.raises(TimeoutError):
        Pending[int]().result(0.01)
