"""What the nodes have in common: the policy in effect and the one that comes, what is in force, what an image holds.

Live, a node serves one partition and packed records travel between nodes on Kafka. In replay the same nodes are called
in rounds. A node is a function of its ordered input: cutting it into batches differently changes nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from streamdetect.kernels.images import Image, StageImage
from streamdetect.messages.decision import Mode
from streamdetect.pipeline.decisions.policy import CompiledPolicy
from streamdetect.pipeline.decisions.schedule import Coming, coming
from streamdetect.pipeline.enforcement.decider import Decider
from streamdetect.pipeline.enforcement.standing import Standings


class Saved(Protocol):
    """A part of a node's state that images hold."""

    def capture(self, stripe: int) -> StageImage:
        """What is due for an image."""

    def restore(self, images: Sequence[StageImage]) -> None:
        """Become what images in order say."""


@dataclass(slots=True)
class Node:
    """``policy`` and ``mode`` are those in effect; ``coming`` takes effect at the first row of its time."""

    policy: CompiledPolicy
    mode: Mode
    coming: Coming | None = field(init=False)
    decider: Decider = field(init=False)

    @property
    def standings(self) -> Standings:
        """What is in force for the subjects of this node."""
        return self.decider.standings

    def schedule(self, policy: CompiledPolicy, mode: Mode) -> None:
        """Go over to another policy at the first row at or after its ``effective_at``; replaces one that waits."""
        self.coming = coming(policy, mode, self.policy, self.mode)

    def obey(self, policy: CompiledPolicy, mode: Mode) -> None:
        """Go over to a policy with the next row; all that is known and in force stays."""
        self.policy, self.mode, self.coming = policy, mode, None
        self._apply_policy()

    def _apply_policy(self) -> None:
        """Take from the policy in effect what is computed from it."""
        raise NotImplementedError

    def _place_of_coming(self, times: NDArray[np.int64]) -> int | None:
        """Index of the first row that the coming policy judges; ``None`` if it is none of these."""
        return self.coming.place(times) if self.coming else None

    def _go_over(self) -> None:
        assert self.coming is not None
        self.obey(self.coming.policy, self.coming.mode)

    def _saved(self) -> Mapping[str, Saved]:
        """The parts of the state, by their names in images."""
        raise NotImplementedError

    def capture(self, stripe: int) -> dict[str, StageImage]:
        """What is due for an image."""
        return {name: part.capture(stripe) for name, part in self._saved().items()}

    def restore(self, images: Sequence[Image]) -> None:
        """Become what images in order say; before the first row."""
        for name, part in self._saved().items():
            part.restore([image.stages[name] for image in images])
