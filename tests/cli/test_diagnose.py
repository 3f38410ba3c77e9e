"""`vitkd diagnose`, `vitkd teachers check` and `vitkd teachers test` as a person types them."""

import json
import runpy
from pathlib import Path

import pytest
import torch
import typer
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from vitkd_bench.cli import diagnose, preflight, teachers
from vitkd_bench.diagnose.recommendation import PUBLISHED
from vitkd_bench.networks import create_student
from vitkd_bench.registry import TEACHERS
from vitkd_bench.spec import BadInputError, DamagedFileError, VitkdError, WorldError

pytestmark = pytest.mark.usefixtures("own_shelf")

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
    """Exit status 1, the reason in JSON, and one line that says what to do."""
    micro_weights.write_bytes(micro_weights.read_bytes()[:500])
    _, said, raised = run(app, "check", "micro/deit", "--weights", micro_weights, "--json")
    found = json.loads(said)
    assert (found["status"], found["fault"]) == ("refuse", "damaged")
    assert found["checks"][0]["name"] == "weights"
    assert isinstance(raised, DamagedFileError)
    assert raised.exit_code == 1
    assert "get the file again" in str(raised)


def test_check_of_another_networks_weights_names_their_teacher(app: typer.Typer, micro_weights: Path) -> None:
    """Exit status 2, after the table, with the command that would work."""
    _, said, raised = run(app, "check", "micro/dinov2_large", "--weights", micro_weights)
    assert "verdict: refuse" in said
    assert isinstance(raised, BadInputError)
    assert raised.exit_code == 2
    assert "its shapes are those of micro/" in str(raised)
    assert f"--weights {micro_weights}" in str(raised)
    assert "\n" not in str(raised)


def test_check_of_a_file_with_code_says_which_form_is_wanted(app: typer.Typer, tmp_path: Path) -> None:
    """Exit status 2; nothing of what torch advises."""
    path = tmp_path / "module.pt"
    torch.save(torch.nn.Linear(2, 2), path)
    raised = run(app, "check", "micro/deit", "--weights", path)[2]
    assert isinstance(raised, BadInputError)
    assert "as safetensors and give that file" in str(raised)
    assert "weights_only" not in str(raised)


def test_check_ends_another_refusal_with_what_to_do(app: typer.Typer, micro_weights: Path) -> None:
    """Weights that load and overflow: exit status 1, and a line on standard error."""
    huge = {name: tensor * 1e38 for name, tensor in load_file(micro_weights).items()}
    save_file(huge, micro_weights)
    result = CliRunner().invoke(app, ["check", "micro/deit", "--weights", str(micro_weights)])
    assert result.exit_code == 1
    assert "features are not finite" in result.stdout
    assert "the head's values are not finite" in result.stdout
    assert "verdict: refuse" in result.stdout
    assert "refused; next: " in result.stderr


def test_missing_files_are_told_with_what_would_work(app: typer.Typer, micro_weights: Path) -> None:
    """Weights, images and an extension that are not there: the nearest name, or what is wanted."""
    near = micro_weights.with_name("micor.safetensors")
    for arguments, said in (
        (("check", "micro/deit", "--weights", near), "did you mean 'micro.safetensors'"),
        (("check", "deit/ti", "--weights", micro_weights, "--images", near), "imagenet_sample"),
        (("test", near.with_suffix(".py")), "a Python file is needed"),
    ):
        raised = run(app, *arguments)[2]
        assert isinstance(raised, VitkdError)
        assert said in str(raised)
        assert "Errno" not in str(raised)


def test_help_names_the_folders_of_images(app: typer.Typer) -> None:
    """The README's names of folders are found where a person looks for the option."""
    said = " ".join(run(app, "check", "--help")[1].replace("│", " ").split())
    assert "imagenet_sample" in said
    assert "tiny_imagenet100" in said


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
    """The same in JSON, for a model by its name in timm."""
    status, said, _ = run(app, "diagnose", "vit_tiny_patch16_224", "--json")
    found = json.loads(said)
    assert status == 0
    assert found["standard_student_lacks"] == {}
    assert (found["family"], found["registered_as"]) == ("augreg", "augreg/ti")
    assert found["architecture"]["size"]["heads"] == 3


def test_diagnose_says_that_a_name_is_shared(app: typer.Typer, tmp_path: Path) -> None:
    """Both families are named, records of neither are read, and that is said."""
    model = "transformers:SiglipVisionModel"
    result = CliRunner().invoke(app, ["diagnose", model, "--records", str(tmp_path)])
    assert result.exit_code == 0
    assert "unknown: siglip and siglip2 share its name" in result.stdout
    assert "evidence           none" in result.stdout
    assert "--records: not read" in result.stderr
    assert json.loads(run(app, "diagnose", model, "--json")[1])["families"] == ["siglip", "siglip2"]


def test_diagnose_claims_nothing_of_a_foreign_training(app: typer.Typer) -> None:
    """Data sets that AugReg's tag has too make no AugReg: unknown, like others in components only."""
    status, said, _ = run(app, "diagnose", "vit_base_patch16_224.orig_in21k")
    assert status == 0
    assert "evidence           none" in said
    assert "it is published" not in said
    assert "of no family that is known here, like augreg and" in " ".join(said.split())


def test_diagnose_of_a_teachers_source_says_so(app: typer.Typer) -> None:
    """A name of timm that is registered under another."""
    said = run(app, "diagnose", "vit_small_patch14_dinov2")[1]
    assert "registered as" in said
    assert "dinov2/s14" in said
    assert "224 px" in said


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


def test_a_teacher_of_an_own_file_is_known_by_it(app: typer.Typer, tmp_path: Path) -> None:
    """`--extension` for diagnose, show and list; weights without a location are never to be fetched."""
    file = tmp_path / "own_file.py"
    text = GOOD.replace("deit/NAME", "deit/of_a_file").replace("LICENCE", "MIT")
    nowhere = '"sources": (TEACHERS.get("deit/ti").sources[0].model_copy(update={"location": None}),), '
    file.write_text(text.replace('"title"', nowhere + '"title"'))
    assert run(app, "diagnose", "deit/of_a_file", "--extension", file)[0] == 0
    raised = run(app, "check", "deit/of_a_file", "--extension", file)[2]
    assert isinstance(raised, WorldError)
    assert str(raised).endswith("no weights here: --weights FILE")
    for command in (("show", "deit/of_a_file"), ("list",)):
        status, said, _ = run(teachers.app, *command, "--extension", file)
        assert status == 0
        assert "deit/of_a_file" in said
    commands = run(teachers.app, "--help")[1].split()
    assert [word for word in commands if word.startswith("show")] == ["show"]
