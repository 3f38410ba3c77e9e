"""Where a file of weights is: in a repository of the hub, or at a web address."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from urllib.parse import urlsplit

from vitkd_bench.spec import BadInputError

THIS_MACHINE = {"localhost", "127.0.0.1", "::1"}
OFFLINE = ("VITKD_OFFLINE", "HF_HUB_OFFLINE")
_FORMS = "hf://owner/name[@revision]/file or https://..."


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file in a model repository of the hub; without a `revision` the newest is meant."""

    repository: str
    file: str
    revision: str | None = None


@dataclass(frozen=True, slots=True)
class WebFile:
    """A file at a web address."""

    url: str

    @property
    def place(self) -> str:
        """Folder and name of the file in the cache; two addresses never share one."""
        name = urlsplit(self.url).path.rpartition("/")[2] or "weights"
        return f"{hashlib.sha256(self.url.encode()).hexdigest()[:12]}/{name}"


def parse_location(text: str, where: str) -> HubFile | WebFile:
    """Read a location as a teacher's file gives it.

    Raises:
        BadInputError: of another form; `where` is what the message opens with.
    """
    parts = urlsplit(text)
    if parts.scheme == "hf":
        return _hub_file(text.removeprefix("hf://"), f"{where}: location {text!r}")
    if parts.scheme == "https" and parts.hostname:
        return WebFile(text)
    if parts.scheme == "http" and parts.hostname in THIS_MACHINE:
        return WebFile(text)
    if parts.scheme == "http":
        raise BadInputError(f"{where}: location {text!r}: whoever is on the way may alter it; use https")
    if parts.scheme in {"", "file"}:
        raise BadInputError(f"{where}: location {text!r} is local: name the file in a suite by weights: FILE")
    raise BadInputError(f"{where}: location {text!r} is not of the form {_FORMS}")


def _hub_file(path: str, where: str) -> HubFile:
    owner, _, rest = path.partition("/")
    name, _, file = rest.partition("/")
    name, at, revision = name.partition("@")
    steps = [owner, name, *file.split("/"), *([revision] if at else [])]
    if not all(steps) or {".", ".."} & set(steps):
        raise BadInputError(f"{where} is not of the form {_FORMS}")
    return HubFile(f"{owner}/{name}", file, revision or None)


def offline_by() -> str | None:
    """The setting by which no network may be used, as `NAME=value`; None if it may."""
    for name in OFFLINE:
        value = os.environ.get(name, "")
        if value.upper() in {"1", "ON", "YES", "TRUE"}:
            return f"{name}={value}"
    return None
