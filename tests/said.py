"""Lines for the end of a run's report, from each of its processes."""

import pytest

SAID = pytest.StashKey[list[str]]()
