"""Students of every teacher of the registry: what is built differs from a plain ViT in what is named."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vitkd_bench.networks import ViT, create_student
from vitkd_bench.registry import TEACHERS
from vitkd_bench.spec import (
    NAMED_COMPONENTS,
    Architecture,
    Components,
    Size,
    StudentEntry,
    Teacher,
    resolve_student,
)

ALL = sorted(TEACHERS, key=lambda teacher: teacher.name)
NAMES = [teacher.name for teacher in ALL]
BLOCKS = 2  # blocks are alike; two of them show what each one has
Shapes = dict[str, tuple[int, ...]]


def entry_of(word: str | tuple[str, ...], **more: Any) -> StudentEntry:
    """Make an entry of a kind, or of a set of components."""
    chosen = {"name": word} if isinstance(word, str) else {"components": list(word)}
    return StudentEntry.parse({"as": "own", **chosen, **more})


def student_of(teacher: Teacher, word: str | tuple[str, ...], **more: Any) -> Architecture:
    """Resolve a student of a registered teacher."""
    return resolve_student(entry_of(word, **more), teacher.architecture)


def shapes_of(architecture: Architecture) -> Shapes:
    """Build at full width on the meta device, and give the state's names and shapes."""
    size = architecture.size.model_copy(update={"depth": BLOCKS})
    with torch.device("meta"):
        vit = ViT(architecture.with_(size=size))
    return {name: tuple(tensor.shape) for name, tensor in vit.state_dict().items()}


def plain_shapes(architecture: Architecture) -> Shapes:
    """Write down the state of a plain ViT: timm's names, without a head."""
    width, patch = architecture.size.width, architecture.patch
    hidden = round(width * architecture.size.mlp_ratio)
    whole: Shapes = {
        "pos_embed": (1, architecture.tokens, width),
        "patch_embed.proj.weight": (width, architecture.channels, patch, patch),
        "patch_embed.proj.bias": (width,),
        "fc_norm.weight": (width,),
        "fc_norm.bias": (width,),
    }
    if architecture.class_token:
        whole["cls_token"] = (1, 1, width)
    if architecture.registers:
        whole["reg_token"] = (1, architecture.registers, width)
    layers = {"attn.qkv": 3 * width, "attn.proj": width, "mlp.fc1": hidden, "mlp.fc2": width}
    for block in range(BLOCKS):
        for name, out in layers.items():
            whole[f"blocks.{block}.{name}.weight"] = (out, hidden if name == "mlp.fc2" else width)
            whole[f"blocks.{block}.{name}.bias"] = (out,)
        for norm in ("norm1", "norm2"):
            whole |= {f"blocks.{block}.{norm}.{part}": (width,) for part in ("weight", "bias")}
    return whole


def added(architecture: Architecture) -> dict[str, Shapes]:
    """Give what each component adds to the state of a plain ViT, or has in another shape."""
    width, grid, parts = architecture.size.width, architecture.grid, architecture.components
    heads, hidden = architecture.size.heads, round(width * architecture.size.mlp_ratio)
    biases: Shapes = {"attn.q_bias": (width,), "attn.v_bias": (width,)}
    norms = [f"attn.{part}_norm.{kind}" for part in "qk" for kind in ("weight", "bias")]
    each: dict[str, Shapes] = {
        "layer_scale": {"ls1.gamma": (width,), "ls2.gamma": (width,)},
        "relative_position_bias": {"attn.relative_position_bias_table": ((2 * grid - 1) ** 2 + 3, heads)},
        "qkv_bias": biases if parts.qkv_bias == "qv" else {},
        "qk_norm": dict.fromkeys(norms, (width // heads,)),
        "mlp": {"mlp.fc1.weight": (2 * hidden, width), "mlp.fc1.bias": (2 * hidden,)},
    }
    whole: dict[str, Shapes] = {
        "norm_pre": {"norm_pre.weight": (width,), "norm_pre.bias": (width,)},
        "position_on_prefix": {"pos_embed": (1, grid**2, width)},
    }
    for component, state in each.items():
        whole[component] = {
            f"blocks.{i}.{name}": shape for i in range(BLOCKS) for name, shape in state.items()
        }
    return whole


def removed(architecture: Architecture) -> dict[str, list[str]]:
    """Give what each component takes away from the state of a plain ViT."""
    return {
        "qkv_bias": [f"blocks.{i}.attn.qkv.bias" for i in range(BLOCKS)],
        "patch_bias": ["patch_embed.proj.bias"],
        "position": ["pos_embed"] if architecture.components.position == "none" else [],
    }


def claimed_shapes(architecture: Architecture) -> Shapes:
    """Give the state that the named components claim; those not named here have no weights of their own."""
    present = architecture.components.present()
    state = plain_shapes(architecture)
    for component in present:
        state |= added(architecture).get(component, {})
    gone = {name for component in present for name in removed(architecture).get(component, [])}
    return {name: shape for name, shape in state.items() if name not in gone}


@pytest.mark.parametrize("name", NAMES)
def test_kinds_differ_from_plain_in_what_they_name(name: str) -> None:
    """Standard, native, native_min and every single component of a teacher, at full width."""
    teacher = TEACHERS.get(name)
    words: list[str | tuple[str, ...]] = ["standard", "native", "native_min"]
    for word in (*words, *((part,) for part in teacher.native_components)):
        student = student_of(teacher, word)
        assert shapes_of(student) == claimed_shapes(student), word
    assert student_of(teacher, "native") == teacher.architecture
    assert student_of(teacher, "standard").components == Components()
    least = student_of(teacher, "native_min").components.present()
    assert least == tuple(part for part in NAMED_COMPONENTS if part in teacher.native_components)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(ALL), st.sets(st.sampled_from(sorted(Components.model_fields)), max_size=5))
def test_any_set_of_components_is_built_under_any_teacher(teacher: Teacher, names: set[str]) -> None:
    """A chosen set is there and no other part is, also where the teacher has none of it."""
    student = student_of(teacher, tuple(sorted(names)))
    assert set(student.components.present()) == names
    assert shapes_of(student) == claimed_shapes(student)


def reduced(architecture: Architecture) -> Architecture:
    """Keep components, tokens and heads, and make the rest small enough to run."""
    heads = architecture.size.heads
    ratio = architecture.size.mlp_ratio
    return architecture.with_(
        image_size=3 * architecture.patch,
        size=Size(width=4 * heads, depth=BLOCKS, heads=heads, mlp_ratio=ratio),
    )


@pytest.mark.parametrize("name", NAMES)
def test_kinds_run_and_train(name: str) -> None:
    """With the teacher's heads and tokens every kind gives logits, and every parameter a gradient."""
    teacher = TEACHERS.get(name)
    small = reduced(teacher.architecture)
    for word in ("standard", "native", "native_min"):
        student = create_student(resolve_student(entry_of(word), small), 5, teacher.pixels, seed=0)
        features = student(torch.rand(2, small.channels, small.image_size, small.image_size))
        assert features.logits is not None
        features.logits.square().sum().backward()
        assert all(p.grad is not None and bool(torch.isfinite(p.grad).all()) for p in student.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_standard_students_have_the_teachers_tokens_and_heads(name: str) -> None:
    """The token interface is the teacher's by default; what is left out is left out by request."""
    teacher = TEACHERS.get(name).architecture
    standard = resolve_student(entry_of("standard"), teacher)
    for field in ("patch", "grid", "tokens", "prefix", "class_token", "registers"):
        assert getattr(standard, field) == getattr(teacher, field)
    size = standard.size
    assert (size.width, size.depth, size.heads) == (
        teacher.size.width,
        teacher.size.depth,
        teacher.size.heads,
    )
    bare = resolve_student(entry_of("standard", registers="none", class_token="none"), teacher)
    assert bare.tokens == teacher.grid**2


def of_family(family: str, heads: int) -> Teacher:
    """The published teacher of a family with so many heads."""
    return next(
        t for t in ALL if (t.group, t.family, t.architecture.size.heads) == ("published", family, heads)
    )


@pytest.mark.parametrize(
    ("family", "heads", "patch", "tokens", "class_token", "registers"),
    [
        ("deit", 6, 16, 197, True, 0),
        ("mocov3", 12, 16, 197, True, 0),
        ("siglip2", 12, 16, 196, False, 0),
        ("dinov2", 6, 14, 257, True, 0),
        ("dinov2_reg", 6, 14, 261, True, 4),
        ("clip", 16, 14, 257, True, 0),
        ("beitv2", 12, 16, 197, True, 0),
    ],
)
def test_unusual_token_interfaces_are_passed_on(
    family: str, heads: int, patch: int, tokens: int, *, class_token: bool, registers: int
) -> None:
    """Patches of 14 pixels, no class token, registers: the standard student has them as the teacher has."""
    for word in ("standard", "native"):
        student = student_of(of_family(family, heads), word)
        found = (student.patch, student.tokens, student.class_token, student.registers, student.size.heads)
        assert found == (patch, tokens, class_token, registers, heads)


def test_the_small_mocov3_keeps_its_twelve_heads() -> None:
    """Its width is that of six; a student by the size's name has six, and no other shape tells them apart."""
    small = next(t for t in ALL if t.family == "mocov3" and t.architecture.size.width == 384)
    adopted, named = student_of(small, "standard"), student_of(small, "standard@s")
    assert (adopted.size.heads, named.size.heads) == (12, 6)
    assert shapes_of(adopted) == shapes_of(named)


@pytest.mark.parametrize(
    ("family", "heads", "word", "count"),
    [
        ("deit", 6, "native", 21_665_664),
        ("clip", 12, "native", 85_799_424),
        ("clip", 12, "standard", 85_798_656),
        ("dinov2", 6, "native", 21_628_800),
        ("dinov2", 6, "standard", 21_628_800 - 2 * 12 * 384),
        ("dinov2_reg", 12, "native", 85_727_232),
        ("siglip2", 12, "standard", 85_797_120),
        ("beitv2", 12, "native", 85_761_984),
    ],
)
def test_whole_students_have_as_many_parameters_as_published(
    family: str, heads: int, word: str, count: int
) -> None:
    """Counts without a head, read off timm's networks: a part too many or too few shows here."""
    with torch.device("meta"):
        vit = ViT(student_of(of_family(family, heads), word))
    assert sum(parameter.numel() for parameter in vit.parameters()) == count
