"""Throws compiled kernels away when the source of any of them has changed.

Numba compares the file of a function only: one that was compiled into another, of another file, may change and its
caller goes on as it was. After an update in place such a worker would decide by a mixture of two versions. Called when
kernels are imported, so that a gateway, which has none, pays nothing.
"""

import os
from hashlib import blake2b
from pathlib import Path

_MARK = b"njit"
_PACKAGE = Path(__file__).parent


def forget_stale_kernels(package: Path = _PACKAGE) -> None:
    """Remove the cached kernels of ``package`` if its sources are not what they were made from.

    They lie beside the sources or under ``NUMBA_CACHE_DIR``. Where nothing can be written, none are kept either.
    """
    place = Path(os.environ.get("NUMBA_CACHE_DIR") or package)
    sources = sorted(package.rglob("*.py"))
    texts = [text for source in sources if _MARK in (text := source.read_bytes())]
    digest, note = blake2b(b"\0".join(texts)).hexdigest(), place / "__pycache__" / "kernels"
    try:
        if note.is_file() and note.read_text(encoding="ascii") == digest:
            return
        for kept in place.rglob("*.nbi"):
            kept.unlink(missing_ok=True)
        note.parent.mkdir(parents=True, exist_ok=True)
        note.write_text(digest, encoding="ascii")
    except OSError:
        return
