"""`vitkd methods controls`: what a method can be held against."""

import json

import pytest

from tests.cli.test_commands import vitkd
from vitkd_bench.registry import CONTROLS


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
