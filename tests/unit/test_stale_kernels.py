"""Compiled kernels do not outlive a change of any of them."""

import shutil

import pytest

from streamdetect.stale_kernels import forget_stale_kernels


@pytest.fixture
def package(tmp_path):
    found = tmp_path / "package"
    for name, text in (("caller.py", "@njit\nimport called"), ("deep/called.py", "@njit"), ("other.py", "x = 1")):
        (found / name).parent.mkdir(parents=True, exist_ok=True)
        (found / name).write_text(text)
    return found


@pytest.fixture(params=["beside the sources", "elsewhere"])
def cache(request, package, tmp_path, monkeypatch):
    """Where compiled kernels are kept; there are two, made from the sources as they are."""
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    place = package
    if request.param == "elsewhere":
        place = tmp_path / "cache"
        monkeypatch.setenv("NUMBA_CACHE_DIR", str(place))
    forget_stale_kernels(package)
    for name in ("one", "two"):
        (place / name).mkdir()
        (place / name / "kernel.nbi").write_text("compiled")
    return place


def kept(cache):
    return len(list(cache.rglob("*.nbi")))


def test_nothing_changed_and_all_is_kept(package, cache):
    (package / "other.py").write_text("x = 2")
    forget_stale_kernels(package)
    assert kept(cache) == 2


def test_one_changed_and_all_are_made_anew_once(package, cache):
    (package / "deep/called.py").write_text("@njit  # in another way")
    forget_stale_kernels(package)
    assert kept(cache) == 0
    (cache / "one/kernel.nbi").write_text("compiled")
    forget_stale_kernels(package)
    assert kept(cache) == 1


def test_where_nothing_can_be_written_it_goes_on(package, cache):
    (package / "caller.py").write_text("@njit")
    shutil.rmtree(cache / "__pycache__")
    (cache / "__pycache__").write_text("no folder")
    forget_stale_kernels(package)
