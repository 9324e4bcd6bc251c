"""The stages as data: the way of an event. What runs them: ``accounts_node`` and ``associations_node``."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Stage:
    """One row of the way of an event."""

    name: str
    keyed_by: str
    keeps: str
    gives: str


STAGES = (
    Stage("accept", "-", "watermark, digests of system prompts", "columns, sketches, dead letters"),
    Stage("accounts", "account", "windows, tier, subnets, repeats, evidence ledger", "rows about shared things"),
    Stage("associations", "typed key", "windows, members by class", "evidence for members"),
    Stage("decisions", "the subject", "caps", "hits of rules"),
    Stage("enforcement", "the subject", "standings, revisions", "decisions, what is in force"),
)


def describe() -> str:
    """The stages as a table, in the order an event passes them."""
    rows = [("stage", "keyed by", "keeps", "gives"), *((s.name, s.keyed_by, s.keeps, s.gives) for s in STAGES)]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows)
