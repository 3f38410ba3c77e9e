"""Files of the hub: pinned to a commit, kept in the hub's own cache, with its errors in one line."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fetch.hub_server import (
    NEW,
    OLD,
    Fetcher,
    Server,
    serving,
    sha256,
    teacher_at,
    until_arrived,
    weights,
)
from vitkd_bench.fetch import WeightCache
from vitkd_bench.spec import WorldError

StartFetcher = Callable[..., Fetcher]
FILE = "model.safetensors"


@pytest.fixture(scope="module")
def hub() -> Iterator[Server]:
    """A server in the place of the hub, for all tests of this file."""
    with serving() as server:
        yield server


@pytest.fixture(scope="module")
def hub_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The hub's own cache, which all tests of this file share."""
    return tmp_path_factory.mktemp("hub")


@pytest.fixture(scope="module")
def user(hub: Server, hub_cache: Path) -> Iterator[Fetcher]:
    """A process that is logged in and whose hub is that server."""
    user = Fetcher(HF_ENDPOINT=hub.url, HF_HUB_CACHE=str(hub_cache), HF_TOKEN="hf_secret")
    yield user
    user.kill()


def test_a_file_of_the_hub_is_pinned_and_lies_in_its_cache(
    hub: Server, hub_cache: Path, user: Fetcher, tmp_path: Path
) -> None:
    """It is recorded with its commit, lies where the hub's other users look, and comes once."""
    content = weights(0)
    hub.serve_hub("o/first", content)
    location = f"hf://o/first/{FILE}"
    answer = user.fetch(location, tmp_path)
    assert answer == {
        "path": str(hub_cache / "models--o--first" / "snapshots" / OLD / FILE),
        "sha256": sha256(content),
        "revision": OLD,
    }
    assert Path(answer["path"]).read_bytes() == content
    before = len(hub.asked)
    assert user.fetch(location, tmp_path) == answer
    assert len(hub.asked) == before
    assert len(hub.gets("/bytes/o/first")) == 1
    found = WeightCache(tmp_path).find(teacher_at(location))
    assert found
    assert str(found.path) == answer["path"]
    assert user.fetch(location, tmp_path / "another", offline="1") == {
        "code": 1,
        "error": f"teacher 'deit/ti': {location}: not here, and VITKD_OFFLINE=1 forbids the network; "
        "fetch it where there is one",
    }
    fixed = f"hf://o/first@{OLD}/{FILE}"
    assert user.fetch(fixed, tmp_path / "another", offline="1") == answer


def test_a_token_goes_to_the_hub_alone(hub: Server, user: Fetcher, tmp_path: Path) -> None:
    """The host that the hub sends us to for the bytes is not told the token."""
    hub.serve_hub("o/token", weights(1))
    user.fetch(f"hf://o/token/{FILE}", tmp_path)
    told = {
        ("bytes" in one.path, "Authorization" in one.headers) for one in hub.asked if "o/token" in one.path
    }
    assert told == {(False, True), (True, False)}


def test_the_recorded_commit_is_fetched_when_the_hub_moves_on(
    hub: Server, user: Fetcher, tmp_path: Path
) -> None:
    """`main` names another file now: the recorded one comes, until the new one is accepted."""
    old, new = weights(2), weights(3)
    location = f"hf://o/moving/{FILE}"
    hub.serve_hub("o/moving", old, OLD)
    first = user.fetch(location, tmp_path)
    hub.serve_hub("o/moving", new, NEW)
    Path(first["path"]).resolve().unlink()
    assert user.fetch(location, tmp_path) == first
    accepted = user.fetch(location, tmp_path, accept=True)
    assert (accepted["sha256"], accepted["revision"]) == (sha256(new), NEW)
    assert user.fetch(location, tmp_path) == accepted


def test_other_bytes_under_a_recorded_commit_are_refused(hub: Server, user: Fetcher, tmp_path: Path) -> None:
    """A hub that rewrites history is noticed, and nothing is replaced."""
    location = f"hf://o/rewritten/{FILE}"
    hub.serve_hub("o/rewritten", weights(4))
    first = user.fetch(location, tmp_path)
    recorded = (tmp_path / "teachers" / "weights.lock.json").read_bytes()
    Path(first["path"]).resolve().unlink()
    Path(first["path"]).unlink()
    hub.serve_hub("o/rewritten", weights(5))
    answer = user.fetch(location, tmp_path)
    assert answer["code"] == 2
    assert f"sha256 is {sha256(weights(5))}, not {first['sha256']}, as recorded on" in answer["error"]
    assert (tmp_path / "teachers" / "weights.lock.json").read_bytes() == recorded


def test_bytes_that_are_not_what_the_hub_names_are_refused(
    hub: Server, hub_cache: Path, user: Fetcher, tmp_path: Path
) -> None:
    """A proxy that alters a file on the way leaves nothing in the hub's cache."""
    hub.serve_hub("o/altered", weights(6)).content = weights(7)
    answer = user.fetch(f"hf://o/altered/{FILE}", tmp_path)
    assert answer["code"] == 2
    assert "by which the hub names it" in answer["error"]
    assert [path for path in (hub_cache / "models--o--altered").rglob("*") if path.is_file()] == []


def test_a_damaged_file_of_the_hubs_cache_is_not_believed(hub: Server, user: Fetcher, tmp_path: Path) -> None:
    """Damaged before we recorded it: its name tells. Removed, it comes again."""
    hub.serve_hub("o/damaged", weights(8))
    location = f"hf://o/damaged/{FILE}"
    blob = Path(user.fetch(location, tmp_path / "1")["path"]).resolve()
    blob.write_bytes(weights(9))
    answer = user.fetch(location, tmp_path / "2")
    assert answer["code"] == 2
    assert str(blob) in answer["error"]
    assert "remove it first" in answer["error"]
    blob.unlink()
    assert user.fetch(location, tmp_path / "2")["sha256"] == sha256(weights(8))


def refuse(hub: Server, repository: str, status: int, code: str = "") -> None:
    """Let the hub refuse a repository as it does."""
    hub.serve(
        f"/{repository}/resolve/main/{FILE}", status=status, headers={"X-Error-Code": code} if code else {}
    )


@pytest.mark.parametrize(
    ("status", "code", "exit_code", "said"),
    [
        (401, "GatedRepo", 2, "the repository is gated: accept its terms at"),
        (403, "GatedRepo", 2, "the repository is gated: accept its terms at"),
        (404, "RepoNotFound", 2, "no such repository"),
        (401, "RepoNotFound", 2, "no such repository"),
        (404, "RevisionNotFound", 2, "the repository has no such revision"),
        (404, "EntryNotFound", 2, "the repository has no such file"),
        (403, "", 2, "no right to read it"),
        (503, "", 1, "HTTP 503, 5 times in a row"),
        (200, "", 1, "does not answer as a hub does"),
    ],
)
def test_a_hub_that_refuses_is_one_line(
    hub: Server, user: Fetcher, tmp_path: Path, status: int, code: str, exit_code: int, said: str
) -> None:
    """Each refusal of the hub has its sentence, its exit code, and what to do next."""
    refuse(hub, "o/refused", status, code)
    answer = user.fetch(f"hf://o/refused/{FILE}", tmp_path)
    assert (answer["code"], said in answer["error"]) == (exit_code, True), answer
    assert answer["error"].startswith(f"teacher 'deit/ti': hf://o/refused/{FILE}: ")
    assert "\n" not in answer["error"]
    assert not (tmp_path / "teachers" / "weights.lock.json").exists()


def test_no_right_to_the_bytes_is_said_too(hub: Server, user: Fetcher, tmp_path: Path) -> None:
    """A hub that shows a file's facts and not its bytes is refused as such."""
    hub.serve_hub("o/facts_only", weights(10), status=403)
    answer = user.fetch(f"hf://o/facts_only/{FILE}", tmp_path)
    assert answer["code"] == 2
    assert "no right to read it" in answer["error"]


def test_a_busy_hub_is_asked_again(hub: Server, user: Fetcher, tmp_path: Path) -> None:
    """Two refusals for a while and two breaks in the middle still end in the file."""
    content = weights(11)
    hub.serve_hub("o/busy", content, cuts=[30_000, 30_000])
    hub.files[f"/o/busy/resolve/main/{FILE}"].busy = [503, 429]
    assert user.fetch(f"hf://o/busy/{FILE}", tmp_path)["sha256"] == sha256(content)
    ranges = [one.headers.get("Range") for one in hub.gets("/bytes/o/busy")]
    assert ranges == [None, "bytes=29999-", "bytes=59998-"]


def test_a_killed_fetch_from_the_hub_is_taken_up(
    hub: Server, fetcher: StartFetcher, user: Fetcher, hub_cache: Path, tmp_path: Path
) -> None:
    """SIGKILL in the middle: another process goes on from the bytes that are there."""
    content = weights(12, megabytes=3)
    hold = threading.Event()
    hub.serve_hub("o/killed", content, cuts=[2 * 2**20 + 5], hold=hold)
    killed = fetcher(HF_ENDPOINT=hub.url, HF_HUB_CACHE=str(hub_cache))
    killed.ask(f"hf://o/killed/{FILE}", tmp_path)
    until_arrived(hub_cache / "models--o--killed", 2 * 2**20)
    killed.kill()
    hold.set()
    answer: dict[str, Any] = user.fetch(f"hf://o/killed/{FILE}", tmp_path)
    assert Path(answer["path"]).read_bytes() == content
    assert hub.gets("/bytes/o/killed")[-1].headers["Range"] == f"bytes={2 * 2**20 - 1}-"
    assert list((hub_cache / "models--o--killed").rglob("*.part*")) == []


def test_no_hub_there_is_one_line(fetcher: StartFetcher, tmp_path: Path) -> None:
    """An endpoint at which nobody listens."""
    lonely = fetcher(HF_ENDPOINT="http://127.0.0.1:9", HF_HOME=str(tmp_path / "home"))
    answer = lonely.fetch(f"hf://o/x/{FILE}", tmp_path)
    assert answer["code"] == 1
    assert "http://127.0.0.1:9 cannot be reached (ConnectError)" in answer["error"]


def test_a_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where huggingface_hub is not installed, the line says what to install."""
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(WorldError, match=r"pip install 'vitkd-bench\[hub\]'"):
        WeightCache(tmp_path).fetch(teacher_at(f"hf://o/x/{FILE}"))


def test_a_hub_set_offline_by_another_name_is_said_so(
    hub: Server, fetcher: StartFetcher, tmp_path: Path
) -> None:
    """A setting that only huggingface_hub reads keeps the network closed as well."""
    hub.serve_hub("o/closed", weights(13))
    closed = fetcher(HF_ENDPOINT=hub.url, HF_HOME=str(tmp_path / "home"), TRANSFORMERS_OFFLINE="1")
    answer = closed.fetch(f"hf://o/closed/{FILE}", tmp_path)
    assert answer["code"] == 1
    assert "the hub is set offline" in answer["error"]


def test_two_processes_fetch_a_file_of_the_hub_once(
    hub: Server, fetcher: StartFetcher, user: Fetcher, hub_cache: Path, tmp_path: Path
) -> None:
    """With caches of ours apart and the hub's in common, the second one takes what the first one brought."""
    content = weights(14, megabytes=3)
    hold = threading.Event()
    hub.serve_hub("o/both", content, cuts=[2 * 2**20], hold=hold)
    other = fetcher(HF_ENDPOINT=hub.url, HF_HUB_CACHE=str(hub_cache))
    user.ask(f"hf://o/both/{FILE}", tmp_path / "1")
    other.ask(f"hf://o/both/{FILE}", tmp_path / "2")
    until_arrived(hub_cache / "models--o--both", 2**20)
    until = time.monotonic() + 60
    while sum(one.path == f"/o/both/resolve/main/{FILE}" for one in hub.asked) < 2:
        assert time.monotonic() < until, "one of the two asked for nothing"
        time.sleep(0.01)
    time.sleep(0.3)  # from its answer to the lock: nothing tells when it waits
    hold.set()
    assert [one.answer().get("sha256") for one in (user, other)] == [sha256(content)] * 2
    assert ["Range" in one.headers for one in hub.gets("/bytes/o/both")] == [False, True]
