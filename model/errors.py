"""Errors by meaning. Each is picklable, so it crosses a Beam worker's boundary whole.

Two families: errors that end a run (`InvalidInput`, `RunBroken`, `LeaseHeld`, `LeaseLost`) and errors
of one transfer (`TransferError` and below), which become a status in the ledger. `retryable` says
whether the same request may be sent again without looking first.
"""

from __future__ import annotations


class S3ferryError(Exception):
    """Base of every error this package raises on purpose; `message` is one line for a person."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    def __str__(self) -> str:
        return self.message


class InvalidInput(S3ferryError):
    """A flag, a manifest or an inventory file is wrong; the line names it and the remedy (exit 2)."""


class RunBroken(S3ferryError):
    """The run cannot go on at all: no bucket, no credentials, no ledger (exit 3)."""


class LeaseHeld(S3ferryError):
    """Another live run holds this job, or one whose destination overlaps (exit 4)."""


class LeaseLost(RunBroken):
    """This run's lease was taken over or expired; nothing more may be written under it."""


class LedgerUnavailable(RunBroken):
    """PostgreSQL could not be reached within the bounded retries."""


class TransferError(S3ferryError):
    """One object or part could not be copied. Not repeatable unless a subclass says so."""

    retryable = False
    no_effect = False
    """Whether the request is known to have changed nothing: it was refused, or never sent."""


class Transient(TransferError):
    """Connection trouble, a time-out before anything was sent, or a 5xx: repeat after a pause."""

    retryable = True


class Throttled(Transient):
    """The server asked for less (503 SlowDown, 429): repeat later, and slow the endpoint down."""


class SourceGone(TransferError):
    """NoSuchKey or NoSuchVersion at the source, and nothing else."""


class Refused(TransferError):
    """The server refuses this request for good (a 4xx with no better meaning)."""


class DestinationGone(Refused):
    """NoSuchKey at the destination."""


class SourceChanged(TransferError):
    """The source object is not the one that was pinned: 412, another ETag or another size."""


class UploadGone(TransferError):
    """NoSuchUpload: the multipart upload was completed, aborted or expired."""


class AccessDenied(TransferError):
    """This principal may not do this to this object; other objects may still work."""


class Archived(TransferError):
    """The source object is in an archive class and must be restored before it can be read."""


class Mismatch(TransferError):
    """Bytes and digests disagree between source, this process and destination."""


class OutcomeUnknown(TransferError):
    """The request may or may not have taken effect (time-out after it was sent): look before repeating."""


class Stopped(TransferError):
    """A stop was requested before this object was admitted; it is left for the next run."""
