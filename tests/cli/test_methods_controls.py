"""`vitkd methods`: what a method can be held against, and one of one's own."""

import json
from pathlib import Path

import pytest

from tests.cli.test_commands import vitkd
from vitkd_bench.registry import CONTROLS, METHODS


def test_every_control_is_listed_with_what_is_at_stake(capsys: pytest.CaptureFixture[str]) -> None:
    """For people a row each, for scripts all facts; settings are those that a suite may give."""
    listed = json.loads(vitkd(capsys, "methods", "controls", "--json").out)
    assert [entry["name"] for entry in listed] == CONTROLS.names()
    rows = vitkd(capsys, "methods", "controls").out.splitlines()
    assert [row.split()[0] for row in rows[2:]] == CONTROLS.names()
    by_name = {entry["name"]: entry for entry in listed}
    assert by_name["shuffled_maps"]["settings"] == {"among": "any"}
    assert by_name["shuffled_maps"]["acts_on"] == ["attention"]
    for entry in CONTROLS:
        defaults = by_name[entry.name]["settings"]
        assert entry.control.Config.parse(defaults, "here") == entry.control.Config()
        assert entry.claim in "\n".join(rows)


OWN = """from vitkd_bench.contracts import Method
from vitkd_bench.registry import METHODS


@METHODS.register("own_of_a_file", title="Own", kind="logit", paper="our own", budget="0")
class Own(Method):
    pass
"""


def test_a_method_of_ones_own_is_shown(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--extension` for show and list; a file that is not there is named."""
    METHODS.names()  # walked, so that what is kept is whole; what the test adds is gone after it
    for held in ("_entries", "_origin", "_lines"):
        monkeypatch.setattr(METHODS, held, dict(getattr(METHODS, held)))
    file = tmp_path / "own.py"
    file.write_text(OWN)
    assert vitkd(capsys, "methods", "show", "own_of_a_file").status == 2
    for command in (["show", "own_of_a_file"], ["list"]):
        answer = vitkd(capsys, "methods", *command, "--extension", str(file), "--json")
        assert (answer.status, answer.err) == (0, "")
        assert '"own_of_a_file"' in answer.out
    missing = vitkd(capsys, "methods", "list", "--extension", str(tmp_path / "none.py"))
    assert (missing.status, missing.err) == (2, f"vitkd: extension {tmp_path / 'none.py'}: no such file\n")
