"""What becomes of a row whose destination key this run has finished already."""

from __future__ import annotations

from model.status import SizeClass, Status
from tests.ledger.examples import a_record
from tests.transforms.examples import a_job, a_ref
from transforms.copy_objects import settled_record

RECORDED = a_record(1, source_bucket="src", source_key="k", destination_key="prefix/k", size=10)


def test_the_same_row_again_is_what_the_ledger_holds() -> None:
    again = settled_record(a_job(), RECORDED, a_ref(1, 99, "k"), SizeClass.MEDIUM)

    assert again == RECORDED._replace(recorded=True)


def test_another_row_of_the_object_is_a_duplicate_of_the_size_it_states_itself() -> None:
    other = settled_record(a_job(), RECORDED, a_ref(2, 99, "k"), SizeClass.MEDIUM)

    assert (other.status, other.recorded) == (Status.DUPLICATE, True)
    assert (other.row_number, other.size, other.size_class) == (2, 99, SizeClass.MEDIUM)


def test_another_object_is_failed() -> None:
    other = settled_record(a_job(), RECORDED._replace(source_key="j"), a_ref(2, 99, "k"), SizeClass.MEDIUM)

    assert (other.status, other.recorded, other.size) == (Status.FAILED, False, 99)
