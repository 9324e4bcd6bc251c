"""The command line: the composition root. Subcommands live in their own modules and are imported when called."""

import os
import sys

from cyclopts import App

from streamdetect import __version__
from streamdetect.errors import EXIT_DONE, EXIT_INTERRUPTED, StreamdetectError

app = App(name="streamdetect", help=__doc__, version=__version__)
app.command("streamdetect.cli.simulate:simulate", name="simulate")
app.command("streamdetect.cli.policy:app", name="policy", help="Check policies, and list what their rules can read.")
app.command("streamdetect.cli.worker:worker", name="worker")
app.command("streamdetect.cli.replay:replay", name="replay")
app.command("streamdetect.cli.topics:topics", name="topics")
app.command("streamdetect.cli.produce:produce", name="produce")
app.command("streamdetect.cli.demo:demo", name="demo")


def main() -> None:
    """Run a command and end with the exit code its error names."""
    try:
        app()
    except StreamdetectError as error:
        sys.stderr.write(f"streamdetect: {error}\n")
        sys.exit(error.exit_code)
    except BrokenPipeError:
        # Whoever read our output has seen enough; what is still buffered must not complain at exit.
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115  # lives until the exit that follows
        sys.exit(EXIT_DONE)
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
