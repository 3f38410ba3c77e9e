"""Downloads that are whole or absent, and go on where they were broken off."""

from __future__ import annotations

import contextlib
import os
import shutil
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.client import HTTPException, HTTPMessage
from pathlib import Path
from typing import IO, Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from vitkd_bench.fetch.files import Expected, Watch, check_hash, on_disk, sha256_of
from vitkd_bench.fetch.patience import BUSY, TransientError, asked_pause, patiently
from vitkd_bench.spec import BadInputError, WorldError

CHUNK = 1 << 20  # bytes
TIMEOUT = 30.0  # seconds without a byte


@dataclass(frozen=True, slots=True)
class Remote:
    """A file elsewhere. `fixed` says that its address never gives other bytes; `where` opens errors.

    `kind` is what it holds; `by_hand` and `room` end sentences: what to do where it has to be brought by
    hand, and where the disk is full.
    """

    url: str
    where: str
    headers: Mapping[str, str] = field(default_factory=dict)
    size: int | None = None
    fixed: bool = False
    expected: tuple[Expected, ...] = ()
    kind: str = "weights"
    by_hand: str = "give weights: FILE"
    room: str = "VITKD_CACHE and HF_HOME say where weights are kept"


def download(remote: Remote, target: Path, watch: Watch | None = None) -> str:
    """Bring a file to `target`: checked, then renamed into place; gives its SHA-256.

    One process at a time may do so.

    What has arrived stands in `target` + `.part`. The next call goes on from there if the server says by its
    ETag or Last-Modified that the file is still the same, or the address is fixed.

    Raises:
        BadInputError: no such file, or no right to it.
        WorldError: no network, a server that fails, a full disk, or not the expected hash; `target` is as it
            was before.
    """
    part = target.with_name(f"{target.name}.part")
    with on_disk(part):
        part.parent.mkdir(parents=True, exist_ok=True)
    if remote.size is None or _size(part) != remote.size:
        patiently(lambda: _attempt(remote, part, watch), lambda: _size(part), remote.where)
    digest = sha256_of(part)
    try:
        check_hash(digest, remote.expected, remote.where)
    except WorldError:
        _forget(part)
        raise
    with on_disk(target):
        part.replace(target)
    _forget(part)
    return digest


def _attempt(remote: Remote, part: Path, watch: Watch | None) -> None:
    """Ask for what is missing, once."""
    validator = _validator(part)
    # its last byte again: a server refuses a range that starts at the end
    have = max(0, _size(part) - 1) if remote.fixed or validator else 0
    headers = {"Accept-Encoding": "identity", "User-Agent": "vitkd_bench", **remote.headers}
    if have:
        headers["Range"] = f"bytes={have}-"
    if have and not remote.fixed:
        headers["If-Range"] = validator
    with _opened(Request(remote.url, headers=headers), remote, part) as response:  # noqa: S310 - checked before
        start, total = _extent(response.status, response.headers, have)
        if response.headers.get_content_type() == "text/html":
            raise BadInputError(f"{remote.where}: gives a web page, not {remote.kind} (a login or a proxy?)")
        _need_space(part, total, start, remote)
        if not start:
            _remember_validator(part, response.headers)
        _receive(response, part, start, total, watch)


def _receive(response: Any, part: Path, start: int, total: int | None, watch: Watch | None) -> None:
    with on_disk(part), part.open("r+b" if start else "wb") as file:
        file.seek(start)
        for chunk in _chunks(response):
            file.write(chunk)
            if watch:
                watch(file.tell(), total)
        file.flush()
        os.fsync(file.fileno())
    if total is not None and _size(part) != total:
        raise TransientError(f"broken off after {_size(part)} of {total} bytes")


def _chunks(response: Any) -> Iterator[bytes]:
    while True:
        try:
            chunk: bytes = response.read(CHUNK)
        except (HTTPException, OSError) as error:
            raise TransientError(f"broken off ({type(error).__name__}: {error})") from None
        if not chunk:
            return
        yield chunk


@contextlib.contextmanager
def _opened(request: Request, remote: Remote, part: Path) -> Iterator[Any]:
    try:
        response = build_opener(_Redirects).open(request, timeout=TIMEOUT)
    except HTTPError as error:
        with error:
            raise _refused(error, remote, part) from None
    except (HTTPException, OSError) as error:
        reason = error.reason if isinstance(error, URLError) else error
        if isinstance(reason, ssl.SSLCertVerificationError):
            raise WorldError(
                f"{remote.where}: {reason.verify_message}; SSL_CERT_FILE names the certificates to trust"
            ) from None
        raise TransientError(f"cannot be reached ({reason})") from None
    with response:
        yield response


def _refused(error: HTTPError, remote: Remote, part: Path) -> Exception:
    """Find the exception that belongs to an HTTP status."""
    said = f"HTTP {error.code} {error.reason}"
    if error.code == 416:  # more is here than there: what is here is not of this file
        _forget(part)
        return TransientError(said, wait=0)
    if error.code in BUSY:
        return TransientError(said, asked_pause(error.headers.get("Retry-After")))
    if error.code in {401, 403}:
        return BadInputError(f"{remote.where}: {said}: no right to read it")
    if error.code in {404, 410}:
        return BadInputError(
            f"{remote.where}: {said}: no such file; download it by hand and {remote.by_hand}"
        )
    return WorldError(f"{remote.where}: {said}")


def _extent(status: int, headers: HTTPMessage, have: int) -> tuple[int, int | None]:
    """Read from a response where it starts and how long the whole file is, in bytes."""
    length = headers.get("Content-Length")
    if status != 206:
        return 0, int(length) if length else None
    unit, _, rest = headers.get("Content-Range", "").partition(" ")
    begin, total = rest.partition("-")[0], rest.rpartition("/")[2]
    if unit != "bytes" or begin != str(have):
        raise TransientError(f"answers another range than asked for ({rest or 'none'} for {have}-)")
    return have, int(total) if total.isdigit() else None


def _validator_file(part: Path) -> Path:
    return part.with_name(f"{part.name}.of")


def _validator(part: Path) -> str:
    try:
        return _validator_file(part).read_text(encoding="utf-8")
    except (FileNotFoundError, UnicodeDecodeError):
        return ""


def _remember_validator(part: Path, headers: HTTPMessage) -> None:
    """Write down of which version of the file the part is, before its first byte."""
    etag = headers.get("ETag", "")
    strong = "" if etag.startswith("W/") else etag
    with on_disk(part):
        part.unlink(missing_ok=True)
        _validator_file(part).write_text(strong or headers.get("Last-Modified", ""), encoding="utf-8")


def _forget(part: Path) -> None:
    with on_disk(part):
        part.unlink(missing_ok=True)
        _validator_file(part).unlink(missing_ok=True)


def _need_space(part: Path, total: int | None, start: int, remote: Remote) -> None:
    free = shutil.disk_usage(part.parent).free
    if total is not None and total - start > free:
        raise WorldError(
            f"{remote.where}: disk full: {part.parent} has {free} bytes left, {total - start} are needed; "
            f"{remote.room}"
        )


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


class _Redirects(HTTPRedirectHandler):
    """Follows redirects: a token stays with the host that it is for, and https stays https."""

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> Request | None:
        old, new = urlsplit(req.full_url), urlsplit(newurl)
        if old.scheme == "https" and new.scheme != "https":
            raise WorldError(f"{req.full_url}: leads away from https, to {newurl}")
        following = super().redirect_request(req, fp, code, msg, headers, newurl)
        if following is not None and old.netloc != new.netloc:
            following.remove_header("Authorization")
        return following
