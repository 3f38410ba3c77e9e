"""Files of the hub, in the hub's own cache, where other programs find them too.

huggingface_hub says what a file is and keeps its cache: HF_HOME, HF_HUB_CACHE, HF_ENDPOINT, HF_TOKEN and a
stored login mean what they mean to it. The bytes come by our own download: huggingface_hub 2 throws away what
a killed process had received (`file_download.py`, `_download_to_tmp_and_move`).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from vitkd_bench.fetch.download import Remote, download
from vitkd_bench.fetch.files import Arrived, Expected, Watch, on_disk
from vitkd_bench.fetch.locations import HubFile
from vitkd_bench.fetch.patience import BUSY, TransientError, asked_pause, patiently
from vitkd_bench.spec import BadInputError, WorldError

_COMMIT = re.compile("[0-9a-f]{40}")
_SHA256 = re.compile("[0-9a-f]{64}")


def in_hub_cache(file: HubFile, where: str) -> Arrived | None:
    """Look for a file in the hub's cache, without network; None if it is not there."""
    hub = _hub(where)
    found = hub.try_to_load_from_cache(file.repository, file.file, revision=file.revision)
    if not isinstance(found, str):
        return None
    revision = Path(found).parents[file.file.count("/")].name  # snapshots/<commit>/<file>
    return Arrived(Path(found), revision, _by_name(Path(found).resolve()))


def from_hub(file: HubFile, expected: tuple[Expected, ...], where: str, watch: Watch | None) -> Arrived:
    """Bring a file into the hub's cache, or find it there.

    Raises:
        BadInputError: no such repository, revision or file, or no right to it.
        WorldError: no network, a hub that fails, a full disk, another hash, or huggingface_hub is not there.
    """
    here = in_hub_cache(file, where) if _COMMIT.fullmatch(file.revision or "") else None
    if here:
        return here
    hub = _hub(where)
    facts = _asked(hub, where, lambda: hub.get_hf_file_metadata(_url(hub, file, file.revision)))
    if not facts.commit_hash or not facts.etag:
        raise WorldError(f"{where}: {hub.constants.ENDPOINT} does not answer as a hub does (HF_ENDPOINT)")
    blob, lock = _places(hub, file.repository, facts.etag)
    remote = Remote(
        url=_url(hub, file, facts.commit_hash),
        where=where,
        headers=_login(hub),
        size=facts.size,
        fixed=True,
        expected=(*_by_name(blob), *expected),
    )
    with on_disk(lock):
        lock.parent.mkdir(parents=True, exist_ok=True)
    with hub.utils.WeakFileLock(lock):  # the hub's own, so that its other users wait as well
        if not blob.exists():
            download(remote, blob, watch)
    # all bytes are here; this files them under commit and name
    revision: str = facts.commit_hash
    path = _asked(hub, where, lambda: hub.hf_hub_download(file.repository, file.file, revision=revision))
    return Arrived(Path(path), revision, _by_name(blob))


def _hub(where: str) -> ModuleType:
    try:
        import huggingface_hub.constants
        import huggingface_hub.errors
        import huggingface_hub.utils
    except ImportError:
        raise WorldError(
            f"{where}: needs huggingface_hub, of the extra `hub`: pip install 'vitkd-bench[hub]'"
        ) from None
    module: ModuleType = huggingface_hub
    return module


def _url(hub: ModuleType, file: HubFile, revision: str | None) -> str:
    url: str = hub.hf_hub_url(file.repository, file.file, revision=revision)
    return url


def _login(hub: ModuleType) -> dict[str, str]:
    headers: dict[str, str] = hub.utils.build_hf_headers()
    return {name: value for name, value in headers.items() if name.lower() == "authorization"}


def _places(hub: ModuleType, repository: str, etag: str) -> tuple[Path, Path]:
    """Where the hub's cache holds a file's bytes, and the lock under which they come."""
    cache, folder = Path(hub.constants.HF_HUB_CACHE), f"models--{repository.replace('/', '--')}"
    return cache / folder / "blobs" / etag, cache / ".locks" / folder / f"{etag}.lock"


def _by_name(blob: Path) -> tuple[Expected, ...]:
    """A large file is named by its hash."""
    if not _SHA256.fullmatch(blob.name):
        return ()
    return (Expected(blob.name, "by which the hub names it; a file that is here already: remove it first"),)


def _asked(hub: ModuleType, where: str, question: Callable[[], Any]) -> Any:
    """Ask the hub something, again if it is busy, and say in one line why it refuses."""

    def attempt() -> Any:
        try:
            return question()
        except (hub.errors.HTTPError, hub.errors.OfflineModeIsEnabled) as error:
            raise _refused(hub, error, where) from None

    with on_disk(Path(hub.constants.HF_HUB_CACHE)):
        return patiently(attempt, lambda: 0, where)


def _refused(hub: ModuleType, error: Exception, where: str) -> Exception:
    """Find the exception of ours that belongs to one of the hub's."""
    errors, endpoint = hub.errors, hub.constants.ENDPOINT
    if isinstance(error, errors.OfflineModeIsEnabled):
        return WorldError(f"{where}: not here, and the hub is set offline")
    login = "log in by `hf auth login` or HF_TOKEN"
    reasons = {
        errors.GatedRepoError: f"the repository is gated: accept its terms at {endpoint}, then {login}",
        errors.RepositoryNotFoundError: f"no such repository at {endpoint}; if it is a private one, {login}",
        errors.RevisionNotFoundError: "the repository has no such revision",
        errors.RemoteEntryNotFoundError: "the repository has no such file",
    }
    for kind, reason in reasons.items():
        if isinstance(error, kind):
            return BadInputError(f"{where}: {reason}")
    answer = getattr(error, "response", None)
    if answer is None:
        return TransientError(f"{endpoint} cannot be reached ({type(error).__name__})")
    said = f"{endpoint} says HTTP {answer.status_code}"
    if answer.status_code in BUSY:
        return TransientError(said, asked_pause(answer.headers.get("Retry-After")))
    if answer.status_code in {401, 403}:
        return BadInputError(f"{where}: {said}: no right to read it; {login}")
    return WorldError(f"{where}: {said}")
