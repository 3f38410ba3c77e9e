"""Canonical JSON and the hash of it: one text for one meaning."""

from __future__ import annotations

import hashlib
import json
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
