"""Canonical JSON and its hash, one text for one meaning; and the hash of a file."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any


def canonical_json(value: Any) -> str:
    """Write `value` with sorted keys, no blanks and no NaN, so that equal values give equal text.

    Raises:
        ValueError: a float that is not finite.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def content_hash(value: Any, length: int = 16) -> str:
    """Hash `value` by its canonical JSON; `length` hexadecimal digits of SHA-256 (16 digits = 64 bits)."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:length]


def file_sha256(path: Path) -> str:
    """Hash a file in pieces, so that it need not fit in memory: 64 hexadecimal digits.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
