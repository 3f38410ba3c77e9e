"""`vitkd diagnose`, `vitkd teachers check` and `vitkd teachers test` as a person types them."""

import json
import runpy
from pathlib import Path

import pytest
import typer
from safetensors.torch import save_file
from typer.testing import CliRunner

from vitkd_bench.cli import diagnose, preflight
from vitkd_bench.diagnose.recommendation import PUBLISHED
from vitkd_bench.networks import create_student
from vitkd_bench.registry import TEACHERS
from vitkd_bench.spec import BadInputError, WorldError

GOOD = """
from vitkd_bench.registry import TEACHERS

TEACHERS.register(
    TEACHERS.get("deit/ti").model_copy(update={"name": "deit/NAME", "title": "Mine", "licence": "LICENCE"})
)
"""


@pytest.fixture(scope="module")
def app() -> typer.Typer:
    """The three commands in an app of their own."""
    made = typer.Typer(pretty_exceptions_enable=False)
    made.command("check")(preflight.check)
    made.command("test")(preflight.conform)
    made.command("diagnose")(diagnose.diagnose)
    return made


def run(app: typer.Typer, *arguments: str | Path) -> tuple[int, str, BaseException | None]:
    """Exit status, standard output, and what was raised."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return result.exit_code, result.stdout, result.exception


@pytest.fixture
def micro_weights(tmp_path: Path) -> Path:
    """Random weights of a micro teacher: a head that was never trained."""
    micro = TEACHERS.get("micro/deit")
    path = tmp_path / "micro.safetensors"
    save_file(create_student(micro.architecture, 10, micro.pixels, 0).module.state_dict(), path)
    return path


def test_check_tells_and_marks(app: typer.Typer, micro_weights: Path) -> None:
    """A table for people; without images an untrained head marks, which is exit status 0."""
    status, said, _ = run(app, "check", "micro/deit", "--weights", micro_weights)
    assert status == 0
    assert "the head is untrained" in said
    assert "verdict: mark" in said


def test_check_refuses_a_truncated_file(app: typer.Typer, micro_weights: Path) -> None:
    """Exit status 1, and the reason in JSON."""
    micro_weights.write_bytes(micro_weights.read_bytes()[:500])
    status, said, _ = run(app, "check", "micro/deit", "--weights", micro_weights, "--json")
    found = json.loads(said)
    assert (status, found["status"]) == (1, "refuse")
    assert found["checks"][0]["name"] == "weights"


def test_check_of_what_is_not_here_says_how_to_get_it(app: typer.Typer) -> None:
    """Without weights it names the command that fetches them; an unknown backend names the known."""
    raised = run(app, "check", "dinov2/s14")[2]
    assert isinstance(raised, WorldError)
    assert "vitkd teachers fetch dinov2/s14" in str(raised)
    asked = run(app, "check", "deit/ti", "--backend", "open_clip", "--weights", "x")[2]
    assert isinstance(asked, BadInputError)
    assert "timm" in str(asked)


def test_the_kit_holds_or_says_why(app: typer.Typer, tmp_path: Path) -> None:
    """A file with a sound teacher conforms; one without licence fails, with the reason, and exits 1."""
    good, bad = tmp_path / "good.py", tmp_path / "bad.py"
    good.write_text(GOOD.replace("NAME", "mine").replace("LICENCE", "MIT"))
    bad.write_text(GOOD.replace("NAME", "broken").replace("LICENCE", ""))
    status, said, _ = run(app, "test", good, "--json")
    assert status == 0
    assert list(json.loads(said)) == ["deit/mine"]
    status, said, _ = run(app, "test", bad)
    assert status == 1
    assert "licence: empty" in said


def test_a_file_without_teachers_is_refused(app: typer.Typer, tmp_path: Path) -> None:
    """Nothing to check is no success."""
    empty = tmp_path / "empty.py"
    empty.write_text("")
    raised = run(app, "test", empty)[2]
    assert isinstance(raised, BadInputError)
    assert "registers no teacher" in str(raised)


def test_diagnose_tells_and_writes(app: typer.Typer, tmp_path: Path) -> None:
    """What is lacking, the published sign, a recommendation, and a suite."""
    out = tmp_path / "try.yaml"
    status, said, _ = run(app, "diagnose", "dinov2/s14", "--suite-out", out)
    assert status == 0
    for words in ("layer_scale=1e-05", "fails", "sign only", "native student, attn_copy", "16 x 16 patches"):
        assert words in said
    assert out.is_file()


def test_diagnose_answers_scripts(app: typer.Typer) -> None:
    """The same in JSON, for a model that is not in the registry."""
    status, said, _ = run(app, "diagnose", "vit_tiny_patch16_224", "--json")
    found = json.loads(said)
    assert status == 0
    assert found["standard_student_lacks"] == {}
    assert found["family"] is None
    assert found["architecture"]["size"]["heads"] == 3


def test_diagnose_reads_own_records(app: typer.Typer, root: Path, tmp_path: Path) -> None:
    """Records of the family stand beside what is published; a decided verdict of theirs leads the advice."""
    bench = runpy.run_path(str(root / "tests" / "report" / "conftest.py"))
    out = bench["half_way"](bench["Bench"](tmp_path / "out"))
    status, said, _ = run(app, "diagnose", "dinov2/s14", "--records", out, "--json")
    found = json.loads(said)
    assert status == 0
    own = {(e["student"], e["method"]): e["outcome"] for e in found["evidence"] if e["source"] != PUBLISHED}
    assert own["standard", "attn_copy"] == "fails"
    assert own["native", "attn_copy"] == "transfers"
    assert "own records say" in found["recommended"]["because"]
