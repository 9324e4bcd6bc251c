"""Makes ``events.jsonl`` of every golden scenario. Run it by ``STREAMDETECT_UPDATE_GOLDEN=1 make test``.

Each scenario is a few hundred events around one threshold of the shipped policy. No chance is involved: the same code
gives the same bytes, and the files are committed, so that a change here shows as a change there.
"""

from collections.abc import Callable, Iterator

Event = dict[str, object]

START = 1_767_225_600_000  # 2026-01-01
DAY_MS = 86_400_000
NEW, OLD = START - 2 * DAY_MS, START - 400 * DAY_MS
TEMPLATE = (
    "Act as a senior examiner and write a graded rubric with five criteria for the essay below, then score the essay"
    " against every criterion and justify each score with one quotation from the text. Essay number"
)
AGENT = (
    "You are a coding agent that works in a terminal. Read files before you change them, keep every change small, run"
    " the tests after each step, and stop to ask when an instruction could destroy work."
)
_VOCABULARY = (
    "harbour lantern meadow copper violin glacier orchard thunder saddle velvet "
    "compass walnut ember quarry beacon marble thicket ribbon falcon cellar "
    "prairie anchor juniper mosaic kettle summit willow cobalt ferry almanac"
)
WORDS = _VOCABULARY.split()


def own_words(number: int) -> str:
    """Write a prompt that shares hardly a phrase with those of other numbers."""
    return " ".join(WORDS[(number * 7 + place * place * (number % 11 + 1) + place) % len(WORDS)] for place in range(24))


def event(number: int, account: str, at: int, **fields: object) -> Event:
    """Fields of ``None`` are left out."""
    known = {name: value for name, value in fields.items() if value is not None}
    return {"event_id": f"event-{number}", "account_id": account, "occurred_at": START + at, **known}


def one_each(
    count: int, at: int = 0, *, prefix: str = "young", created_at: int | None = NEW, **shared: object
) -> Iterator[Event]:
    """One request of each of ``count`` accounts, 20 s apart, each from a subnet of its own unless told."""
    for number in range(count):
        fields = {"client_ip": f"10.{number % 7}.{number}.9", "prompt": own_words(number), **shared}
        fields = {name: value(number) if callable(value) else value for name, value in fields.items()}
        yield event(0, f"{prefix}-{number}", at + number * 20_000, account_created_at=created_at, **fields)


def templated(number: int) -> str:
    """Fill the template's slot."""
    return f"{TEMPLATE} {number}"


def trusted_user(at: int, **fields: object) -> Event:
    """One request of a paying customer of long standing."""
    told = {"account_created_at": OLD, "account_tier": "verified", "client_ip": "172.16.0.1", **fields}
    return event(0, "trusted-0", at, **told)


def quiet() -> Iterator[Event]:
    """Forty people of all ages, six requests each over a day."""
    for number in range(40):
        created_at = (NEW, START - 20 * DAY_MS, OLD, None)[number % 4]
        for turn in range(6):
            fields = {"client_ip": f"10.1.{number // 4}.{number}", "prompt": own_words(100 * turn + number)}
            yield event(
                0, f"person-{number}", number * 61_000 + turn * 13_000_000, account_created_at=created_at, **fields
            )


def hammering() -> Iterator[Event]:
    """Sixteen requests a second for a minute, beside one that stays just below ten."""
    for number in range(960):
        yield event(0, "hammer", number * 62, account_created_at=OLD)
    for number in range(540):
        yield event(0, "busy", number * 111, account_created_at=OLD)


def refused_retries() -> Iterator[Event]:
    """A script repeats what was refused, 2,000 times in three minutes; 20 were served."""
    for number in range(2_020):
        outcome = None if number % 101 == 0 else "blocked"
        fields = {"outcome": outcome} if outcome else {}
        yield {"account_id": "r", "occurred_at": START + number * 89, **fields}


def subnet() -> Iterator[Event]:
    """Twenty-five new accounts behind one /24 within nine minutes."""
    yield from one_each(25, client_ip=lambda number: f"192.0.2.{number + 1}")


def subnet_with_trusted() -> Iterator[Event]:
    """The same, in a network where three customers of long standing work."""
    for number in range(3):
        fields = {"client_ip": f"192.0.2.{200 + number}", "account_tier": "paid", "account_created_at": OLD}
        yield event(0, f"neighbour-{number}", number * 1000, **fields)
    yield from one_each(25, 60_000, client_ip=lambda number: f"192.0.2.{number + 1}")


def subnet_v6() -> Iterator[Event]:
    """Twenty-five new accounts in one /64, each with an address of its own."""
    yield from one_each(25, client_ip=lambda number: f"2001:db8:7:1:{number + 1:x}::{number + 1:x}")


def template() -> Iterator[Event]:
    """Thirty new accounts from thirty networks, one template, another slot each."""
    yield from one_each(30, prompt=templated)


def template_with_trusted() -> Iterator[Event]:
    """One trusted user sent the same template before the thirty came."""
    yield trusted_user(0, prompt=templated(999))
    yield from one_each(30, 60_000, prompt=templated)


def template_cleared_later() -> Iterator[Event]:
    """One trusted user sends the same template after the thirty: what was in force is lifted."""
    yield from one_each(30, prompt=templated)
    yield trusted_user(3_600_000, prompt=templated(999))
    yield event(0, "trusted-0", 3_700_000, account_created_at=OLD, account_tier="verified")  # completes the round


def template_unknown_age() -> Iterator[Event]:
    """Thirty new accounts and ten of which nothing is known."""
    yield from one_each(30, prompt=templated)
    yield from one_each(10, 900_000, prefix="unknown", created_at=None, prompt=lambda number: templated(500 + number))


def all_of_unknown_age() -> Iterator[Event]:
    """Forty accounts of which nothing is known share a template: warm-up, no age, no decision."""
    yield from one_each(40, prefix="unknown", created_at=None, prompt=templated)


def template_and_payment() -> Iterator[Event]:
    """Thirty new accounts, one template, five cards between them."""
    yield from one_each(30, prompt=templated, payment_id=lambda number: f"card-{number % 5}")


def agent() -> Iterator[Event]:
    """Three hundred users of one agent: two thirds new, the rest of all ages; prompts of their own."""
    for number in range(300):
        created_at = (NEW, START - 20 * DAY_MS, START - 60 * DAY_MS, OLD, NEW, None)[number % 6]
        fields = {"system_prompt": AGENT, "prompt": own_words(number), "client_ip": f"10.{number // 9}.{number % 9}.5"}
        yield event(0, f"user-{number}", number * 90_000, account_created_at=created_at, **fields)


SCENARIOS: dict[str, Callable[[], Iterator[Event]]] = {
    "quiet": quiet,
    "hammering": hammering,
    "refused_retries": refused_retries,
    "subnet": subnet,
    "subnet_with_trusted": subnet_with_trusted,
    "subnet_v6": subnet_v6,
    "template": template,
    "template_with_trusted": template_with_trusted,
    "template_cleared_later": template_cleared_later,
    "template_unknown_age": template_unknown_age,
    "all_of_unknown_age": all_of_unknown_age,
    "template_and_payment": template_and_payment,
    "agent": agent,
}


def events_of(name: str) -> list[Event]:
    """Number the events of a scenario, in order of time."""
    found = sorted(SCENARIOS[name](), key=lambda one: one["occurred_at"])  # type: ignore[arg-type,return-value]
    return [{**one, "event_id": f"e{number}"} for number, one in enumerate(found)]
