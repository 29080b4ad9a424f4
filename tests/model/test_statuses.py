"""The words of the ledger and how they rank."""

from __future__ import annotations

from itertools import pairwise

import pytest

from model.errors import InvalidInput, RunBroken, S3ferryError
from model.outcome import MAX_FAILURES, Count, Exit, Gap, Outcome, ending, exit_code, outcome_of
from model.status import (
    COUNTED_ONLY,
    DestinationEvidence,
    Grade,
    SizeClass,
    Status,
    evidence_meeting,
    grade_of,
    meets,
    rank,
)


def test_a_better_status_ranks_higher() -> None:
    order = [Status.FAILED, Status.SOURCE_GONE, Status.MISMATCH, Status.COPIED, Status.VERIFIED]
    assert sorted(order, key=rank) == order
    assert len({rank(status) for status in order}) == len(order)


def test_statuses_that_are_only_counted_rank_below_all_others() -> None:
    assert all(rank(status) == 0 for status in COUNTED_ONLY)
    assert all(rank(status) > 0 for status in Status if status not in COUNTED_ONLY)


@pytest.mark.parametrize("evidence", DestinationEvidence)
def test_every_evidence_has_a_grade(evidence: DestinationEvidence) -> None:
    assert meets(evidence, grade_of(evidence))
    assert meets(evidence, Grade.NONE)


def test_grades_are_ordered() -> None:
    assert meets(DestinationEvidence.READBACK, Grade.SERVER)
    assert meets(DestinationEvidence.SIGNED_BODY, Grade.ETAG)
    assert not meets(DestinationEvidence.ETAG_MD5, Grade.SERVER)
    assert not meets(DestinationEvidence.TRAILING_CRC64NVME, Grade.READBACK)
    assert not meets(DestinationEvidence.NONE, Grade.ETAG)


def test_a_weaker_wish_is_met_by_more() -> None:
    grades = [evidence_meeting(grade) for grade in (Grade.READBACK, Grade.SERVER, Grade.ETAG, Grade.NONE)]
    assert [len(grade) for grade in grades] == [1, 5, 8, 9]
    assert all(narrow < wide for narrow, wide in pairwise(grades))


def counts(*statuses: Status) -> list[Count]:
    return [Count(SizeClass.SMALL, status, 1, 10) for status in statuses]


GAP = [Gap(0, 10, 9)]


@pytest.mark.parametrize(
    ("found", "gaps", "flags", "code"),
    [
        ([Status.VERIFIED, Status.SKIPPED, Status.BAD_ROW], [], {}, Exit.OK),
        ([Status.SOURCE_GONE, Status.SOURCE_CHANGED], [], {}, Exit.OK),
        ([Status.SOURCE_GONE], [], {"strict_source": True}, Exit.FAILURES),
        ([Status.VERIFIED, Status.FAILED], [], {}, Exit.FAILURES),
        ([Status.MISMATCH], [], {}, Exit.FAILURES),
        ([Status.DESTINATION_GONE], [], {}, Exit.FAILURES),
        ([Status.VERIFIED], GAP, {}, Exit.FAILURES),
        ([Status.FAILED], GAP, {"stopped": True}, Exit.INTERRUPTED),
        ([Status.FAILED], GAP, {"stopped": True, "broken": True}, Exit.BROKEN),
        ([], [], {}, Exit.OK),
    ],
)
def test_how_a_run_exits(found: list[Status], gaps: list[Gap], flags: dict[str, bool], code: Exit) -> None:
    told = {"stopped": False, "broken": False, "strict_source": False, **flags}
    assert exit_code(counts(*found), gaps, **told) is code


def test_a_status_nobody_has_is_no_failure() -> None:
    none = [Count(SizeClass.SMALL, Status.FAILED, 0, 0)]
    assert exit_code(none, [], stopped=False, broken=False, strict_source=False) is Exit.OK


def test_every_exit_of_a_run_has_a_word() -> None:
    assert outcome_of(Exit.OK) is Outcome.SUCCEEDED
    assert outcome_of(Exit.FAILURES) is Outcome.FAILED
    assert outcome_of(Exit.INTERRUPTED) is Outcome.INTERRUPTED
    assert outcome_of(Exit.BROKEN) is Outcome.BROKEN


@pytest.mark.parametrize(
    ("stop", "error", "code", "said"),
    [
        (None, None, Exit.FAILURES, None),
        ("SIGTERM", None, Exit.INTERRUPTED, None),
        ("s3ferry stop", None, Exit.INTERRUPTED, None),
        (MAX_FAILURES, None, Exit.BROKEN, "stopped: more failures than --max_failures=20"),
        (MAX_FAILURES, RunBroken("the bucket has gone"), Exit.BROKEN, "the bucket has gone"),
        ("SIGTERM", RunBroken("the bucket has gone"), Exit.BROKEN, "the bucket has gone"),
        (None, InvalidInput("file 3 is wrong"), Exit.USAGE, "file 3 is wrong"),
    ],
)
def test_what_ended_a_run_decides_its_code_and_its_words(
    stop: str | None, error: S3ferryError | None, code: Exit, said: str | None
) -> None:
    end = ending(counts(Status.FAILED), GAP, stop=stop, error=error, max_failures="20", strict_source=False)
    assert (end.code, end.error.message if end.error else None) == (code, said)
    assert end.outcome is outcome_of(code)


def test_rows_are_missed_only_by_a_run_that_went_to_its_end() -> None:
    for stop, gaps, whole in ((None, tuple(GAP), True), ("SIGTERM", (), False)):
        end = ending([], GAP, stop=stop, error=None, max_failures=None, strict_source=False)
        assert (end.gaps, end.is_whole) == (gaps, whole)
