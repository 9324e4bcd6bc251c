"""The error tree, with the exit code each branch ends a command with.

::

    StreamdetectError
    ├── UsageError            2  the command was called wrongly
    │   └── SettingsError     2  an environment variable or a settings file is wrong
    ├── BadDataError          3  a file, a record or a policy cannot be read
    │   ├── PolicyError       3  a policy is wrong; names line and column
    │   └── ImageError        3  a packed record or an image has an unknown version or is torn
    ├── UnreachableError      4  a broker or another service cannot be reached or refuses us
    └── GateError             1  everything ran, and a stated gate failed

A bad record in a stream is not an error but a value: see ``pipeline.accept``. Messages name the key, the reason and the
next step, and never hold user content.
"""

EXIT_DONE = 0
EXIT_INTERRUPTED = 130


class StreamdetectError(Exception):
    """Root of every error this package raises on purpose."""

    exit_code = 1


class GateError(StreamdetectError):
    """Everything ran, and a stated gate failed."""

    exit_code = 1


class UsageError(StreamdetectError):
    """The command was called wrongly."""

    exit_code = 2


class SettingsError(UsageError):
    """An environment variable or a settings file is wrong."""


class BadDataError(StreamdetectError):
    """A file, a record or a policy cannot be read."""

    exit_code = 3


class PolicyError(BadDataError):
    """A policy is wrong. ``line`` and ``column`` count from 1; 0 means the whole file."""

    def __init__(self, message: str, *, line: int = 0, column: int = 0, source: str = "policy") -> None:
        self.line, self.column, self.source = line, column, source
        place = f"{source}:{line}:{column}: " if line else f"{source}: "
        super().__init__(place + message)


class ImageError(BadDataError):
    """A packed record or an image has an unknown version or is torn."""


class UnreachableError(StreamdetectError):
    """A broker or another service cannot be reached or refuses us."""

    exit_code = 4
