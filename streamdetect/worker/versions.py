"""Refuses engine versions this package was not tested with.

The transport overrides private members of Faust's consumer, so another version may lose records without any error.
Checked once, at import of the transport.
"""

from importlib.metadata import PackageNotFoundError, version

from streamdetect.errors import UsageError

PINNED = {"faust-streaming": "0.15.3", "mode-streaming": "0.7.1", "aiokafka": "0.14.0"}


def check_versions() -> None:
    """Raise ``UsageError`` unless the engine is exactly the one the transport was written for."""
    for package, wanted in PINNED.items():
        try:
            found = version(package)
        except PackageNotFoundError:
            found = "nothing"
        if found != wanted:
            raise UsageError(f"the worker needs {package} {wanted}, found {found}: install streamdetect[worker]")
