"""All that one partition knows: its accounts, its typed keys, how far each topic was read, and how to save it.

The partitions of requests, accounts, links and evidence with one number are always owned together, so they are saved
together: an image is the state right after some chunk, with the offsets that are inside.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from streamdetect.kernels.images import Image, StageImage
from streamdetect.messages.decision import Decision
from streamdetect.pipeline.accept.watermark import Watermark
from streamdetect.pipeline.accounts_node import AccountsNode
from streamdetect.pipeline.associations_node import AssociationsNode
from streamdetect.pipeline.decisions.policy import CompiledPolicy
from streamdetect.pipeline.enforcement.standing import Standings

# Above every offset: rows made from the records of a topic that was made anew come after all that were made before.
INCARNATION_OFFSETS: Final = 1 << 40


@dataclass(slots=True)
class Shard:
    """One partition. ``positions`` is the newest offset processed by topic, ``marks`` the newest evidence by source.

    ``stamps`` are the times (ms) of the records at the positions, by which a topic that was deleted and made again is
    told from the one before; ``incarnations`` counts how often that was seen.

    ``told_policies`` are the texts of policies other than the one of ``start_hash`` that accounts and associations had
    gone over to when they were saved.

    ``sources`` numbers the request topics: rows about shared keys name what they were made from by it, so a number
    belongs to its topic for ever.

    ``log_from`` is, by partition of the decision log, where a successor must begin to read what was decided since.
    """

    accounts: AccountsNode
    associations: AssociationsNode
    watermark: Watermark
    start_hash: str = ""
    told_policies: tuple[str, str] = ("", "")
    positions: dict[str, int] = field(default_factory=dict)
    stamps: dict[str, int] = field(default_factory=dict)
    incarnations: dict[str, int] = field(default_factory=dict)
    marks: dict[int, int] = field(default_factory=dict)
    sources: dict[str, int] = field(default_factory=dict)
    log_from: dict[int, int] = field(default_factory=dict)
    # Offsets up to which what is processed was processed before, by the owner whose decisions were followed.
    repeated_until: dict[str, int] = field(default_factory=dict)

    @property
    def evicted(self) -> int:
        """Accounts, keys and subjects ever forgotten because a bound was reached."""
        return sum(node.state.evicted + node.standings.evicted for node in (self.accounts, self.associations))

    def capture(self, stripe: int) -> Image:
        """What is due for an image of number ``stripe``."""
        self._forget_followed()
        source = StageImage(
            {
                "watermark": self.watermark.capture(),
                "policies": [self._told_text(self.accounts.policy), self._told_text(self.associations.policy)],
                "positions": dict(self.positions),
                "stamps": dict(self.stamps),
                "incarnations": dict(self.incarnations),
                "marks": dict(self.marks),
                "sources": dict(self.sources),
                "log_from": dict(self.log_from),
                "repeated_until": dict(self.repeated_until),
                "held": [],
            }
        )
        return Image({**self.accounts.capture(stripe), **self.associations.capture(stripe), "source": source})

    def _told_text(self, policy: CompiledPolicy) -> str:
        return "" if policy.hash == self.start_hash else policy.text

    @staticmethod
    def add_held(image: Image, held: Iterable[Decision]) -> None:
        """Add the decisions that wait at the brake, once all that led to the image has passed it or been held."""
        image.stages["source"].meta["held"] = [decision.to_bytes() for decision in held]

    def restore(self, images: Sequence[Image]) -> list[Decision]:
        """Become what images in order say; returns the decisions that waited at the brake."""
        self.accounts.restore(images)
        self.associations.restore(images)
        source: dict[str, Any] = images[-1].stages["source"].meta
        self.watermark.restore(source["watermark"])
        accounts_policy, associations_policy = source.get("policies", ("", ""))
        self.told_policies = accounts_policy, associations_policy
        self.positions, self.marks, self.log_from = source["positions"], source["marks"], source["log_from"]
        self.stamps, self.incarnations = source["stamps"], source["incarnations"]
        self.repeated_until = source["repeated_until"]
        numbers = dict(source.get("sources", self.sources))  # images used to have none
        for topic in self.sources:
            numbers.setdefault(topic, len(numbers))
        self.sources = numbers
        return [Decision.model_validate_json(raw) for raw in source["held"]]

    def stands(self, decision: Decision) -> bool:
        """Whether a decision is what stands against its subject."""
        subject = decision.subject.scope, decision.subject.value
        return self.standings_of(subject[0]).stands(subject, decision.decision_id, decision.expires_at)

    def standings_of(self, scope: str) -> Standings:
        """Where decisions on subjects of a scope are."""
        return (self.accounts if scope == "account" else self.associations).standings

    def begin_at(self, committed: Mapping[str, int], ends: Mapping[str, int]) -> None:
        """Topics that nothing is known of begin where was committed: what came before is not part of this state.

        What was committed behind the end of a topic was committed of another one of that name.
        """
        for topic, offset in committed.items():
            self.positions.setdefault(topic, (offset if offset <= ends.get(topic, 0) else 0) - 1)

    def begin_anew(self, topic: str) -> None:
        """A topic was deleted and made again: nothing of it was read yet."""
        self.positions[topic] = -1
        self.stamps.pop(topic, None)
        self.incarnations[topic] = self.incarnations.get(topic, 0) + 1

    def rising(self, topic: str, offsets: NDArray[np.int64]) -> NDArray[np.int64]:
        """Offsets as they are passed on: they rise for ever, also where those of a topic began anew."""
        return offsets + self.incarnations.get(topic, 0) * INCARNATION_OFFSETS

    def follow(self, decisions: Sequence[Decision], ends: dict[str, int]) -> None:
        """Take over what was published after the image; ``ends`` is how far its writer may have read each topic."""
        self.accounts.follow(decisions)
        self.associations.follow(decisions)
        self.repeated_until |= ends

    def begin_term(self, number: int) -> None:
        """A new owner begins: see ``Standings.begin_term``."""
        self.accounts.standings.begin_term(number)
        self.associations.standings.begin_term(number)

    def hear(self, decision: Decision) -> None:
        """Take over one decision of somebody else, if its subject is known here."""
        node = self.accounts if decision.subject.scope == "account" else self.associations
        if node.standings.knows(decision.subject.scope, decision.subject.value):
            node.follow([decision])
            node.standings.followed.clear()  # heard of by what is in force

    def followed(self) -> list[Decision]:
        """Decisions of the last owner that were taken over since the last call, oldest first."""
        found: list[Decision] = []
        for standings in (self.accounts.standings, self.associations.standings):
            found += standings.followed
            standings.followed = []
        return found

    def passed(self, topic: str, offset: int) -> None:
        """Whatever a topic holds before an offset was processed, or is no record: a marker, a compacted one."""
        if self.repeated_until.get(topic, offset + 1) <= offset:
            self.repeated_until[topic] = -1

    def _forget_followed(self) -> None:
        if self.repeated_until and all(self.positions.get(t, -1) >= end - 1 for t, end in self.repeated_until.items()):
            self.repeated_until = {}
            self.accounts.standings.forget_followed()
            self.associations.standings.forget_followed()
