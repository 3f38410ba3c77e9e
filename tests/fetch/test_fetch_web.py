"""Files of web addresses: whole or absent, held to their first hash, gone on with after any interruption."""

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fetch.hub_server import (
    FETCHER,
    Fetcher,
    Server,
    serving,
    sha256,
    teacher_at,
    until_arrived,
    weights,
)
from vitkd_bench.fetch import WeightCache, download, patience
from vitkd_bench.fetch.locations import WebFile, parse_location
from vitkd_bench.fetch.lockfile import Pin, WeightLock
from vitkd_bench.registry import TEACHERS
from vitkd_bench.spec import (
    BadInputError,
    DamagedFileError,
    Teacher,
    WeightSource,
    WorldError,
    WrongHashError,
)

StartFetcher = Callable[..., Fetcher]

pytestmark = pytest.mark.usefixtures("online")


def files_in(folder: Path) -> set[str]:
    """Names of all files under a folder, those of locks left out."""
    return {path.name for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"}


def test_a_file_is_fetched_once_and_recorded(server: Server, tmp_path: Path) -> None:
    """The first fetch brings and records it; after that it is found without a request."""
    content = weights(0)
    teacher = teacher_at(server.serve("/a/model.safetensors", content))
    cache = WeightCache(tmp_path)
    assert cache.find(teacher) is None
    seen: list[tuple[int, int | None]] = []
    fetched = cache.fetch(teacher, watch=lambda done, total: seen.append((done, total)))
    assert fetched.path.read_bytes() == content
    assert (fetched.sha256, fetched.size, fetched.path.name) == (
        sha256(content),
        len(content),
        "model.safetensors",
    )
    assert seen[-1] == (len(content), len(content))
    assert WeightCache(tmp_path).fetch(teacher) == fetched == WeightCache(tmp_path).find(teacher)
    assert len(server.asked) == 1
    written = json.loads((tmp_path / "teachers" / "weights.lock.json").read_text())
    assert written["weights"][fetched.location]["sha256"] == sha256(content)
    assert files_in(tmp_path) == {"model.safetensors", "weights.lock.json"}


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_however_often_it_is_broken_off_the_file_is_whole(
    server: Server, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Up to four breaks at any byte, with or without ranges and validators: the bytes are those served."""
    content = data.draw(st.binary(min_size=1, max_size=200))
    cuts = data.draw(st.lists(st.integers(0, len(content)), max_size=4))
    ranges, etag = data.draw(st.booleans()), data.draw(st.booleans())
    teacher = teacher_at(server.serve("/f.bin", content, cuts=cuts, ranges=ranges, etag=etag))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(download, "CHUNK", data.draw(st.integers(1, 64)))
        patch.setattr(patience, "PAUSE", 0)
        found = WeightCache(tmp_path_factory.mktemp("cache")).fetch(teacher)
    assert found.path.read_bytes() == content


def test_a_broken_download_goes_on_where_it_was(server: Server, tmp_path: Path) -> None:
    """After a break the second request asks for what is missing and the byte before it, nothing else."""
    content = weights(1)
    teacher = teacher_at(server.serve("/b.safetensors", content, cuts=[50_000]))
    assert WeightCache(tmp_path).fetch(teacher).path.read_bytes() == content
    first, second = server.gets()
    assert "Range" not in first.headers
    assert second.headers["Range"] == "bytes=49999-"


def interrupt(*_: object) -> None:
    """Be a person who presses Ctrl-C."""
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    "told",
    [{}, {"etag": False, "headers": {"Last-Modified": "Mon, 02 Nov 2026 08:00:00 GMT"}}, {"etag": False}],
    ids=["etag", "date", "nothing"],
)
def test_a_part_of_another_version_is_not_gone_on_with(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: dict[str, object]
) -> None:
    """If the file changed between interruption and return, what comes is the new one, unmixed."""
    monkeypatch.setattr(download, "CHUNK", 1000)
    teacher = teacher_at(server.serve("/c.safetensors", weights(2), **told))
    with pytest.raises(KeyboardInterrupt):
        WeightCache(tmp_path).fetch(teacher, watch=interrupt)
    assert files_in(tmp_path) == {"c.safetensors.part", "c.safetensors.part.of"}
    assert WeightCache(tmp_path).find(teacher) is None
    changed = weights(3)
    later = {"headers": {"Last-Modified": "Tue, 03 Nov 2026 08:00:00 GMT"}} if "headers" in told else {}
    server.serve("/c.safetensors", changed, **{**told, **later})
    assert WeightCache(tmp_path).fetch(teacher).path.read_bytes() == changed
    assert ("If-Range" in server.gets()[1].headers) == (told != {"etag": False})


def test_a_hash_recorded_in_the_meantime_keeps_its_word(server: Server, tmp_path: Path) -> None:
    """While a first use is under way, another one records another file: the later one is refused."""
    cache, teacher = WeightCache(tmp_path), teacher_at(server.serve("/s.safetensors", weights(20)))
    other = Pin(sha256="0" * 64, size=1, date="2026-11-01T00:00:00+00:00", path="/elsewhere", changed_ns=1)
    recorded = WeightLock().with_pin(teacher.sources[0].location or "", other).content()

    def record(*_: object) -> None:
        cache.lock_file.write_bytes(recorded)

    with pytest.raises(WorldError, match="as recorded on 2026-11-01"):
        cache.fetch(teacher, watch=record)
    assert cache.lock_file.read_bytes() == recorded


def test_a_part_longer_than_the_file_is_dropped(server: Server, tmp_path: Path) -> None:
    """A part that cannot be of this file does not stop the download."""
    content = weights(2)
    teacher = teacher_at(server.serve("/p.safetensors", content))
    file = WeightCache(tmp_path).fetch(teacher).path
    file.rename(file.with_name("p.safetensors.part"))
    with file.with_name("p.safetensors.part").open("ab") as part:
        part.write(b"more")
    file.with_name("p.safetensors.part.of").write_text(f'"{sha256(content)[:16]}"')
    assert WeightCache(tmp_path).fetch(teacher).path.read_bytes() == content
    assert len(server.gets()) == 3


def test_other_bytes_than_recorded_are_refused_until_accepted(server: Server, tmp_path: Path) -> None:
    """The address gives another file: nothing is replaced, the line names both hashes and the way out."""
    teacher = teacher_at(server.serve("/d.safetensors", weights(4)))
    cache = WeightCache(tmp_path)
    first = cache.fetch(teacher)
    recorded = cache.lock_file.read_bytes()
    first.path.unlink()
    changed = weights(5)
    server.serve("/d.safetensors", changed)
    with pytest.raises(WrongHashError, match="--accept-new-hash") as refused:
        cache.fetch(teacher)
    assert first.sha256 in str(refused.value)
    assert sha256(changed) in str(refused.value)
    assert files_in(tmp_path) == {"weights.lock.json"}
    assert cache.lock_file.read_bytes() == recorded
    accepted = cache.fetch(teacher, accept_new_hash=True)
    assert accepted.path.read_bytes() == changed
    assert cache.fetch(teacher) == accepted


def test_a_hash_of_the_contract_is_never_given_up(server: Server, tmp_path: Path) -> None:
    """What the contract pins cannot be accepted away, before or after a good file is here."""
    good, bad = weights(6), weights(7)
    teacher = teacher_at(server.serve("/e.safetensors", bad), sha256(good))
    cache = WeightCache(tmp_path)
    for accept in (False, True):
        with pytest.raises(WorldError, match="contract of deit/ti pins"):
            cache.fetch(teacher, accept_new_hash=accept)
    assert not cache.lock_file.exists()
    server.serve("/e.safetensors", good)
    found = cache.fetch(teacher)
    server.serve("/e.safetensors", bad)
    with pytest.raises(WorldError, match="contract of deit/ti pins"):
        cache.fetch(teacher, accept_new_hash=True)
    assert cache.find(teacher) == found
    assert found.path.read_bytes() == good


def test_a_contract_that_pins_another_file_outdates_the_recorded_one(server: Server, tmp_path: Path) -> None:
    """Weights recorded before the contract named a hash count only if they have it."""
    address = server.serve("/g.safetensors", weights(8))
    cache = WeightCache(tmp_path)
    found = cache.fetch(teacher_at(address))
    assert cache.find(teacher_at(address, found.sha256)) == found
    assert cache.find(teacher_at(address, sha256(weights(9)))) is None


def test_a_changed_file_is_noticed_and_a_touched_one_is_not(server: Server, tmp_path: Path) -> None:
    """One altered byte is an error that says what to remove; another time of change alone is nothing."""
    cache, teacher = WeightCache(tmp_path), teacher_at(server.serve("/h.safetensors", weights(10)))
    found = cache.fetch(teacher)
    os.utime(found.path, (1, 1))
    assert cache.find(teacher) == found
    altered = bytearray(found.path.read_bytes())
    altered[1000] ^= 1
    found.path.write_bytes(altered)
    for look in (cache.find, cache.fetch):
        with pytest.raises(WrongHashError, match="remove the file, then vitkd teachers fetch deit/ti"):
            look(teacher)
    assert found.path.read_bytes() == altered
    found.path.unlink()
    assert cache.fetch(teacher).sha256 == found.sha256


@pytest.mark.parametrize(
    ("behaviour", "kind", "said"),
    [
        ({"status": 404}, BadInputError, "no such file"),
        ({"status": 410}, BadInputError, "no such file"),
        ({"status": 401}, BadInputError, "no right to read it"),
        ({"status": 403}, BadInputError, "no right to read it"),
        ({"status": 500}, WorldError, "HTTP 500 .* 5 times in a row"),
        ({"status": 418}, WorldError, "HTTP 418"),
        ({"headers": {"Content-Type": "text/html; charset=utf-8"}}, BadInputError, "a web page, not weights"),
        ({"cuts": [10] * 20, "ranges": False}, WorldError, "broken off after 10 of 104944 bytes"),
    ],
)
def test_a_server_that_refuses_is_one_line(
    server: Server, tmp_path: Path, behaviour: dict[str, object], kind: type[Exception], said: str
) -> None:
    """Each refusal has its sentence and its kind, and leaves no file of weights."""
    teacher = teacher_at(server.serve("/i.safetensors", weights(11), **behaviour))
    with pytest.raises(kind, match=said) as refused:
        WeightCache(tmp_path).fetch(teacher)
    assert type(refused.value) is kind
    assert "teacher 'deit/ti': http" in str(refused.value)
    assert "\n" not in str(refused.value)
    assert "i.safetensors" not in files_in(tmp_path)


def test_a_busy_server_is_asked_again(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """429 and 503 are waited out, as long as the server asks for or twice as long each time."""
    pauses: list[float] = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    teacher = teacher_at(server.serve("/j.safetensors", weights(12), busy=[503, 503]))
    WeightCache(tmp_path / "1").fetch(teacher)
    assert pauses == [0.01, 0.02]
    server.serve("/j.safetensors", weights(12), busy=[429], headers={"Retry-After": "7"})
    WeightCache(tmp_path / "2").fetch(teacher)
    assert pauses[2:] == [7]


def test_without_network_it_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No server there: tried five times, said once. Told to stay offline: not even tried."""
    teacher = teacher_at("http://127.0.0.1:9/k.safetensors")
    with pytest.raises(WorldError, match=r"cannot be reached \(.*refused"):
        WeightCache(tmp_path).fetch(teacher)
    for name in ("VITKD_OFFLINE", "HF_HUB_OFFLINE"):
        with monkeypatch.context() as patch:
            patch.setenv(name, "1")
            with pytest.raises(WorldError, match=f"{name}=1 forbids the network"):
                WeightCache(tmp_path).fetch(teacher)


def test_offline_what_is_here_is_found(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The setting forbids the network, not the cache; also when the cache was moved or its lock file lost."""
    cache, teacher = WeightCache(tmp_path / "here"), teacher_at(server.serve("/l.safetensors", weights(13)))
    found = cache.fetch(teacher)
    monkeypatch.setenv("VITKD_OFFLINE", "1")
    assert cache.fetch(teacher) == found
    shutil.move(tmp_path / "here", tmp_path / "there")
    moved = WeightCache(tmp_path / "there")
    assert moved.find(teacher) is None
    assert moved.fetch(teacher).path.is_relative_to(tmp_path / "there")
    moved.lock_file.unlink()
    assert moved.fetch(teacher).sha256 == found.sha256
    assert len(server.asked) == 1


def test_a_lock_file_of_another_machine_pins_the_first_fetch(server: Server, tmp_path: Path) -> None:
    """Copied elsewhere, the lock file refuses what is not the file that it was made with."""
    teacher = teacher_at(server.serve("/m.safetensors", weights(14)))
    one, other = WeightCache(tmp_path / "one"), WeightCache(tmp_path / "other")
    one.fetch(teacher)
    other.folder.mkdir(parents=True)
    shutil.copy(one.lock_file, other.lock_file)
    shutil.rmtree(one.folder)
    server.serve("/m.safetensors", weights(15))
    with pytest.raises(WorldError, match="nothing was replaced"):
        other.fetch(teacher)


@pytest.mark.parametrize("content", ["", "{", '{"schema": 2}', '{"weights": {"x": {}}}', "\xff"])
def test_a_damaged_lock_file_is_said_so(tmp_path: Path, content: str) -> None:
    """No damage makes weights look unrecorded: then another file would be believed."""
    cache = WeightCache(tmp_path)
    cache.folder.mkdir()
    cache.lock_file.write_bytes(content.encode("latin-1"))
    for look in (cache.find, cache.fetch):
        with pytest.raises(DamagedFileError, match=r"weights\.lock\.json: .*remove it"):
            look(teacher_at("https://nowhere.invalid/x"))


def test_a_killed_fetch_is_taken_up(server: Server, tmp_path: Path, fetcher: StartFetcher) -> None:
    """SIGKILL in the middle leaves no file; the next fetch asks for the rest alone."""
    content = weights(16, megabytes=3)
    hold = threading.Event()
    address = server.serve("/n.safetensors", content, cuts=[2 * 2**20 + 5], hold=hold)
    killed = fetcher()
    killed.ask(address, tmp_path)
    until_arrived(tmp_path, 2 * 2**20)
    killed.kill()
    hold.set()
    assert WeightCache(tmp_path).find(teacher_at(address)) is None
    assert WeightCache(tmp_path).fetch(teacher_at(address)).path.read_bytes() == content
    assert server.gets()[-1].headers["Range"] == f"bytes={2 * 2**20 - 1}-"
    assert files_in(tmp_path) == {"n.safetensors", "weights.lock.json"}


def test_two_processes_fetch_a_file_once(server: Server, tmp_path: Path, fetcher: StartFetcher) -> None:
    """The second one waits for the first and takes what it brought."""
    content = weights(17, megabytes=3)
    hold = threading.Event()
    address = server.serve("/o.safetensors", content, cuts=[2 * 2**20], hold=hold)
    both = [fetcher(), fetcher()]
    for one in both:
        one.ask(address, tmp_path)
    until_arrived(tmp_path, 2**20)
    time.sleep(1.5)  # for the second one to come to the lock: nothing tells when it waits
    hold.set()
    answers = [one.answer() for one in both]
    assert [answer.get("sha256") for answer in answers] == [sha256(content)] * 2
    assert ["Range" in one.headers for one in server.gets()] == [False, True]


IN_A_SMALL_FOLDER = 'mount -t tmpfs -o size=1m none "$1" && shift && exec "$@"'


def test_a_full_disk_is_one_line(server: Server, tmp_path: Path) -> None:
    """On a real file system of one megabyte, with and without a length told beforehand."""
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True, check=False).returncode:
        pytest.skip("NO TINY FILE SYSTEM: this kernel lets no user mount one")
    asked = [
        json.dumps(
            {"location": server.serve(f"/{name}", weights(18, megabytes=2), **how), "cache": str(tmp_path)}
        )
        for name, how in (("told.bin", {}), ("untold.bin", {"headers": {"Content-Length": ""}}))
    ]
    ran = subprocess.run(
        ["unshare", "-rm", "sh", "-c", IN_A_SMALL_FOLDER, "-", str(tmp_path), sys.executable, "-c", FETCHER],
        input="\n".join(asked),
        capture_output=True,
        check=True,
        text=True,
        env={name: value for name, value in os.environ.items() if not name.startswith("HF_")},
    )
    told, untold = map(json.loads, ran.stdout.splitlines()[1:])
    assert (told["code"], untold["code"]) == (1, 1)
    assert "disk full" in told["error"]
    assert "are needed" in told["error"]
    assert "disk full (No space left on device)" in untold["error"]


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate of 127.0.0.1, signed by itself, and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("NO OPENSSL: nothing here makes a certificate")
    made = tmp_path / "certificate.pem", tmp_path / "key.pem"
    asked = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    named = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    command = ["openssl", "req", *asked, *named, "-out", str(made[0]), "-keyout", str(made[1])]
    subprocess.run(command, check=True, capture_output=True)
    return made


def test_a_certificate_has_to_be_trusted(
    certificate: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unknown one is refused at once; named by SSL_CERT_FILE it is accepted; https never becomes http."""
    with serving(certificate) as server:
        teacher = teacher_at(server.serve("/q.safetensors", weights(19)))
        with pytest.raises(WorldError, match=r"self.signed certificate; SSL_CERT_FILE names"):
            WeightCache(tmp_path).fetch(teacher)
        assert server.asked == []
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
        assert WeightCache(tmp_path).fetch(teacher).sha256 == sha256(weights(19))
        down = {"Location": "http://127.0.0.1:9/q.safetensors"}
        away = teacher_at(server.serve("/r.safetensors", status=302, headers=down))
        with pytest.raises(WorldError, match="leads away from https"):
            WeightCache(tmp_path).fetch(away)


@pytest.mark.parametrize(
    ("location", "said"),
    [
        (None, "names no location; give weights: FILE"),
        ("file:///etc/passwd", "name the file in a suite by weights: FILE"),
        ("weights/model.safetensors", "name the file in a suite by weights: FILE"),
        ("http://example.org/model.safetensors", "use https"),
        ("ftp://example.org/model.safetensors", "not of the form"),
        ("https:///model.safetensors", "not of the form"),
        ("hf://owner/name", "not of the form"),
        ("hf://owner//file", "not of the form"),
        ("hf://owner/name@/file", "not of the form"),
        ("hf://owner/name/../../file", "not of the form"),
    ],
)
def test_a_location_of_another_form_is_refused(tmp_path: Path, location: str | None, said: str) -> None:
    """No local file, no open line, nothing that is not whole."""
    with pytest.raises(BadInputError, match=said):
        WeightCache(tmp_path).fetch(teacher_at(location))


SOURCES = [(teacher, source) for teacher in TEACHERS for source in teacher.sources]


@pytest.mark.parametrize(("teacher", "source"), SOURCES, ids=[f"{t.name}:{s.backend}" for t, s in SOURCES])
def test_every_location_of_the_registry_can_be_asked(
    teacher: Teacher, source: WeightSource, tmp_path: Path
) -> None:
    """What the families' files name is of a form that is fetched; a source without location says so."""
    if source.location is None:
        with pytest.raises(BadInputError, match="names no location"):
            WeightCache(tmp_path).fetch(teacher, source.backend)
    else:
        found = parse_location(source.location, teacher.name)
        file = found.url if isinstance(found, WebFile) else f"hf://{found.repository}/{found.file}"
        assert file == source.location


@given(names=st.lists(st.text("abc-_.0", min_size=1), min_size=2, max_size=2, unique=True))
def test_two_addresses_never_share_a_file(names: list[str]) -> None:
    """Different addresses are different places in the cache, named as the files are."""
    one, other = (WebFile(f"https://example.org/{name}?x=1") for name in names)
    assert one.place != other.place
    assert one.place.endswith(urlsplit(one.url).path)
