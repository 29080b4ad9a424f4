"""The engine and its bundles, as DoFns use them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from itertools import chain

import pytest

from model.errors import LeaseLost, RunBroken, Stopped
from model.status import SizeClass
from storage.engine import Engine
from storage.limits import Admission


@pytest.fixture
def engine() -> Iterator[Engine]:
    made = Engine()
    yield made
    made.close()


async def double(number: int) -> int:
    await asyncio.sleep(0.001 * (number % 3))
    return 2 * number


async def forever(number: int) -> int:
    await asyncio.Event().wait()
    return number


def test_all_results_come_back(engine: Engine) -> None:
    bundle = engine.open_bundle()
    bundle.submit(double, range(50))
    assert sorted(chain.from_iterable(bundle.drain())) == [2 * number for number in range(50)]
    assert bundle.pending == 0


def test_an_empty_bundle_drains_at_once(engine: Engine) -> None:
    bundle = engine.open_bundle()
    bundle.submit(double, [])
    assert list(bundle.drain()) == []


def test_up_to_the_limit_may_stay_under_way(engine: Engine) -> None:
    release = asyncio.Event()

    async def some_wait(number: int) -> int:
        if number >= 5:
            await release.wait()
        return number

    bundle = engine.open_bundle()
    bundle.submit(some_wait, range(8))
    assert sorted(chain.from_iterable(bundle.finished(3))) == [0, 1, 2, 3, 4]
    assert bundle.pending == 3
    engine.soon(release.set)
    assert sorted(chain.from_iterable(bundle.drain())) == [5, 6, 7]


def test_several_submissions_overlap(engine: Engine) -> None:
    both = asyncio.Barrier(2)

    async def meet(number: int) -> int:
        await both.wait()
        return number

    bundle = engine.open_bundle()
    bundle.submit(meet, [1])
    bundle.submit(meet, [2])
    assert sorted(chain.from_iterable(bundle.drain())) == [1, 2]


def test_two_bundles_on_two_threads_get_their_own_results(engine: Engine) -> None:
    found: dict[int, list[int]] = {}

    def work(first: int) -> None:
        bundle = engine.open_bundle()
        bundle.submit(double, range(first, first + 100))
        found[first] = sorted(chain.from_iterable(bundle.drain()))

    threads = [threading.Thread(target=work, args=(first,)) for first in (0, 1000)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert found == {first: [2 * number for number in range(first, first + 100)] for first in (0, 1000)}


def test_what_a_task_raises_is_raised_after_the_results_before_it(engine: Engine) -> None:
    async def third_breaks(number: int) -> int:
        await asyncio.sleep(0.02 * number)
        if number == 2:
            raise RunBroken("no bucket")
        return number

    bundle = engine.open_bundle()
    bundle.submit(third_breaks, range(3))
    found: list[int] = []
    with pytest.raises(RunBroken, match="no bucket"):
        for batch in bundle.drain():
            found += batch
    assert found == [0, 1]


def test_a_cancelled_bundle_ends_its_tasks_and_its_results_reach_no_other(engine: Engine) -> None:
    ended: list[int] = []

    async def watched(number: int) -> int:
        try:
            return await forever(number)
        finally:
            ended.append(number)

    failed = engine.open_bundle()
    failed.submit(watched, range(5))
    failed.submit(double, [100])
    failed.cancel()
    failed.cancel()
    following = engine.open_bundle()
    following.submit(double, [1, 2])
    assert sorted(chain.from_iterable(following.drain())) == [2, 4]
    assert sorted(ended) in ([], [0, 1, 2, 3, 4])


def test_work_submitted_to_a_cancelled_bundle_never_starts(engine: Engine) -> None:
    started: list[int] = []

    async def note(number: int) -> int:
        started.append(number)
        return number

    bundle = engine.open_bundle()
    bundle.cancel()
    bundle.submit(note, range(3))
    engine.run(asyncio.sleep(0.01))
    assert started == []


def test_cancel_all_breaks_the_run_for_everyone_under_way(engine: Engine) -> None:
    bundle = engine.open_bundle()
    bundle.submit(forever, range(3))
    engine.run(asyncio.sleep(0))
    engine.cancel_all(LeaseLost("the lease is lost"))
    with pytest.raises(LeaseLost):
        list(bundle.drain())


def test_a_stop_leaves_those_not_admitted_out(engine: Engine) -> None:
    admission = Admission({SizeClass.SMALL: 2}, 100, ())
    release = asyncio.Event()

    async def admitted(number: int) -> int:
        async with admission.admit(SizeClass.SMALL, 1):
            await release.wait()
            return number

    bundle = engine.open_bundle()
    bundle.submit(admitted, range(6))
    engine.run(asyncio.sleep(0.01))
    engine.soon(admission.stop, "asked")
    engine.soon(release.set)
    assert sorted(chain.from_iterable(bundle.drain())) == [0, 1]
    assert bundle.pending == 0


def test_a_stopped_item_yields_nothing(engine: Engine) -> None:
    async def stopped(number: int) -> int:
        raise Stopped("asked")

    bundle = engine.open_bundle()
    bundle.submit(stopped, range(3))
    assert list(bundle.drain()) == []


def test_one_coroutine_runs_from_any_thread_and_its_error_comes_out(engine: Engine) -> None:
    async def wrong() -> None:
        raise ValueError("no")

    assert engine.run(double(4)) == 8
    with pytest.raises(ValueError, match="no"):
        engine.run(wrong())


def test_it_may_be_closed_twice() -> None:
    engine = Engine()
    engine.close()
    engine.close()
    engine.soon(print)
