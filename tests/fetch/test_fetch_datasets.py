"""`datasets fetch`: files of data sets from a real server, broken off, gone on with, held to their hash."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fetch.hub_server import Server, sha256, until_arrived, weights
from tests.pipeline.layouts.every_layout import write
from vitkd_bench.cli import main
from vitkd_bench.fetch import download, patience
from vitkd_bench.fetch.dataset_files import DatasetFiles, Fetchable, fetchable, folder_of, stands_for
from vitkd_bench.registry import DATASETS
from vitkd_bench.spec import BadInputError, Dataset, WorldError, WrongHashError

pytestmark = pytest.mark.usefixtures("online")

Vitkd = Callable[..., tuple[int, str, str]]
EXTENSION = """
from vitkd_bench.registry import DATASETS
pets = DATASETS.get("pets")
lines = ("their_pets", *pets.facts.files[1:])
facts = pets.facts.model_copy(update={"name": "their_pets", "files": lines, "fetch": tuple(ADDRESSES)})
DATASETS.register(facts, pets.settings)
"""


@pytest.fixture
def vitkd(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Vitkd:
    """Run a command on data sets with a cache of its own, on a shelf that is put back."""
    DATASETS.names()
    for held in ("_entries", "_origin"):
        monkeypatch.setattr(DATASETS, held, dict(getattr(DATASETS, held)))
    monkeypatch.setenv("VITKD_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("VITKD_DATA", raising=False)

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["vitkd", "datasets", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        captured = capsys.readouterr()
        return int(end.value.code or 0), captured.out, captured.err

    return run


@pytest.fixture
def theirs(server: Server, tmp_path: Path) -> Path:
    """A file with a data set whose two archives our server has; the second breaks off once."""
    write("pets", "archives", tmp_path / "made")
    archives = sorted((tmp_path / "made").rglob("*.tar.gz"))
    assert [path.name for path in archives] == ["annotations.tar.gz", "images.tar.gz"]
    addresses = [
        server.serve(f"/pets/{path.name}", path.read_bytes(), cuts=[100] * (path.name == "images.tar.gz"))
        for path in archives
    ]
    file = tmp_path / "theirs.py"
    file.write_text(EXTENSION.replace("ADDRESSES", repr(addresses)))
    return file


def test_what_is_fetched_can_be_read(server: Server, theirs: Path, tmp_path: Path, vitkd: Vitkd) -> None:
    """Missing, fetched over a break, listed as here and readable; a second fetch asks for nothing."""
    own = ("their_pets", "--extension", theirs)
    code, out, _ = vitkd("check", *own, "--data-root", tmp_path)
    assert code == 1
    assert f"`vitkd datasets fetch their_pets` gets {server.url}/pets/annotations.tar.gz" in out
    code, out, err = vitkd("fetch", *own, "--to", tmp_path / "data")
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        f"their_pets: {tmp_path}/data/their_pets/{name}" for name in ("annotations.tar.gz", "images.tar.gz")
    ]
    asked = server.gets("/pets/images")
    assert [one.headers.get("Range") for one in asked] == [None, "bytes=99-"]
    assert "35 decoded" in vitkd("check", *own, "--data-root", tmp_path / "data")[1]
    listed = json.loads(vitkd("list", "--json", "--data-root", tmp_path / "data")[1])
    assert [one["here"] for one in listed if one["name"] == "their_pets"] == [True]
    code, out, _ = vitkd("fetch", *own, "--to", tmp_path / "data", "--json")
    answer = json.loads(out)
    assert (code, answer["failures"], len(answer["fetched"])) == (0, {}, 2)
    assert len(server.gets()) == 3
    names = {path.name for path in (tmp_path / "data/their_pets").iterdir() if path.suffix != ".lock"}
    assert names == {"annotations.tar.gz", "images.tar.gz"}


def test_what_fails_is_said_and_the_others_come(
    server: Server, theirs: Path, tmp_path: Path, vitkd: Vitkd
) -> None:
    """One of two files is gone from the server: the other is fetched, exit status 1, one line."""
    server.serve("/pets/images.tar.gz", status=404)
    code, out, err = vitkd("fetch", "their_pets", "--extension", theirs, "--to", tmp_path / "data")
    assert code == 1
    assert out.strip().endswith("annotations.tar.gz")
    assert err.count("\n") == 1
    assert f"no such file; download it by hand and put it at {tmp_path}/data/their_pets/images.tar.gz" in err


def test_what_is_unpacked_is_not_fetched(server: Server, theirs: Path, tmp_path: Path, vitkd: Vitkd) -> None:
    """A folder that stands for an archive will do, until it is asked for anew."""
    (tmp_path / "data/their_pets/images").mkdir(parents=True)
    own = ("their_pets", "--extension", theirs, "--to", tmp_path / "data")
    code, out, _ = vitkd("fetch", *own)
    assert (code, server.gets("/pets/images")) == (0, [])
    assert f"{tmp_path}/data/their_pets/images\n" in out


def test_by_hand_is_said(tmp_path: Path, vitkd: Vitkd) -> None:
    """Where nothing may be fetched, what to do is told, status 1; nowhere to put it is bad input."""
    code, out, _ = vitkd("fetch", "imagenet1k", "--to", tmp_path)
    assert (code, "register at https://image-net.org" in out) == (1, True)
    assert json.loads(vitkd("fetch", "imagenet1k", "--json")[1])["manual"].startswith("register at")
    assert vitkd("fetch", "folder", "--to", tmp_path)[0] == 1
    code, out, _ = vitkd("fetch", "digits")
    assert (code, out) == (0, "digits: needs none; it comes with a library\n")
    code, out, err = vitkd("fetch", "pets")
    assert (code, out) == (2, "")
    assert "--to DIR or VITKD_DATA says where to" in err
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_command_goes_on(server: Server, theirs: Path, tmp_path: Path) -> None:
    """Ctrl-C in the middle of a file: 130, what came is kept, and the same command asks for the rest only."""
    content, hold = weights(3, 4), threading.Event()
    server.serve("/pets/annotations.tar.gz", content, cuts=[3 * 2**20], hold=hold)
    arguments = ["fetch", "their_pets", "--extension", str(theirs), "--to", str(tmp_path / "data")]
    heard = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"  # a shell may ignore it
    command = [
        sys.executable,
        "-c",
        f"{heard}; from vitkd_bench.cli import main; main()",
        "datasets",
        *arguments,
    ]
    own = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    own["VITKD_CACHE"] = str(tmp_path / "cache")
    begun = subprocess.Popen(command, env=own, stderr=subprocess.PIPE, text=True)
    until_arrived(tmp_path / "data", 2 * 2**20)
    begun.send_signal(signal.SIGINT)
    said = begun.communicate()[1]
    hold.set()
    assert (begun.returncode, said.count("\n")) == (130, 1)
    assert "goes on from there" in said
    assert subprocess.run(command, env=own, check=False, capture_output=True).returncode == 0
    assert (tmp_path / "data/their_pets/annotations.tar.gz").read_bytes() == content
    start = server.gets("/pets/annotations")[-1].headers["Range"]
    assert int(start.removeprefix("bytes=").rstrip("-")) >= 2 * 2**20 - 1


# --- one file ---


def file_at(url: str, name: str = "a.tar") -> Fetchable:
    """A file of a data set."""
    return Fetchable("birds", url, name)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_however_often_it_is_broken_off_it_is_whole(
    server: Server, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Up to four breaks at any byte, with or without ranges and validators: the bytes are those served."""
    content = data.draw(st.binary(min_size=1, max_size=200))
    cuts = data.draw(st.lists(st.integers(0, len(content)), max_size=4))
    told = {"ranges": data.draw(st.booleans()), "etag": data.draw(st.booleans())}
    file, root = file_at(server.serve("/f.bin", content, cuts=cuts, **told)), tmp_path_factory.mktemp("x")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(download, "CHUNK", data.draw(st.integers(1, 64)))
        patch.setattr(patience, "PAUSE", 0)
        found = DatasetFiles(root / "cache").fetch(file, root / "data")
    assert (found.path.read_bytes(), found.sha256) == (content, sha256(content))


def test_other_bytes_are_refused_until_accepted(server: Server, tmp_path: Path) -> None:
    """An address that gives another file, and a file that was altered here, are refused; nothing is lost."""
    first, changed = weights(1), weights(2)
    keeper, file = DatasetFiles(tmp_path / "cache"), file_at(server.serve("/a.tar", first))
    path = keeper.fetch(file, tmp_path / "one").path
    server.serve("/a.tar", changed)
    with pytest.raises(WrongHashError, match="fetch birds --accept-new-hash"):
        keeper.fetch(file, tmp_path / "other")
    assert not (tmp_path / "other/a.tar").exists()
    path.write_bytes(b"altered")
    with pytest.raises(WrongHashError, match="remove the file, then vitkd datasets fetch birds"):
        keeper.fetch(file, tmp_path / "one")
    assert path.read_bytes() == b"altered"
    assert keeper.fetch(file, tmp_path / "one", accept_new_hash=True).sha256 == sha256(changed)
    assert keeper.fetch(file, tmp_path / "one").sha256 == sha256(changed)


def test_a_file_brought_by_hand_is_recorded(server: Server, tmp_path: Path) -> None:
    """What lies there already is hashed and recorded without a request; a copy elsewhere is held to it."""
    keeper, file = DatasetFiles(tmp_path / "cache"), file_at(f"{server.url}/never_asked.tar")
    for folder in ("one", "other"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.tar").write_bytes(b"by hand")
        assert keeper.fetch(file, tmp_path / folder).sha256 == sha256(b"by hand")
    shutil.rmtree(tmp_path / "one")
    assert server.asked == []
    recorded = json.loads(keeper.lock_file.read_text())["weights"]
    assert {url: pin["sha256"] for url, pin in recorded.items()} == {file.url: sha256(b"by hand")}


def test_two_at_once_fetch_once(server: Server, tmp_path: Path) -> None:
    """Whoever comes second waits and takes what the first one brought."""
    file = file_at(server.serve("/b.tar", weights(4, 2)))
    both = [
        threading.Thread(target=DatasetFiles(tmp_path / "cache").fetch, args=(file, tmp_path / "data"))
        for _ in range(2)
    ]
    for one in both:
        one.start()
    for one in both:
        one.join()
    assert (tmp_path / "data/a.tar").read_bytes() == weights(4, 2)
    assert len(server.gets()) == 1


def test_offline_nothing_is_asked(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The setting forbids the network, not what is here."""
    keeper, file = DatasetFiles(tmp_path / "cache"), file_at(server.serve("/c.tar", b"x" * 9))
    monkeypatch.setenv("VITKD_OFFLINE", "1")
    with pytest.raises(WorldError, match="VITKD_OFFLINE=1 forbids the network"):
        keeper.fetch(file, tmp_path)
    assert server.asked == []


def facts(**changed: object) -> Dataset:
    """Facts of Pets, changed."""
    return DATASETS.get("pets").facts.model_copy(update=changed)


def test_lines_of_fetch_are_read() -> None:
    """A name is the last part of the address, or what stands behind the arrow; all of ours can be read."""
    lines = ("https://a.org/x%20y.tar?v=1", "https://a.org/download -> part/z.tar")
    assert [file.name for file in fetchable(facts(fetch=lines))] == ["x y.tar", "part/z.tar"]
    for entry in DATASETS:
        for file in fetchable(entry.facts):
            assert any(file.name in line for line in entry.facts.files), file


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("http://a.org/x.tar", "use https"),
        ("hf://a/b/c", "an address that begins with https://"),
        ("https://a.org/", "name the file"),
        ("https://a.org/x -> ../x.tar", "name the file"),
        ("https://a.org/x -> /etc/x", "name the file"),
        ("https://a.org/x%5Cy", "name the file"),
    ],
)
def test_lines_that_lead_elsewhere_are_refused(line: str, said: str) -> None:
    """No open line, nothing outside of the folder."""
    with pytest.raises(BadInputError, match=said):
        fetchable(facts(fetch=(line,)))


def test_every_line_that_names_a_file_has_to_be_there_otherwise(tmp_path: Path) -> None:
    """One archive with two annotation files is fetched as long as one of them is missing."""
    inat = DATASETS.get("inaturalist2017").facts
    file = next(one for one in fetchable(inat) if one.name == "train_val2017.zip")
    folder = folder_of(inat, tmp_path)
    folder.mkdir()
    (folder / "train2017.json").touch()
    assert stands_for(inat, file, folder) is None
    (folder / "val2017.json").touch()
    assert stands_for(inat, file, folder) == folder / "train2017.json"
