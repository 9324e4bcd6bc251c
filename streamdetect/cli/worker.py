"""``streamdetect worker``: the live detector on Kafka."""

import asyncio
import signal
import sys
from pathlib import Path
from typing import Final, Literal

from streamdetect.cli.policy import read_policy
from streamdetect.kafka.topics import create_and_check
from streamdetect.settings import load_settings
from streamdetect.telemetry.logs import configure_logs

# An orchestrator that restarts us wants to know soon; with imports this stays within 15 s.
REACH_S: Final = 8.0


def worker(
    *,
    mode: Literal["shadow", "live"] | None = None,
    bootstrap_servers: str | None = None,
    policy: Path | None = None,
    config: Path | None = None,
    log_level: Literal["debug", "info", "warning", "error"] = "info",
) -> None:
    """Detect campaigns in live traffic and write decisions. Ends cleanly on SIGTERM.

    Parameters
    ----------
    mode
        live enforces; shadow decides and logs only. Over STREAMDETECT_MODE, over the policy's own mode.
    bootstrap_servers
        Broker addresses, over STREAMDETECT_BOOTSTRAP_SERVERS.
    policy
        Policy file, over STREAMDETECT_POLICY_FILE; the shipped policy (shadow) without one.
    config
        Settings file (TOML), over STREAMDETECT_CONFIG.
    log_level
        How much is logged.
    """
    # Before the first partition is ours there is nothing to finish; from then on the engine sees to it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    settings = load_settings(config, mode=mode, bootstrap_servers=bootstrap_servers, policy_file=policy)
    chosen = read_policy(settings.policy_file)
    configure_logs("critical")  # an error that ends the start is one line, which says what a client library would
    report = asyncio.run(create_and_check(settings, create=False, timeout_s=REACH_S))
    configure_logs(log_level)
    # Late: Faust and the compiled kernels take seconds to load, and what is wrong should be told at once.
    from streamdetect.worker.program import run_worker  # noqa: PLC0415

    run_worker(settings, chosen, settings.mode or chosen.model.mode, report.partitions[settings.request_topics[0]])
