"""The software that calls: user agents with the handshake fingerprint that follows from each, and models."""

from typing import Final

import numpy as np

from streamdetect.traffic.draws import mix
from streamdetect.traffic.texts import Texts, texts_of

Clients = tuple[tuple[str, int], ...]  # user agent, weight

EVERYBODY: Final[Clients] = (
    ("openai-python/1.59.6", 16), ("openai-python/1.54.0", 8), ("openai-node/4.77.0", 12),
    ("anthropic-python/0.42.0", 10),
    ("anthropic-typescript/0.33.1", 8), ("Mozilla/5.0 (Windows NT 10.0; Win64; x64) Chrome/131.0", 18),
    ("Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) Safari/605.1", 9), ("python-httpx/0.28.1", 6), ("curl/8.11.0", 2),
    ("langchain/0.3.14", 5), ("litellm/1.56.2", 4), ("okhttp/4.12.0", 2),
)  # fmt: skip
PROGRAMS: Final[Clients] = (
    ("openai-python/1.59.6", 30), ("openai-python/1.54.0", 20), ("openai-node/4.77.0", 20), ("python-httpx/0.28.1", 10),
    ("langchain/0.3.14", 12), ("litellm/1.56.2", 8),
)  # fmt: skip
# Relays present one client, a release or two behind the real one.
RELAYED: Final[Clients] = (("openai-python/1.54.0", 55), ("python-httpx/0.28.1", 25), ("openai-node/4.77.0", 20))
FIXED: Final[Clients] = (("openai-python/1.54.0", 1),)
EDITOR: Final[Clients] = (("workbench-agent/1.9.2", 60), ("workbench-agent/1.9.1", 25), ("workbench-agent/1.8.7", 15))
RUNNER: Final[Clients] = (("pipeline-runner/3.2.0", 80), ("pipeline-runner/3.1.4", 20))
BROWSERS: Final[Clients] = (
    ("Mozilla/5.0 (Windows NT 10.0; Win64; x64) Chrome/131.0", 45),
    ("Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) Safari/605.1", 25),
    ("Mozilla/5.0 (Linux x86_64) Firefox/133.0", 10), ("Mozilla/5.0 (Linux; Android 14) Chrome/131.0", 20),
)  # fmt: skip

MODELS: Final = ("large-2", "medium-2", "small-2", "large-3")
NEWEST: Final = 3
RELEASE_MS: Final = 86_400_000  # the newest model comes out a day after the start


def client_members(clients: Clients) -> Texts:
    """Return user agent and fingerprint of each client as JSON members, with the comma in front."""
    return texts_of(
        [
            b',"user_agent":"%s","client_fingerprint":"%s"' % (agent.encode(), _fingerprint(agent))
            for agent, _ in clients
        ]
    )


def model_members() -> Texts:
    """Return each model as JSON members, with the comma in front."""
    return texts_of([b',"model":"%s","operation":"chat"' % model.encode() for model in MODELS])


def _fingerprint(agent: str) -> bytes:
    """Return the handshake fingerprint of a client: a function of its software alone."""
    key = int.from_bytes(agent.encode()[-8:], "big")
    return f"t13d{mix(np.array([key], np.uint64))[0]:012x}"[:16].encode()
