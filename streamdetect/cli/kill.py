"""``streamdetect kill``: the switch that stops enforcement as a whole."""

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from streamdetect.cli.controls import actor_or_login
from streamdetect.cli.flags import AsJson
from streamdetect.cli.override import checked_reason, decide, take_back, told
from streamdetect.cli.times import duration_ms
from streamdetect.errors import UsageError
from streamdetect.messages.override import Everything
from streamdetect.settings import load_settings

app = App(name="kill", help="Stop all enforcement at once, or let it go on.")


@app.command
def on(
    *,
    reason: str,
    for_: Annotated[str | None, Parameter(name="--for")] = None,
    actor: str | None = None,
    config: Path | None = None,
    as_json: AsJson = False,
) -> None:
    """Stop all enforcement: gateways let everybody pass, the detector goes on deciding and puts nothing in force.

    Parameters
    ----------
    reason
        Why, for the record.
    for_
        How long, such as 15m or 6h; until kill off unless told.
    actor
        Who decides; the login name unless told.
    config
        Settings file (TOML), over STREAMDETECT_CONFIG.
    as_json
        Print the override as JSON.
    """
    lasts_ms = None if for_ is None else duration_ms(for_)
    if lasts_ms == 0:
        raise UsageError("--for must be above 0")
    by, why = actor_or_login(actor), checked_reason(reason)
    told(*decide("kill", Everything(), lasts_ms, why, by, load_settings(config)), as_json=as_json)


@app.command
def off(*, reason: str, actor: str | None = None, config: Path | None = None, as_json: AsJson = False) -> None:
    """Let enforcement go on: what is still in force holds again, and new decisions are enforced.

    Parameters
    ----------
    reason
        Why, for the record.
    actor
        Who decides; the login name unless told.
    config
        Settings file (TOML), over STREAMDETECT_CONFIG.
    as_json
        Print what was taken back as JSON.
    """
    take_back(Everything(), reason, actor, load_settings(config), as_json=as_json)
