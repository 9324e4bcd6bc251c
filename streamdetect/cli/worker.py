"""``streamdetect worker``: the live detector on Kafka."""

from pathlib import Path
from typing import Literal

from streamdetect.cli.replay import read_policy
from streamdetect.settings import load_settings
from streamdetect.telemetry.logs import configure_logs


def worker(
    *,
    mode: Literal["shadow", "live"] | None = None,
    bootstrap_servers: str | None = None,
    policy: Path | None = None,
    config: Path | None = None,
    log_level: str = "info",
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
        debug, info, warning or error.
    """
    settings = load_settings(config, mode=mode, bootstrap_servers=bootstrap_servers, policy_file=policy)
    configure_logs(log_level)
    chosen = read_policy(settings.policy_file)
    # Late: Faust and the compiled kernels take seconds to load, and a wrong setting should be told at once.
    from streamdetect.worker.program import run_worker  # noqa: PLC0415

    run_worker(settings, chosen, settings.mode or chosen.model.mode)
