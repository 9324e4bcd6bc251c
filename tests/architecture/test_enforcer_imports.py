"""A gateway that embeds the client must not get the detector with it."""

import subprocess
import sys


def test_the_gateway_client_loads_nothing_of_the_detector():
    code = (
        "import sys, streamdetect.enforcer.client\n"
        "bad = {'numpy', 'numba', 'faust', 'msgspec', 'streamdetect.pipeline', 'streamdetect.kernels', 'streamdetect.worker'}\n"
        "sys.exit(', '.join(bad & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr.strip() == ""
    assert done.returncode == 0
