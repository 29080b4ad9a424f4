"""What the words of a server about an object and its own copy of it show."""

from __future__ import annotations

import pytest

from model.errors import Mismatch
from model.status import DestinationEvidence, SourceEvidence
from storage.server_copy import Shown, shown_by, stated_digests

MD5, OTHER_MD5 = '"900150983cd24fb0d6963f7d28e17f72"', '"d41d8cd98f00b204e9800998ecf8427e"'
MULTIPART = '"900150983cd24fb0d6963f7d28e17f72-3"'
CRC = "x-amz-checksum-crc64nvme"
SIZE = {"content-length": "3"}


@pytest.mark.parametrize(
    ("source", "destination", "shown"),
    [
        (
            {"etag": MULTIPART, CRC: "abc="},
            {"etag": MD5, CRC: "abc="},
            Shown(SourceEvidence.STORED_CHECKSUM, DestinationEvidence.STORED_CHECKSUM),
        ),
        ({"etag": MD5}, {"etag": MD5}, Shown(SourceEvidence.ETAG_MD5, DestinationEvidence.ETAG_MD5)),
        (
            {"etag": MULTIPART},
            {"etag": MULTIPART},
            Shown(SourceEvidence.MULTIPART_ETAG, DestinationEvidence.MULTIPART_ETAG),
        ),
        ({"etag": MULTIPART}, {"etag": MD5}, Shown(SourceEvidence.LENGTH, DestinationEvidence.NONE)),
        ({"etag": '"opaque"'}, {"etag": '"opaque"'}, Shown(SourceEvidence.LENGTH, DestinationEvidence.NONE)),
        (
            {"etag": MULTIPART, CRC: "abc=", "x-amz-checksum-type": "COMPOSITE"},
            {"etag": MD5, CRC: "xyz="},
            Shown(SourceEvidence.LENGTH, DestinationEvidence.NONE),
        ),
        (
            {"etag": MD5, "x-amz-server-side-encryption": "aws:kms"},
            {"etag": OTHER_MD5, "x-amz-server-side-encryption": "aws:kms"},
            Shown(SourceEvidence.LENGTH, DestinationEvidence.NONE),
        ),
    ],
)
def test_only_what_both_objects_state_is_evidence(
    source: dict[str, str], destination: dict[str, str], shown: Shown
) -> None:
    assert shown_by(SIZE | source, SIZE | destination, etag_is_md5=True) == shown


def test_etags_that_are_opaque_show_nothing() -> None:
    same = SIZE | {"etag": MD5}
    assert shown_by(same, same, etag_is_md5=False) == Shown(SourceEvidence.LENGTH, DestinationEvidence.NONE)


@pytest.mark.parametrize("name", ["crc64nvme", "sha256", "crc32c", "crc32", "sha1"])
def test_any_stored_checksum_of_both_is_evidence(name: str) -> None:
    header = {f"x-amz-checksum-{name}": "abc="}
    shown = shown_by(SIZE | {"etag": MULTIPART} | header, SIZE | {"etag": MD5} | header, etag_is_md5=True)
    assert shown == Shown(SourceEvidence.STORED_CHECKSUM, DestinationEvidence.STORED_CHECKSUM)


@pytest.mark.parametrize(
    ("source", "destination"),
    [
        (SIZE | {"etag": MD5}, {"content-length": "4", "etag": MD5}),
        (SIZE | {"etag": MD5, CRC: "abc="}, SIZE | {"etag": MD5, CRC: "xyz="}),
        (SIZE | {"etag": MD5}, SIZE | {"etag": OTHER_MD5}),
    ],
)
def test_a_contradiction_is_a_mismatch(source: dict[str, str], destination: dict[str, str]) -> None:
    with pytest.raises(Mismatch, match="destination:"):
        shown_by(source, destination, etag_is_md5=True)


def test_the_digests_a_server_states_are_written_as_the_ledger_writes_them() -> None:
    headers = {CRC: "abc=", "x-amz-checksum-sha256": "uU0nuZNNPgilLlLX2n2r+sSE7+N6U4DukIj3rOLvzek="}
    assert stated_digests(headers) == {
        "crc64nvme": "abc=",
        "sha256": "b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9",
    }


def test_a_composite_checksum_is_no_digest_of_the_object() -> None:
    assert stated_digests({CRC: "abc=", "x-amz-checksum-type": "COMPOSITE"}) == {}
    assert stated_digests({"x-amz-checksum-sha256": "uU0nuZNNPgilLlLX2n2r+sSE7+N6U4DukIj3rOLvzek=-3"}) == {}
