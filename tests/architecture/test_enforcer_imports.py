"""A gateway that embeds the client must not get the detector with it."""

import subprocess
import sys

FORBIDDEN = (
    "numpy",
    "numba",
    "faust",
    "msgspec",
    *(f"streamdetect.{name}" for name in ("pipeline", "kernels", "worker")),
)


def test_the_gateway_client_loads_nothing_of_the_detector():
    code = "import sys, streamdetect.enforcer.client; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    loaded = done.stdout.split()
    assert "streamdetect.enforcer.client" in loaded
    assert [name for name in loaded if name in FORBIDDEN] == []
