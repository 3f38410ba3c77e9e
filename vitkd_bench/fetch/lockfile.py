"""The lock file: what every location gave when it was first used."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

from pydantic import Field

from vitkd_bench.spec import BadInputError, DamagedFileError, WorldError
from vitkd_bench.spec.base import Frozen


class Pin(Frozen):
    """What a location gave: the hub's commit, SHA-256 and size in bytes; and where the file lies here.

    `changed_ns` is the file's time of change when its hash was taken: a file of that size and time is not
    hashed again.
    """

    revision: str | None = None
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    size: int = Field(ge=0)
    date: str
    path: str
    changed_ns: int


class WeightLock(Frozen):
    """The whole of `weights.lock.json`: pins by location."""

    schema_: Literal[1] = Field(default=1, alias="schema")
    weights: dict[str, Pin] = {}

    @classmethod
    def read(cls, path: Path) -> WeightLock:
        """Read the lock file; an empty one if there is none yet.

        Raises:
            DamagedFileError: not what `content` writes. WorldError: it cannot be read.
        """
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return cls()
        except UnicodeDecodeError:
            text = ""
        except OSError as error:
            raise WorldError(f"{path}: cannot be read: {error.strerror or error}") from None
        try:
            return cls.parse(json.loads(text), str(path))
        except (ValueError, BadInputError) as error:
            why = str(error).removeprefix(f"{path}: ") if isinstance(error, BadInputError) else "not JSON"
            raise DamagedFileError(
                f"{path}: {why}; put a sound copy there, or remove it and fetch again to record anew"
            ) from None

    def with_pin(self, location: str, pin: Pin) -> WeightLock:
        """Copy this with a pin put in."""
        return WeightLock(weights={**self.weights, location: pin})

    def content(self) -> bytes:
        """Write it for people and for `read`: pretty JSON, locations in order."""
        plain = self.plain()
        plain["weights"] = dict(sorted(plain["weights"].items()))
        return (json.dumps(plain, indent=2, ensure_ascii=False) + "\n").encode()
