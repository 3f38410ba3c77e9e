"""The conformance kit passes our own teachers and a stranger's, and says what is wrong with a broken one."""

import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from vitkd_bench.diagnose import conformance
from vitkd_bench.diagnose.parts import other_tensors
from vitkd_bench.networks import ViT, build_teacher
from vitkd_bench.networks.unfilled import unfilled_parameters
from vitkd_bench.registry import TEACHERS
from vitkd_bench.spec import (
    Architecture,
    Components,
    Head,
    PixelStats,
    Size,
    StudentEntry,
    Teacher,
    Training,
    resolve_student,
)


def training(method: str, reads: str | None) -> Training:
    """A training on the digits."""
    return Training(method=method, recipe="micro_pretrain", dataset="digits", teacher=reads)


kit = sys.modules["vitkd_bench.diagnose.conformance"]  # the package has a function of this name

PACKAGE = """
from vitkd_bench.registry import TEACHERS
from vitkd_bench.spec import IMAGENET_PIXELS, SIZES, Architecture, Components, Teacher, WeightSource

TEACHERS.register(
    Teacher(
        name="stranger/s",
        title="A stranger's ViT-S",
        family="stranger",
        group="reserve",
        paper="doi:10.1/1",
        licence="MIT",
        objective="labels",
        seen=("imagenet1k",),
        architecture=Architecture(
            image_size=224, patch=14, size=SIZES["s"], components=Components(layer_scale=HERE)
        ),
        pixels=IMAGENET_PIXELS,
        sources=(WeightSource(backend="timm", model="vit_small_patch14_dinov2.lvd142m"),),
    )
)
"""
PROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "stranger-teachers"
version = "1.0"

[project.entry-points."vitkd_bench.teachers"]
stranger = "stranger_teachers"

[tool.hatch.build.targets.wheel]
packages = ["stranger_teachers"]
"""
ASK = """
from vitkd_bench.diagnose import conformance
from vitkd_bench.registry import TEACHERS
teacher = TEACHERS.get("stranger/s")
print(TEACHERS.origin("stranger/s"))
print(sorted({check.status for check in conformance(teacher)}))
"""


def broken(**changes: object) -> Teacher:
    """DeiT-Ti with a contract that says something else."""
    return TEACHERS.get("deit/ti").model_copy(update=changes)


def failures(teacher: Teacher) -> dict[str, str]:
    """The checks that do not hold, with their reason."""
    return {check.name: check.finding for check in conformance(teacher) if check.status == "refuse"}


def test_a_component_that_is_not_there_is_found() -> None:
    """The contract claims a layer scale; the network that its source builds has none."""
    at = TEACHERS.get("deit/ti").architecture.with_(components=Components(layer_scale=1e-5))
    found = failures(broken(architecture=at))
    assert "components.layer_scale: present claimed, absent found" in found["built"]


def test_a_wrong_head_count_is_found() -> None:
    """Six heads are claimed where three are built."""
    at = TEACHERS.get("deit/ti").architecture.with_(size=Size(width=192, depth=12, heads=6))
    assert "size.heads: 6 claimed, 3 found" in failures(broken(architecture=at))["built"]


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("final_norm", "fc_norm.weight (192,) claimed, absent found"),
        ("proj_bias", "attn.proj has no bias, which no component describes"),
    ],
)
def test_a_tensor_that_no_component_names_is_found(argument: str, said: str) -> None:
    """It is built by timm without a part: seen where parts are read, or else by its tensors."""
    source = TEACHERS.get("deit/ti").sources[0].model_copy(update={"arguments": {argument: False}})
    found = failures(broken(sources=(source,)))
    assert said in found["built"]
    assert list(found) == ["built"]


def test_other_tensors_of_other_libraries_are_found() -> None:
    """Names are their own there, so numbers are counted: a wider MLP than the contract's."""
    own = TEACHERS.get("dinov2/s14")
    with unfilled_parameters():
        wider = own.architecture.with_(size=Size(width=384, depth=12, heads=6, mlp_ratio=5))
        ours = ViT(own.architecture), ViT(wider)
    module = build_teacher(own, own.architecture, "transformers", unfilled=True)
    assert other_tensors(module, ours[0], own.architecture) == ""
    assert "numbers in its tensors" in other_tensors(module, ours[1], wider)


def test_a_wrong_count_of_parameters_is_found() -> None:
    """It is counted in what is built, without the head."""
    found = failures(broken(parameters=5_717_416))
    assert found == {"built": "parameters: 5,717,416 claimed, 5,524,416 found"}


@pytest.mark.parametrize(
    ("name", "component", "said"),
    [
        ("dinov2/s14", "layer_scale", "adds nothing, its components blocks.*.ls1.gamma, blocks.*.ls2.gamma"),
        ("clip/b16", "patch_bias", "lacks nothing, its components patch_embed.proj.bias"),
        ("clip/b16", "activation", "components.activation: quick_gelu claimed, gelu found"),
        ("beitv2/b", "qkv_bias", "its components blocks.*.attn.qkv.bias, pos_embed"),
    ],
)
def test_a_resolver_that_forgets_a_component_is_found(
    monkeypatch: pytest.MonkeyPatch, name: str, component: str, said: str
) -> None:
    """The tensors of each component are written down apart from what builds students."""

    def forgetful(use: StudentEntry, architecture: Architecture) -> Architecture:
        found = resolve_student(use, architecture)
        plain = {component: getattr(Components(), component)}
        return found.with_(components=found.components.model_copy(update=plain))

    monkeypatch.setattr(kit, "resolve_student", forgetful)
    found = failures(TEACHERS.get(name))
    assert list(found) == ["native"]
    assert said in found["native"]


def test_facts_that_are_missing_are_named() -> None:
    """An empty licence, no paper, a name outside of its family."""
    found = failures(broken(licence="", paper="", name="other/ti"))["facts"]
    assert all(word in found for word in ("licence", "paper", "deit/<size>"))


def test_a_strangers_family_and_paper_are_his_own() -> None:
    """A micro teacher may stand in its own family, a paper be none; `micro/` is for micro ones alone."""
    micro = TEACHERS.get("micro/deit").model_copy(update={"paper": "our own", "name": "deit/tiny"})
    assert failures(micro) == {}
    assert "deit/<size> is needed" in failures(broken(name="micro/ti"))["facts"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"pixels": PixelStats(mean=(0.5,), std=(0.5,))}, "pixels: those of digits are needed"),
        ({"head": Head(kind="text", label_space="digits", num_classes=9)}, "not the classes of digits"),
        ({"training": training("pretrain_clip", reads="micro/dino")}, "does not fit pretrain_clip"),
        ({"training": training("pretrain_beitv2", reads="micro/clip")}, "waits for itself"),
        ({"training": training("kd", reads="micro/deit")}, "'kd' is not of kind pretraining"),
    ],
)
def test_a_training_that_does_not_fit_is_found(changes: dict[str, object], said: str) -> None:
    """Pixels, classes, objective and the teacher that it reads are held against what is registered."""
    found = next(
        c for c in conformance(TEACHERS.get("micro/clip").model_copy(update=changes)) if c.name == "made"
    )
    assert found.status == "refuse"
    assert said in found.finding


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"location": "hf:/x"}, "sources[0]: location 'hf:/x' is not of the form hf://owner/name"),
        ({"location": "http://example.org/x"}, "use https"),
        ({"unused": ("*",)}, "sources[0].unused: '*' is also 152 of the network's own keys (cls_token)"),
        ({"unused": ("decoder.*", "blocks.11.*")}, "'blocks.11.*' is also 12 of the network's own keys"),
    ],
)
def test_a_source_that_cannot_be_read_is_found(change: dict[str, object], said: str) -> None:
    """An address that nothing fetches, and a pattern that leaves the network's own keys aside."""
    source = TEACHERS.get("deit/ti").sources[0].model_copy(update=change)
    found = failures(broken(sources=(source,)))
    assert list(found) == ["made"]
    assert said in found["made"]


@pytest.mark.parametrize(
    ("text_encoder", "said"),
    [
        ("open_clip:NoSuch/xx", "no such model"),
        ("open_clip:ViT-B-16-quickgelu/opena", "no such tag; did you mean 'openai'"),
        ("transformers:CLIPTextModel", "write open_clip:<model>/<tag>"),
    ],
)
def test_a_text_tower_that_nobody_knows_is_found(text_encoder: str, said: str) -> None:
    """Its library, model and tag are looked up."""
    clip = TEACHERS.get("clip/b16").model_copy(update={"text_encoder": text_encoder})
    assert said in "; ".join(kit.can_be_made(clip) if "opena" in text_encoder else failures(clip).values())


def test_a_contract_that_contradicts_itself_is_found() -> None:
    """Two channels of statistics for three of pixels; neither sources nor a training."""
    grey = PixelStats(mean=(0.5, 0.5), std=(0.2, 0.2))
    found = failures(broken(pixels=grey, sources=()))["contract"]
    assert "2 means" in found
    assert "sources" in found


def test_an_unknown_model_is_a_finding() -> None:
    """The kit goes on after a source that cannot be built."""
    source = TEACHERS.get("deit/ti").sources[0].model_copy(update={"model": "deit_tinny"})
    found = failures(broken(sources=(source,)))
    assert "deit_tinny" in found["built"]
    assert list(found) == ["built"]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A little package of a third party, built into a wheel and installed into a folder of its own."""
    source = tmp_path_factory.mktemp("stranger")
    (source / "stranger_teachers").mkdir()
    (source / "stranger_teachers" / "__init__.py").write_text(PACKAGE.replace("HERE", "1e-5"))
    (source / "pyproject.toml").write_text(textwrap.dedent(PROJECT))
    target = source / "installed"
    run = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(source), str(source)]
    subprocess.run(run, check=True, capture_output=True, text=True)
    (wheel,) = source.glob("*.whl")
    uv = shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent))
    base = getattr(sys, "_base_executable", sys.executable)  # has pip where an environment of uv's has none
    pip = [uv, "pip", "install", "--python", sys.executable] if uv else [base, "-m", "pip", "install"]
    install = [*pip, "--quiet", "--no-index", "--no-deps", "--target", target, wheel]
    subprocess.run(install, check=True, capture_output=True, text=True)
    return target


def test_an_installed_package_adds_a_teacher(installed: Path) -> None:
    """A fresh process finds it by its entry point, and the kit holds for it; no file of ours was edited."""
    path = os.pathsep.join([str(installed), *filter(None, [os.environ.get("PYTHONPATH")])])
    ran = subprocess.run(
        [sys.executable, "-c", ASK],
        capture_output=True,
        check=False,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert ran.returncode == 0, ran.stderr
    origin, statuses = ran.stdout.splitlines()
    assert Path(origin).is_relative_to(installed)
    assert statuses == "['pass']"
