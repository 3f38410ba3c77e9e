"""`vitkd teachers` and weights from elsewhere: what a person sees before, during and after fetching."""

import json
import os
import pty
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fetch.hub_server import Server, serving, sha256, weights
from vitkd_bench.cli import main
from vitkd_bench.fetch import patience
from vitkd_bench.registry import TEACHERS
from vitkd_bench.spec import Accuracy, Backend, WeightSource

pytestmark = pytest.mark.usefixtures("online")


@pytest.fixture
def server() -> Iterator[Server]:
    """A server of this machine, on a free port."""
    with serving() as server:
        yield server


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The network may be used, from a cache of the test's own, without long pauses."""
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setenv("VITKD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(patience, "PAUSE", 0.01)


@pytest.fixture
def ours(server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """Two teachers on the shelf, each by two backends; their weights are those of seeds 0 to 3."""
    backends: tuple[Backend, ...] = ("timm", "transformers")
    for n, name in enumerate(("ours/a", "ours/b")):
        sources = tuple(
            WeightSource(
                backend=backend,
                model=f"{backend}_model",
                location=server.serve(f"/{name}/{backend}.safetensors", weights(2 * n + k)),
            )
            for k, backend in enumerate(backends)
        )
        facts = {
            "name": name,
            "title": name,
            "sources": sources,
            "certainty": "B",
            "text_encoder": "a text tower",
            "head": None,
            "accuracy": (Accuracy(kind="zero_shot", value=0.683, source="the paper, table 1"),),
        }
        monkeypatch.setitem(TEACHERS._entries, name, TEACHERS.get("deit/ti").model_copy(update=facts))
        monkeypatch.setitem(TEACHERS._origin, name, __file__)
    return server


class Said:
    """What a command answered."""

    def __init__(self, capsys: pytest.CaptureFixture[str], *arguments: str) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("sys.argv", ["vitkd", "teachers", *arguments])
            with pytest.raises(SystemExit) as end:
                main()
        self.status = int(end.value.code or 0)
        self.out, self.err = capsys.readouterr()

    @property
    def data(self) -> Any:
        """Its answer for a script."""
        return json.loads(self.out)


def states(capsys: pytest.CaptureFixture[str]) -> dict[str, dict[str, str]]:
    """What the list says of weights, by teacher and backend."""
    return {one["name"]: one["weights"] for one in Said(capsys, "list", "--json").data}


@pytest.mark.usefixtures("ours")
def test_a_glob_is_fetched_and_the_list_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    """Fetched by the first backend, then one by another: list and show follow, stdout names the files."""
    assert states(capsys)["ours/a"] == {"timm": "not fetched", "transformers": "not fetched"}
    said = Said(capsys, "fetch", "ours/*")
    assert (said.status, said.err) == (0, "")
    names, paths = zip(*(line.split(": ") for line in said.out.splitlines()), strict=True)
    assert names == ("ours/a", "ours/b")
    assert [sha256(Path(path).read_bytes()) for path in paths] == [sha256(weights(0)), sha256(weights(2))]
    other = Said(capsys, "fetch", "ours/b", "--backend", "transformers", "--json").data
    assert other["fetched"]["ours/b"]["sha256"] == sha256(weights(3))
    assert (other["failures"], other["made"], other["interrupted"]) == ({}, {}, False)
    assert states(capsys)["ours/a"] == {"timm": "here", "transformers": "not fetched"}
    assert states(capsys)["ours/b"] == {"timm": "here", "transformers": "here"}
    rows = {row.split()[0]: row for row in Said(capsys, "list").out.splitlines()}
    assert "here: timm, transformers" in rows["ours/b"]
    assert "not fetched" in rows["deit/ti"]
    assert "made here" in rows["micro/deit"]


@pytest.mark.usefixtures("ours")
def test_show_says_where_weights_are_and_what_is_known(capsys: pytest.CaptureFixture[str]) -> None:
    """Sources, the command that fetches each, certainty, published figure and text encoder."""
    before = Said(capsys, "show", "ours/a").out
    assert "not fetched: vitkd teachers fetch ours/a\n" in before
    assert "not fetched: vitkd teachers fetch ours/a --backend transformers\n" in before
    assert "B: near-certain" in before
    assert "zero_shot 68.3 % on imagenet1k at 224 px (the paper, table 1)" in before
    assert "none, but texts through a text tower" in before
    path = Said(capsys, "fetch", "ours/a").out.split(": ")[1].strip()
    after = Said(capsys, "show", "ours/a").out
    assert path in after
    assert sha256(weights(0)) in after


def test_what_fails_does_not_stop_the_others(capsys: pytest.CaptureFixture[str], ours: Server) -> None:
    """One is gone, one is fetched: a line each, exit 1; alone, the one that is gone is bad input."""
    ours.serve("/ours/a/timm.safetensors", status=404)
    both = Said(capsys, "fetch", "ours/a", "ours/b", "--json")
    assert both.status == 1
    assert list(both.data["fetched"]) == ["ours/b"]
    assert "no such file" in both.data["failures"]["ours/a"]
    assert both.err.count("\n") == 1
    alone = Said(capsys, "fetch", "ours/a")
    assert alone.status == 2
    assert alone.err.startswith("failed: teacher 'ours/a': http")


def test_a_new_hash_is_accepted_by_name_only(capsys: pytest.CaptureFixture[str], ours: Server) -> None:
    """A changed file fails with the command that accepts it, and that command works."""
    path = Path(Said(capsys, "fetch", "ours/a").out.split(": ")[1].strip())
    path.unlink()
    ours.serve("/ours/a/timm.safetensors", weights(9))
    refused = Said(capsys, "fetch", "ours/a")
    assert refused.status == 2
    command = refused.err.strip().rpartition("vitkd teachers ")[2].split()
    assert command == ["fetch", "ours/a", "--backend", "timm", "--accept-new-hash"]
    assert Said(capsys, *command).status == 0
    assert path.read_bytes() == weights(9)


@pytest.mark.usefixtures("ours")
def test_an_altered_file_is_listed_as_changed(capsys: pytest.CaptureFixture[str]) -> None:
    """The list goes on beside a damaged file and says of it that it is."""
    path = Path(Said(capsys, "fetch", "ours/a").out.split(": ")[1].strip())
    path.write_bytes(path.read_bytes()[:-1])
    assert states(capsys)["ours/a"]["timm"] == "changed"
    assert "remove the file, then vitkd teachers fetch ours/a" in Said(capsys, "show", "ours/a").out
    assert Said(capsys, "fetch", "ours/a").status == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("ours/x",), "unknown teacher 'ours/x'"),
        (("ours/a", "ours/z*"), "matches no teacher"),
        (("ours/a", "--backend", "timn"), "did you mean 'timm'"),
        (("ours/a", "micro/deit", "--backend", "timm"), "is made here"),
    ],
)
def test_bad_input_fetches_nothing(
    capsys: pytest.CaptureFixture[str], ours: Server, arguments: tuple[str, ...], said: str
) -> None:
    """What cannot be meant is refused before the first request."""
    answer = Said(capsys, "fetch", *arguments)
    assert answer.status == 2
    assert said in answer.err
    assert ours.asked == []


FETCH = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever started the tests may ignore it
from vitkd_bench.cli import main
from vitkd_bench.registry import TEACHERS
from vitkd_bench.spec import WeightSource
teacher = TEACHERS.get("deit/ti")
source = WeightSource(backend="timm", model="x", location=sys.argv[1])
TEACHERS._entries["ours/far"] = teacher.model_copy(update={"name": "ours/far", "sources": (source,)})
sys.argv = ["vitkd", "teachers", "fetch", "ours/far"]
main()
"""


def test_a_terminal_shows_a_bar_and_ctrl_c_keeps_what_came(server: Server, tmp_path: Path) -> None:
    """On a terminal the bar counts; interrupted, one line and 130; the same command goes on from there."""
    hold = threading.Event()
    address = server.serve("/far.safetensors", weights(5, megabytes=3), cuts=[2 * 2**20], hold=hold)
    command = [sys.executable, "-c", FETCH, address]
    ours, theirs = pty.openpty()
    first = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=theirs)
    os.close(theirs)
    shown = b""
    while b"2.1/3.1 MB" not in shown:
        shown += os.read(ours, 4096)
    first.send_signal(signal.SIGINT)
    assert first.wait(200) == 130
    hold.set()
    assert b"the same command goes on from there" in _rest(ours)
    assert first.communicate()[0] == b""
    assert len(list((tmp_path / "cache").rglob("*.part"))) == 1
    second = subprocess.run(command, capture_output=True, check=True, text=True)
    assert second.stderr == ""
    assert Path(second.stdout.split(": ")[1].strip()).read_bytes() == weights(5, megabytes=3)
    assert "Range" in server.gets()[-1].headers


def _rest(handle: int) -> bytes:
    """All that is still to be read of a terminal whose other side is closed."""
    rest = b""
    try:
        while piece := os.read(handle, 4096):
            rest += piece
    except OSError:
        pass  # so a closed terminal ends on Linux
    os.close(handle)
    return rest
