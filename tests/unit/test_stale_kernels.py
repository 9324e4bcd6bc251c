"""Compiled kernels do not outlive a change of any of them."""

import shutil

import pytest

from streamdetect.stale_kernels import forget_stale_kernels


@pytest.fixture(params=["beside the sources", "elsewhere"])
def package(request, tmp_path, monkeypatch):
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    if request.param == "elsewhere":
        monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "cache"))
    for name, text in (("caller.py", "@njit\nimport called"), ("deep/called.py", "@njit"), ("other.py", "x = 1")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    forget_stale_kernels(tmp_path)
    beside = request.param == "beside the sources"
    for folder in ("__pycache__", "deep/__pycache__") if beside else ("cache/one", "cache/two"):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / "kernel.nbi").write_text("compiled")
    return tmp_path


def kept(package):
    return len(list(package.rglob("*.nbi")))


def test_nothing_changed_and_all_is_kept(package):
    (package / "other.py").write_text("x = 2")
    forget_stale_kernels(package)
    assert kept(package) == 2


def test_one_changed_and_all_are_made_anew_once(package):
    (package / "deep/called.py").write_text("@njit  # in another way")
    forget_stale_kernels(package)
    assert kept(package) == 0
    (package / "deep/kernel.nbi" if not (package / "cache").exists() else package / "cache/one/kernel.nbi").write_text(
        ""
    )
    forget_stale_kernels(package)
    assert kept(package) == 1


def test_where_nothing_can_be_written_it_goes_on(package):
    (package / "caller.py").write_text("@njit")
    place = package / "cache" if (package / "cache").exists() else package
    shutil.rmtree(place / "__pycache__")
    (place / "__pycache__").write_text("no folder")
    forget_stale_kernels(package)
