"""The command line: the composition root. Subcommands live in their own modules and are imported when called."""

import os
import sys

from cyclopts import App

from streamdetect import __version__
from streamdetect.errors import EXIT_DONE, EXIT_INTERRUPTED, StreamdetectError

app = App(
    name="streamdetect",
    help="Finds distillation campaigns in LLM API traffic while they run, and tells the gateway what to do.",
    version=__version__,
)
# ``help`` repeats what the command's function says, so that listing the commands loads none of them; a test compares.
app.command(
    "streamdetect.cli.simulate:simulate",
    name="simulate",
    help="""Write labelled traffic: campaigns and honest look-alikes among honest accounts.

    Leaves requests.jsonl.gz, labels.jsonl, manifest.json (parameters, counts, how attackers react) and the attackers'
    books in the output folder: attack.jsonl.gz (every exchange of a campaign), cover.jsonl.gz (those that are cover
    traffic) and spares.jsonl.gz (prompts of templates that a campaign keeps back).
    """,
)
app.command(
    "streamdetect.cli.policy:app",
    name="policy",
    help="Check policies, give them to running workers, and list what their rules can read.",
)
app.command(
    "streamdetect.cli.override:app",
    name="override",
    help="Allow or deny a subject, whatever the detector decides, or take that back.",
)
app.command("streamdetect.cli.kill:app", name="kill", help="Stop all enforcement at once, or let it go on.")
app.command(
    "streamdetect.cli.worker:worker",
    name="worker",
    help="Detect campaigns in live traffic and write decisions. Ends cleanly on SIGTERM.",
)
app.command(
    "streamdetect.cli.replay:replay",
    name="replay",
    help="Run the detector over recorded events, as it would have run live. Nothing is sent anywhere.",
)
app.command(
    "streamdetect.cli.topics:topics",
    name="topics",
    help="Create the topics that are missing and check the others; nothing that exists is changed.",
)
app.command(
    "streamdetect.cli.produce:produce",
    name="produce",
    help="""Send files of events (.jsonl, .jsonl.gz, or - for standard input) to the request topic.

    With --rebase the newest event gets the time of now, so that none lies ahead; with --speed up to 1 the first does.
    """,
)
app.command(
    "streamdetect.cli.demo:demo",
    name="demo",
    help="""Watch a distillation campaign be found and stopped: broker, detector, traffic and gateway in one command.

    Exit code 0: the campaign was caught, the gateway obeyed and no honest account was suspended; 1: not so.
    """,
)


def main(words: list[str] | None = None) -> None:
    """Run a command (of this process, unless told) and end with the exit code its error names."""
    try:
        app(words)
    except StreamdetectError as error:
        sys.stderr.write(f"streamdetect: {error}\n")
        sys.exit(error.exit_code)
    except BrokenPipeError:
        # Whoever read our output has seen enough; what is still buffered must not complain at exit.
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115  # lives until the exit that follows
        sys.exit(EXIT_DONE)
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
