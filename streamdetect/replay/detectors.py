"""What replay asks of a detector, so that any can be run, graded and looped over the same traffic."""

from typing import Protocol

from streamdetect.messages.decision import Decision
from streamdetect.pipeline.accept.columns import RequestColumns


class Detector(Protocol):
    """Takes events round by round and says what it decides.

    A round is a slot of event time that has events; what is decided in it is in force from the next one on.
    """

    def round(self, columns: RequestColumns, start_ms: int) -> list[Decision]:
        """Take the events of the round that begins at ``start_ms``, in order of event time; decisions in order.

        Repeats, completions and refused events come as they were recorded. An event that came far too late to be
        sorted in may be older than ``start_ms``.
        """
        ...

    def finish(self) -> list[Decision]:
        """Say what is still to be decided when all traffic has been seen."""
        ...
