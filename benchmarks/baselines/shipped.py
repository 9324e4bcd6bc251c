"""The product itself: the pipeline that worker and replay run, with the policy that ships, in the same rounds."""

from dataclasses import dataclass, field

from streamdetect.messages.decision import Decision
from streamdetect.pipeline.accept.columns import RequestColumns
from streamdetect.pipeline.decisions.policy import CompiledPolicy
from streamdetect.replay.rounds import Rounds


@dataclass(slots=True)
class Shipped:
    """All nodes in one process."""

    policy: CompiledPolicy
    _rounds: Rounds = field(init=False)

    def __post_init__(self) -> None:
        self._rounds = Rounds(self.policy, "live", 1, 2_000)

    def round(self, columns: RequestColumns, start_ms: int) -> list[Decision]:
        """Run one round, evidence and all: like every detector it has had its say when the next one begins."""
        return self._rounds.round(columns, start_ms) + self._rounds.finish()

    def finish(self) -> list[Decision]:
        """Let the evidence of the last round take effect."""
        return self._rounds.finish()
