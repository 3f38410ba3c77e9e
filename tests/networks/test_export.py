"""Students in plain timm: the same function, or a sentence that says why there is none."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vitkd_bench.networks import ViTNetwork, create_student
from vitkd_bench.networks.export import as_timm, timm_config, write_timm
from vitkd_bench.networks.timm_form import timm_form
from vitkd_bench.registry import TEACHERS
from vitkd_bench.spec import (
    Architecture,
    BadInputError,
    Components,
    PixelStats,
    Size,
    StudentEntry,
    WorldError,
    resolve_student,
)

PIXELS = PixelStats(mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.25))
LABELS = ("a", "b", "c", "d", "e", "f", "g")
PLAIN = Architecture(image_size=12, patch=4, size=Size(width=48, depth=2, heads=3))


def small(architecture: Architecture) -> Architecture:
    """The same token interface and components at three patches a side and two blocks."""
    size = Size(width=48, depth=2, heads=3, mlp_ratio=architecture.size.mlp_ratio)
    return architecture.with_(size=size, image_size=3 * architecture.patch)


def students() -> Iterator[tuple[str, Architecture]]:
    """Native and standard students of every teacher, and each single component; equal ones once."""
    for teacher in TEACHERS:
        for kind in ("native", "standard"):
            student = resolve_student(StudentEntry(name=kind), small(teacher.architecture))
            yield f"{kind}_of_{teacher.name.replace('/', '_')}", student
    for component in Components.model_fields:
        entry = StudentEntry.model_validate({"components": (component,), "as": component})
        yield f"only_{component}", resolve_student(entry, PLAIN)
    for name in ("beit/b", "clip/b16", "dinov3/s16"):
        entry = StudentEntry(name="native", class_token="none", registers="none")
        student = resolve_student(entry, small(TEACHERS.get(name).architecture))
        yield f"no_prefix_{name.replace('/', '_')}", student


STUDENTS = {student: name for name, student in reversed(list(students()))}  # of equal ones the first name
every_student = pytest.mark.parametrize("name", sorted(STUDENTS.values()))


def stirred(architecture: Architecture, outputs: int = len(LABELS)) -> ViTNetwork:
    """A student none of whose weights is zero, one or tiny: what is lost of any shows in the outputs."""
    pixels = PIXELS if architecture.channels == 3 else PixelStats(mean=(0.3,), std=(0.4,))
    network = create_student(architecture, outputs, pixels, seed=0).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in network.module.named_parameters():
            centre = 1.0 if "norm" in name and name.endswith("weight") else 0.0
            parameter.copy_(centre + 0.2 * torch.randn(parameter.shape, generator=generator))
    return network


def random_pixels(architecture: Architecture) -> torch.Tensor:
    """Three images in [0, 1]."""
    side = architecture.image_size
    return torch.rand(3, architecture.channels, side, side, generator=torch.Generator().manual_seed(2))


def export(network: ViTNetwork, to: Path) -> float:
    """Write one student."""
    return write_timm(network, as_timm(network), to, labels=LABELS, card="")


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory, root: Path) -> tuple[Path, dict[str, Any]]:
    """All students exported, and run by timm in one process without this package."""
    folder = tmp_path_factory.mktemp("exports")
    for architecture, name in STUDENTS.items():
        export(stirred(architecture), folder / name)
    pixels: dict[str, Any] = {name: random_pixels(each).numpy() for each, name in STUDENTS.items()}
    np.savez(folder / "pixels.npz", **pixels)
    script, shim = root / "tests/fixtures/plain_timm.py", root / "vitkd_bench/_torchvision.py"
    done = subprocess.run(
        [sys.executable, script, shim, folder], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return folder, json.loads(done.stdout)


@every_student
def test_plain_timm_gives_the_same_outputs(loaded: tuple[Path, dict[str, Any]], name: str) -> None:
    """In a fresh process, from the folder alone, every kind of student gives its logits to 1e-5."""
    folder, _ = loaded
    architecture = next(student for student, known in STUDENTS.items() if known == name)
    network = stirred(architecture)
    with torch.no_grad():
        wanted = network(random_pixels(architecture), frozenset({"logits"})).logits
    assert wanted is not None
    assert wanted.abs().max() > 0.1  # else agreement would say little
    with np.load(folder / "outputs.npz") as outputs:
        np.testing.assert_allclose(outputs[name], wanted.numpy(), rtol=0, atol=1e-5)


@every_student
def test_timm_knows_labels_pixels_and_head(loaded: tuple[Path, dict[str, Any]], name: str) -> None:
    """Class names, normalisation and size are as trained, and another head is put on the same backbone."""
    facts = loaded[1][name]
    architecture = next(student for student, known in STUDENTS.items() if known == name)
    pixels = stirred(architecture).pixels
    assert facts["labels"] == list(LABELS)
    assert (facts["outputs_with_another_head"], facts["same_backbone"]) == (3, True)
    assert facts["data"] == {
        "input_size": [architecture.channels, architecture.image_size, architecture.image_size],
        "interpolation": "bicubic",
        "crop_pct": 1.0,
        "mean": list(pixels.mean),
        "std": list(pixels.std),
    }


@pytest.mark.parametrize(
    ("teacher", "expected"),
    [
        ("deit/s", "VisionTransformer"),
        ("clip/b16", "VisionTransformer"),
        ("beit/b", "Beit"),
        ("eva02/s14", "Eva"),
        ("dinov3/s16", "Eva"),
    ],
)
def test_a_native_student_is_of_its_teachers_class(teacher: str, expected: str) -> None:
    """Where timm has a class for a family, its students are of that class."""
    assert timm_form(TEACHERS.get(teacher).architecture, 0).of.name == expected


def test_a_native_beit_keeps_every_tensor_of_its_teachers_form() -> None:
    """Nothing of BEiT's own layout is folded: only the two layer scales have other names."""
    network = stirred(small(TEACHERS.get("beit/b").architecture))
    model = as_timm(network)
    renamed = {name.replace("ls1.gamma", "gamma_1").replace("ls2.gamma", "gamma_2") for name in model.state}
    own = {name.replace("ls1.gamma", "gamma_1").replace("ls2.gamma", "gamma_2") for name in network.weights()}
    assert (renamed, model.notes) == (own, ())


components = st.builds(
    Components,
    layer_scale=st.sampled_from([None, 1e-5]),
    norm_pre=st.booleans(),
    relative_position_bias=st.booleans(),
    position=st.sampled_from(["learned", "fixed", "none"]),
    position_on_prefix=st.booleans(),
    qkv_bias=st.sampled_from(["full", "qv", "none"]),
    activation=st.sampled_from(["gelu", "gelu_tanh", "quick_gelu"]),
    patch_bias=st.booleans(),
    norm_eps=st.sampled_from([1e-6, 1e-5]),
    rope=st.sampled_from(["none", "eva02", "dinov3"]),
    qk_norm=st.booleans(),
    mlp=st.sampled_from(["plain", "swiglu", "glu"]),
)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(components, st.sampled_from([(True, 0), (True, 2), (False, 0), (False, 2)]))
def test_any_mixture_is_the_same_function_or_refused(
    tmp_path: Path, parts: Components, prefix: tuple[bool, int]
) -> None:
    """Whatever the components, timm computes the same from what is written, or they are refused."""
    student = PLAIN.with_(components=parts, class_token=prefix[0], registers=prefix[1])
    try:
        timm_form(student, len(LABELS))
    except BadInputError:
        # everything else is a switch of timm's VisionTransformer
        assert parts.relative_position_bias or parts.mlp != "plain" or parts.rope != "none"
        return
    network, pixels = stirred(student), random_pixels(student)
    export(network, tmp_path / "student")
    model = timm.create_model(f"local-dir:{tmp_path / 'student'}", pretrained=True).eval()
    with torch.no_grad():
        wanted, found = network(pixels, frozenset({"logits"})).logits, model(network.normalise(pixels))
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


@given(st.integers(1, 2048), st.floats(0.1, 8))
def test_the_inner_width_survives_timms_rounding(width: int, ratio: float) -> None:
    """Width times ratio, which timm rounds down and a student to the nearest, comes to the same number."""
    hidden = round(width * ratio)
    architecture = PLAIN.with_(size=Size(width=width, depth=1, heads=1, mlp_ratio=ratio))
    if hidden:
        given_ratio = timm_form(architecture, 0).model_args["mlp_ratio"]
        assert int(width * given_ratio) == hidden


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"relative_position_bias": True, "rope": "eva02"}, "Beit not rope=eva02"),
        ({"relative_position_bias": True, "norm_pre": True}, "Beit not norm_pre=True"),
        ({"mlp": "glu"}, "Eva not mlp=glu"),
        ({"norm_eps": 1e-12}, "VisionTransformer not norm_eps=1e-12"),
        ({"rope": "dinov3", "activation": "quick_gelu"}, "Eva not activation=quick_gelu"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_what_no_timm_model_has_is_refused(tmp_path: Path, parts: dict[str, Any], said: str) -> None:
    """A mixture without a form in timm is refused by the part that is in the way, and nothing is written."""
    network = stirred(PLAIN.with_(components=Components.model_validate(parts)))
    with pytest.raises(BadInputError, match=said):
        export(network, tmp_path / "student")
    assert list(tmp_path.iterdir()) == []


def test_an_export_that_computes_something_else_is_not_written(tmp_path: Path) -> None:
    """Where timm's model gives other outputs, as another version of timm might, no file appears."""
    network = stirred(PLAIN)
    model = as_timm(network)
    wrong = dataclasses.replace(model.form, model_args={**model.form.model_args, "act_layer": "quick_gelu"})
    with pytest.raises(WorldError, match="computes another function"):
        write_timm(network, dataclasses.replace(model, form=wrong), tmp_path / "student", card="")
    assert list(tmp_path.iterdir()) == []


def test_a_student_without_a_head_gives_its_pooled_features(tmp_path: Path) -> None:
    """No head is invented: timm's model ends where the student ends."""
    network = stirred(PLAIN, outputs=0)
    assert export(network, tmp_path / "student") < 1e-5
    assert timm_config(network, as_timm(network).form)["num_classes"] == 0
    stored = safetensors.torch.load_file(tmp_path / "student/model.safetensors")
    assert not [name for name in stored if name.startswith("head")]


def test_exporting_draws_no_random_number_and_leaves_the_student_alone(tmp_path: Path) -> None:
    """The global stream of torch and the student's weights are as before."""
    network = stirred(PLAIN.with_(components=Components(norm_pre=True, qkv_bias="qv")))
    before, stream = {n: t.clone() for n, t in network.state_dict().items()}, torch.get_rng_state()
    export(network, tmp_path / "student")
    assert torch.equal(torch.get_rng_state(), stream)
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())


def test_files_of_an_earlier_export_are_replaced_and_others_stay(tmp_path: Path) -> None:
    """A second export into a folder is whole, and touches nothing but its own three files."""
    to = tmp_path / "student"
    export(stirred(PLAIN.with_(components=Components(layer_scale=0.1))), to)
    (to / "mine.txt").write_text("mine")
    export(stirred(PLAIN), to)
    names = {path.name for path in to.iterdir()}
    assert names == {"model.safetensors", "config.json", "README.md", "mine.txt"}
    assert "blocks.0.ls1.gamma" not in safetensors.torch.load_file(to / "model.safetensors")
