"""``python -m streamdetect.sandbox``: the strongest local Kafka in the foreground, until Ctrl-C or SIGTERM.

The bootstrap address is the only thing on standard output, so a script can read it; words go to standard error.
"""

import argparse
import os
import signal
import sys
import time

from streamdetect.errors import StreamdetectError, UsageError
from streamdetect.sandbox.cluster import EXTERNAL_VARIABLE, Cluster, Tier, start_cluster
from streamdetect.sandbox.ready import port_open

PORT = 9092
_LOOK_S = 0.5


def main(arguments: list[str] | None = None) -> int:
    """Run a cluster and return the exit code: 0 when asked to end, otherwise that of the error."""
    options = _parser().parse_args(arguments)
    # A command to run a Kafka here means here, whatever the tests were told to use.
    os.environ.pop(EXTERNAL_VARIABLE, None)
    # From here on SIGTERM ends the start, the waiting and nothing else, exactly as Ctrl-C does. A shell that starts a
    # program in the background has it ignore Ctrl-C: whoever sends one all the same means it.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    try:
        cluster = start_cluster(
            tier=options.tier, nodes=options.nodes, properties=_settings(options.set), port=_port(options.port)
        )
    except KeyboardInterrupt:
        return 0
    except StreamdetectError as error:
        print(error, file=sys.stderr)  # noqa: T201 - a command
        return error.exit_code
    try:
        return _serve(cluster)
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        cluster.close()


def _serve(cluster: Cluster) -> int:
    try:
        print(f"{cluster.describe()}; Ctrl-C ends it and removes its data", file=sys.stderr)  # noqa: T201 - a command
        print(cluster.bootstrap_servers, flush=True)  # noqa: T201 - its interface
        while any(port_open(address) for address in cluster.bootstrap_servers.split(",")):
            time.sleep(_LOOK_S)
    except KeyboardInterrupt:
        return 0
    logs = "\n".join(node.complaint() for node in cluster.nodes)
    print(f"the cluster ended by itself\n{logs}", file=sys.stderr)  # noqa: T201 - a command
    return 4


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m streamdetect.sandbox", description="A Kafka on this machine.")
    parser.add_argument("--tier", choices=[Tier.JARS.value, Tier.MOCK.value], help="default: the strongest present")
    parser.add_argument("--nodes", type=int, choices=(1, 3), default=1)
    parser.add_argument("--port", type=int, help=f"of the first node (jars only); default: {PORT} if free, else any")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a broker setting (jars only)")
    return parser


def _port(asked: int | None) -> int | None:
    if asked is not None:
        return asked
    return None if port_open(f"127.0.0.1:{PORT}") else PORT


def _settings(pairs: list[str]) -> dict[str, str]:
    settings = {}
    for pair in pairs:
        key, sign, value = pair.partition("=")
        if not sign or not key:
            raise UsageError(f"--set takes KEY=VALUE, not {pair!r}")
        settings[key] = value
    return settings


if __name__ == "__main__":
    sys.exit(main())
