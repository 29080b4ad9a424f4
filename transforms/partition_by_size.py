"""PartitionBySize: three branches by size, each packed for its own fan-out.

Small objects travel in units of about 256, medium ones in units of a few, large ones one by one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import apache_beam as beam
from apache_beam.transforms.window import GlobalWindows

from model.objects import CopyUnit, ObjectRef, pack_unit
from model.routing import CLASSES, Boundaries, branch
from model.status import SizeClass
from options.config import RoutingOptions

_MEDIUM_UNIT_BYTES = 512 * 1024 * 1024


class Branches(NamedTuple):
    """`small` and `medium` are PCollections of `CopyUnit`, `large` of `ObjectRef`."""

    small: Any
    medium: Any
    large: Any


class PartitionBySize(beam.PTransform):
    """PCollection of `ObjectRef` to `Branches`.

    Args:
      routing: boundaries in bytes and unit sizes.
    """

    def __init__(self, routing: RoutingOptions) -> None:
        super().__init__()
        self._routing = routing
        self._boundaries = Boundaries(routing.small_below_bytes, routing.medium_up_to_bytes)

    def expand(self, refs: Any) -> Branches:
        routing = self._routing
        by_size: Any = beam.Partition(_branch_of, len(CLASSES), self._boundaries)  # type: ignore[arg-type] # takes a function
        small, medium, large = refs | "BySize" >> by_size
        return Branches(
            small
            | "PackSmall" >> beam.ParDo(_PackFn(SizeClass.SMALL, routing.small_unit_objects, routing.small_unit_bytes)),
            medium
            | "PackMedium" >> beam.ParDo(_PackFn(SizeClass.MEDIUM, routing.medium_unit_objects, _MEDIUM_UNIT_BYTES)),
            large,
        )


def _branch_of(ref: ObjectRef, branches: int, boundaries: Boundaries) -> int:
    return branch(ref.size, boundaries)


class _PackFn(beam.DoFn):
    """Gathers objects of one bundle into units, by count and by bytes."""

    def __init__(self, kind: SizeClass, most_objects: int, most_bytes: int) -> None:
        self._kind = kind
        self._most_objects = most_objects
        self._most_bytes = most_bytes

    def start_bundle(self) -> None:
        self._refs: list[ObjectRef] = []
        self._bytes = 0

    def process(self, element: ObjectRef) -> Iterator[CopyUnit]:
        if self._refs and self._bytes + element.size > self._most_bytes:
            yield self._pack()
        self._refs.append(element)
        self._bytes += element.size
        if len(self._refs) >= self._most_objects:
            yield self._pack()

    def finish_bundle(self) -> Iterator[Any]:
        if self._refs:
            yield GlobalWindows.windowed_value(self._pack())

    def _pack(self) -> CopyUnit:
        unit = pack_unit(self._kind, self._refs)
        self._refs, self._bytes = [], 0
        return unit
