"""The payload as one deterministic zip: the same sources give the same bytes, so its hash names what a host has."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import sloth.payload

DATE = (2000, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class Bundle:
    """`data`: a zip with the package `sloth.payload`; `sha256`: its hash as hex."""

    sha256: str
    data: bytes


def build(extra: Mapping[str, bytes] | None = None) -> Bundle:
    """Return the payload's bundle. `extra`: further files by their path in the zip (custom modules)."""
    return _build(tuple(sorted((extra or {}).items())))


@lru_cache(maxsize=4)
def _build(extra: tuple[tuple[str, bytes], ...]) -> Bundle:
    root = Path(sloth.payload.__file__).parent
    files = {"sloth/__init__.py": b""}
    for path in root.rglob("*.py"):
        files["sloth/payload/" + path.relative_to(root).as_posix()] = path.read_bytes()
    files.update(extra)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name in sorted(files):
            info = zipfile.ZipInfo(name, DATE)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = 0o600 << 16
            archive.writestr(info, files[name])
    data = buffer.getvalue()
    return Bundle(hashlib.sha256(data).hexdigest(), data)
