"""Weights from outside in a suite: checked before a run trusts them, and the verdict in the record."""

import json
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tests.engine.conftest import QUICK
from vitkd_bench.networks import build_teacher
from vitkd_bench.registry import TEACHERS

OUTSIDE = Path(__file__).parents[1] / "fixtures" / "outside.py"
SUITE = """suite: outside
version: 1
datasets: [digits]
extensions: [{outside}, {quick}]
recipe: {{base: quick, epochs: 1}}
teachers: [{teachers}]
students: [standard]
methods: [none, attn_copy]
seeds: [0]
evaluate: [test]
"""


@pytest.fixture
def folder(tmp_path: Path, own_shelf: None) -> Path:  # noqa: ARG001 (it undoes what is done here)
    """A folder with weights of the teacher from outside, random ones."""
    runpy.run_path(str(OUTSIDE))
    teacher = TEACHERS.get("outside/tiny")
    torch.manual_seed(0)
    state = build_teacher(teacher, teacher.architecture).state_dict()
    # ten times the usual start, so that the features of two images are not the same
    save_file({k: 10 * v if v.ndim > 1 else v for k, v in state.items()}, tmp_path / "tiny.safetensors")
    return tmp_path


def vitkd(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, with a cache of its own."""
    code = "from vitkd_bench.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", "VITKD_CACHE": str(folder / "cache"), "HOME": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )


def write_suite(folder: Path, teachers: str) -> None:
    """The suite with these teachers."""
    (folder / "outside.yaml").write_text(SUITE.format(outside=OUTSIDE, quick=QUICK, teachers=teachers))


def records(folder: Path) -> dict[str, dict[str, object]]:
    """The records of the suite's output folder by method."""
    found = (folder / "runs" / "outside" / "records").glob("*.json")
    return {record["cell"]["method"]: record for record in (json.loads(path.read_text()) for path in found)}


def test_the_verdict_stands_in_the_record(folder: Path) -> None:
    """`run` checks weights that nobody has checked, once; the record carries verdict, backend and hash."""
    write_suite(folder, "{name: outside/tiny, weights: tiny.safetensors}")
    done = vitkd(folder, "run", "outside.yaml", "--executor", "inline", "--json")
    assert done.returncode == 0, done.stderr
    provenance = records(folder)["attn_copy"]["provenance"]
    assert isinstance(provenance, dict)
    assert provenance["preflight"].partition(":")[0] in {"pass", "mark"}
    assert provenance["teacher_backend"] == "timm"
    stored = list((folder / "cache" / "preflight").glob("*.json"))
    assert [path.name[:16] for path in stored] == [provenance["teacher_weights_sha256"][:16]]
    assert records(folder)["none"]["provenance"]["preflight"] is None  # type: ignore[index]


def test_weights_that_the_preflight_refuses_are_left_out_and_the_others_run(folder: Path) -> None:
    """A truncated file: its cells are refused by name with the reason, the others done, exit status 1."""
    whole = (folder / "tiny.safetensors").read_bytes()
    (folder / "broken.safetensors").write_bytes(whole[: len(whole) // 2])
    write_suite(
        folder,
        "{name: outside/tiny, weights: tiny.safetensors}, "
        "{name: outside/tiny, as: broken, weights: broken.safetensors}",
    )
    done = vitkd(folder, "run", "outside.yaml", "--executor", "inline", "--json")
    assert done.returncode == 1, done.stderr
    assert "not run: broken:standard:attn_copy:digits: broken: refuse: " in done.stderr
    assert "broken.safetensors: cannot be read" in done.stderr
    assert records(folder)["attn_copy"]["status"] == "done"
    plan = json.loads((folder / "runs" / "outside" / "plan.json").read_text())
    assert {refusal["kind"] for refusal in plan["refusals"]} == {"preflight"}


def test_weights_of_another_network_are_bad_input(folder: Path) -> None:
    """A file that the suite names and that cannot be this teacher's: exit 2, nothing run or written."""
    teacher = TEACHERS.get("outside/tiny")
    state = build_teacher(teacher, teacher.architecture).state_dict()
    stranger = {k: v for k, v in state.items() if k != "blocks.2.attn.qkv.weight"}
    save_file(stranger, folder / "stranger.safetensors")
    write_suite(folder, "{name: outside/tiny, weights: stranger.safetensors}")
    done = vitkd(folder, "run", "outside.yaml", "--executor", "inline")
    assert done.returncode == 2, done.stderr
    assert "blocks.2.attn.qkv.weight" in done.stderr
    assert not (folder / "runs").exists()


def test_a_teacher_without_weights_here_says_how_to_fetch_it(folder: Path) -> None:
    """`plan` names the command, writes nothing and asks no network."""
    write_suite(folder, "outside/tiny")
    planned = vitkd(folder, "plan", "outside.yaml", "--json")
    assert planned.returncode == 0, planned.stderr
    reasons = {refusal["reason"] for refusal in json.loads(planned.stdout)["refusals"]}
    command = f"vitkd teachers fetch outside/tiny --extension {OUTSIDE}"
    assert reasons == {f"outside/tiny is not fetched: {command}, or give weights: FILE"}
    assert not (folder / "cache").exists()


def test_weights_may_be_a_folder(folder: Path) -> None:
    """A folder with one file of weights is taken for it."""
    (folder / "whole").mkdir()
    (folder / "tiny.safetensors").rename(folder / "whole" / "model.safetensors")
    write_suite(folder, "{name: outside/tiny, weights: whole}")
    planned = vitkd(folder, "plan", "outside.yaml", "--json")
    assert planned.returncode == 0, planned.stderr
    (source,) = json.loads(planned.stdout)["sources"].values()
    assert source["path"].endswith("whole")
