"""The lock file: what every location gave when it was first used.

It is read whenever teachers are listed, so it is checked by hand: to build a description of `spec` for it
would take longer than the rest of that command.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from vitkd_bench.spec import DamagedFileError, WorldError

SCHEMA = 1
_SHA256 = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """What a location gave: the hub's commit, SHA-256 and size in bytes; and where the file lies here.

    `changed_ns` is the file's time of change when its hash was taken: a file of that size and time is not
    hashed again. A ValueError says which field is of another kind.
    """

    revision: str | None = None
    sha256: str
    size: int
    date: str
    path: str
    changed_ns: int

    def __post_init__(self) -> None:
        """Refuse what could not have been recorded."""
        texts = ("sha256", "date", "path", *(() if self.revision is None else ("revision",)))
        for name in texts:
            _check(isinstance(getattr(self, name), str), name, "a text", getattr(self, name))
        for name in ("size", "changed_ns"):
            _check(type(getattr(self, name)) is int, name, "a whole number", getattr(self, name))
        _check(_SHA256.fullmatch(self.sha256) is not None, "sha256", "64 hexadecimal digits", self.sha256)
        _check(self.size >= 0, "size", "a number of bytes", self.size)


@dataclass(frozen=True, slots=True)
class WeightLock:
    """The whole of `weights.lock.json`: pins by location."""

    weights: dict[str, Pin] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> WeightLock:
        """Read the lock file; an empty one if there is none yet.

        Raises:
            DamagedFileError: not what `content` writes. WorldError: it cannot be read.
        """
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return cls()
        except OSError as error:
            raise WorldError(f"{path}: cannot be read: {error.strerror or error}") from None
        try:
            return cls(_pins(_json(content)))
        except ValueError as error:
            raise DamagedFileError(
                f"{path}: {error}; put a sound copy there, or remove it and fetch again to record anew"
            ) from None

    def with_pin(self, location: str, pin: Pin) -> WeightLock:
        """Copy this with a pin put in."""
        return WeightLock({**self.weights, location: pin})

    def content(self) -> bytes:
        """Write it for people and for `read`: pretty JSON, locations in order."""
        weights = {location: asdict(pin) for location, pin in sorted(self.weights.items())}
        plain = {"schema": SCHEMA, "weights": weights}
        return (json.dumps(plain, indent=2, ensure_ascii=False) + "\n").encode()


def _json(content: bytes) -> Any:
    try:
        return json.loads(content.decode())
    except ValueError:
        raise ValueError("not JSON") from None


def _pins(data: Any) -> dict[str, Pin]:
    _check(isinstance(data, dict), "", "a mapping", data)
    _check(data.keys() <= {"schema", "weights"}, "", "schema and weights and no more", sorted(data))
    _check(data.get("schema", SCHEMA) == SCHEMA, "schema", str(SCHEMA), data.get("schema"))
    weights = data.get("weights", {})
    _check(isinstance(weights, dict), "weights", "a mapping", weights)
    return {location: _pin(location, found) for location, found in weights.items()}


def _pin(location: str, data: Any) -> Pin:
    try:
        return Pin(**data)
    except ValueError as error:
        raise ValueError(f"weights.{location}.{error}") from None
    except TypeError:  # no mapping, or other fields than a pin has
        fields = ", ".join(sorted(Pin.__dataclass_fields__))
        raise ValueError(f"weights.{location}: {fields} are wanted, got {data!r}") from None


def _check(sound: bool, name: str, wanted: str, got: object) -> None:  # noqa: FBT001 - reads as a sentence
    if not sound:
        raise ValueError(f"{name}{': ' if name else ''}{wanted} is wanted, got {got!r}")
