"""Admission, adaptive limits and rates."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from model.errors import Stopped
from model.status import SizeClass
from storage.limits import Admission, EndpointLimit, Rate, body_cost

CAPS = {SizeClass.SMALL: 3, SizeClass.MEDIUM: 2, SizeClass.LARGE: 2}


class Clock:
    """A clock that stands still until told."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


class Holder:
    """Transfers that hold their places until released, in the order they were admitted."""

    def __init__(self, admission: Admission) -> None:
        self.admission = admission
        self.admitted: list[str] = []
        self._done: dict[str, asyncio.Event] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}

    def start(self, name: str, size_class: SizeClass, cost: int = 1) -> None:
        self._done[name] = asyncio.Event()
        self.tasks[name] = asyncio.ensure_future(self._hold(name, size_class, cost))

    def end(self, name: str) -> None:
        self._done[name].set()

    async def _hold(self, name: str, size_class: SizeClass, cost: int) -> None:
        async with self.admission.admit(size_class, cost):
            self.admitted.append(name)
            await self._done[name].wait()

    async def close(self) -> None:
        for task in self.tasks.values():
            task.cancel()
        await asyncio.gather(*self.tasks.values(), return_exceptions=True)


class TestAdmission:
    def test_each_class_has_its_cap(self) -> None:
        async def main() -> None:
            holder = Holder(Admission(CAPS, 1000, ()))
            for number in range(5):
                holder.start(f"s{number}", SizeClass.SMALL)
                holder.start(f"m{number}", SizeClass.MEDIUM)
            await settle()
            assert sorted(holder.admitted) == ["m0", "m1", "s0", "s1", "s2"]
            assert holder.admission.under_way == 5
            holder.end("m0")
            await settle()
            assert holder.admitted[-1] == "m2"
            await holder.close()
            assert holder.admission.under_way == 0

        asyncio.run(main())

    def test_bodies_stay_within_the_memory_budget(self) -> None:
        async def main() -> None:
            holder = Holder(Admission(CAPS, 100, ()))
            holder.start("a", SizeClass.SMALL, 60)
            holder.start("b", SizeClass.SMALL, 60)
            holder.start("c", SizeClass.MEDIUM, 40)
            await settle()
            assert holder.admitted == ["a", "c"]
            holder.end("a")
            await settle()
            assert holder.admitted == ["a", "c", "b"]
            await holder.close()

        asyncio.run(main())

    def test_a_body_above_the_whole_budget_runs_alone(self) -> None:
        async def main() -> None:
            holder = Holder(Admission(CAPS, 100, ()))
            holder.start("small", SizeClass.SMALL, 1)
            holder.start("huge", SizeClass.LARGE, 1000)
            holder.start("next", SizeClass.MEDIUM, 1)
            await settle()
            assert holder.admitted == ["small", "next"]
            holder.end("small")
            holder.end("next")
            await settle()
            assert holder.admitted == ["small", "next", "huge"]
            await holder.close()

        asyncio.run(main())

    def test_small_objects_go_first_and_in_order(self) -> None:
        async def main() -> None:
            holder = Holder(Admission(dict.fromkeys(CAPS, 1), 100, (EndpointLimit(1),)))
            for name, size_class in (("l", SizeClass.LARGE), ("m", SizeClass.MEDIUM), ("s1", SizeClass.SMALL)):
                holder.start(name, size_class)
                await settle()
            holder.start("s2", SizeClass.SMALL)
            for name in ("l", "s1", "s2", "m"):
                await settle()
                holder.end(name)
            await settle()
            assert holder.admitted == ["l", "s1", "s2", "m"]
            await holder.close()

        asyncio.run(main())

    def test_a_throttled_endpoint_admits_fewer(self) -> None:
        async def main() -> None:
            limit = EndpointLimit(3)
            limit.throttled()
            holder = Holder(Admission(CAPS, 1000, (limit,)))
            for number in range(3):
                holder.start(str(number), SizeClass.SMALL)
            await settle()
            assert len(holder.admitted) == 3  # 3 * 0.7 = 2.1: two are under way when the third asks
            holder.start("3", SizeClass.MEDIUM)
            await settle()
            assert "3" not in holder.admitted
            await holder.close()

        asyncio.run(main())

    def test_one_that_gives_up_waiting_takes_no_place(self) -> None:
        async def main() -> None:
            holder = Holder(Admission(dict.fromkeys(CAPS, 1), 100, ()))
            for name in ("a", "b", "c"):
                holder.start(name, SizeClass.SMALL)
            await settle()
            holder.tasks["b"].cancel()
            await settle()
            holder.end("a")
            await settle()
            assert holder.admitted == ["a", "c"]
            await holder.close()
            assert holder.admission.under_way == 0

        asyncio.run(main())

    @pytest.mark.parametrize("turns", range(6))
    def test_one_cancelled_around_the_moment_it_is_admitted_gives_its_place_back(self, turns: int) -> None:
        async def main() -> None:
            holder = Holder(Admission(dict.fromkeys(CAPS, 1), 100, ()))
            for name in ("a", "b"):
                holder.start(name, SizeClass.SMALL)
            await settle()
            holder.end("a")
            for _ in range(turns):
                await asyncio.sleep(0)
            holder.tasks["b"].cancel()
            await settle()
            assert holder.admission.under_way == 0
            await holder.close()

        asyncio.run(main())

    def test_a_stop_leaves_those_waiting_out_and_lets_the_others_end(self) -> None:
        async def main() -> None:
            holder = Holder(Admission(dict.fromkeys(CAPS, 1), 100, ()))
            holder.start("a", SizeClass.SMALL)
            holder.start("b", SizeClass.SMALL)
            await settle()
            holder.admission.stop("asked")
            await settle()
            assert isinstance(holder.tasks["b"].exception(), Stopped)
            holder.start("c", SizeClass.MEDIUM)
            await settle()
            assert isinstance(holder.tasks["c"].exception(), Stopped)
            assert not holder.tasks["a"].done()
            holder.end("a")
            await settle()
            assert holder.tasks["a"].exception() is None

        asyncio.run(main())

    def test_an_error_of_the_transfer_gives_its_place_back(self) -> None:
        async def main() -> None:
            admission = Admission(CAPS, 100, ())
            with pytest.raises(ValueError, match="no"):
                async with admission.admit(SizeClass.SMALL, 10):
                    raise ValueError("no")
            assert admission.under_way == 0
            async with AsyncExitStack() as stack:
                await stack.enter_async_context(admission.admit(SizeClass.LARGE, 100))

        asyncio.run(main())


class TestEndpointLimit:
    def test_a_burst_of_throttled_answers_cuts_once(self) -> None:
        clock = Clock()
        limit = EndpointLimit(100, clock)
        for _ in range(20):
            limit.throttled()
        assert limit.limit == pytest.approx(70)
        clock.now += 1.0
        limit.throttled()
        assert limit.limit == pytest.approx(49)

    def test_it_never_goes_below_one(self) -> None:
        clock = Clock()
        limit = EndpointLimit(2, clock)
        for _ in range(20):
            clock.now += 1.0
            limit.throttled()
        assert limit.limit == 1.0

    def test_success_raises_it_by_about_one_a_round_up_to_its_most(self) -> None:
        limit = EndpointLimit(12)
        limit.limit = 10.0
        for _ in range(10):
            limit.served()
        assert 10.9 < limit.limit < 11.1
        for _ in range(1000):
            limit.served()
        assert limit.limit == 12.0


class TestRate:
    def test_no_rate_waits_for_nothing(self) -> None:
        async def main() -> float:
            rate, started = Rate(0), asyncio.get_running_loop().time()
            await rate.take(1e12)
            return asyncio.get_running_loop().time() - started

        assert asyncio.run(main()) < 1

    def test_amounts_above_the_rate_take_the_time_they_need(self, monkeypatch: pytest.MonkeyPatch) -> None:
        clock, slept = Clock(), []

        async def sleep(seconds: float) -> None:
            slept.append(seconds)
            clock.now += seconds

        monkeypatch.setattr("storage.limits.asyncio.sleep", sleep)

        async def main() -> None:
            rate = Rate(100, clock)
            for _ in range(3):
                await rate.take(250)

        asyncio.run(main())
        assert sum(slept) == pytest.approx(7.5)

    def test_an_idle_second_is_saved_up_and_no_more(self, monkeypatch: pytest.MonkeyPatch) -> None:
        clock, slept = Clock(), []

        async def sleep(seconds: float) -> None:
            slept.append(seconds)
            clock.now += seconds

        monkeypatch.setattr("storage.limits.asyncio.sleep", sleep)

        async def main() -> None:
            rate = Rate(100, clock)
            clock.now += 60
            await rate.take(100)
            assert slept == []
            await rate.take(100)

        asyncio.run(main())
        assert slept == [pytest.approx(1.0)]


def test_a_body_costs_itself_or_its_windows() -> None:
    assert body_cost(100, 1000, 64) == 100
    assert body_cost(1000, 1000, 64) == 1000
    assert body_cost(1001, 1000, 64) == 256
