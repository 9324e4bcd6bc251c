"""Where aiokafka stands in assigned partitions, which it tells, and lets be changed, only by awaiting in its thread."""

from collections.abc import Iterable, Mapping
from typing import Any

from aiokafka import TopicPartition
from faust.types import TP


def _state(consumer: Any, tp: TP) -> Any:
    """What a consumer knows of a partition with a position, ``None`` for others."""
    assignment = getattr(consumer._subscription.subscription, "assignment", None)  # noqa: SLF001  # no public way
    state = None if assignment is None else assignment.state_value(TopicPartition(tp.topic, tp.partition))
    return state if state is not None and state.has_valid_position else None


def positions_of(consumer: Any, partitions: Iterable[TP]) -> dict[TP, int]:
    """Offset of the next record that a consumer will fetch, of those partitions that have a position."""
    states = ((tp, _state(consumer, tp)) for tp in partitions)
    return {tp: int(state.position) for tp, state in states if state is not None}


async def rewind(consumer: Any, spans: Mapping[TP, tuple[int, int]]) -> None:
    """Seek back to the first of each span of offsets, unless someone has sought elsewhere since its last was fetched.

    Runs on the consumer's own loop without awaiting, so that no fetch comes between the look and the seek.
    """
    for tp, (first, last) in spans.items():
        state = _state(consumer, tp)
        if state is not None and state.position > last:
            consumer.seek(TopicPartition(tp.topic, tp.partition), first)
