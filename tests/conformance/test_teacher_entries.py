"""What holds of every registered teacher, ours or a stranger's."""

import re

import open_clip
import pytest
import torch
from timm.models import get_pretrained_cfg
from torch import nn

from vitkd_bench.contracts.taps import attention, tokens
from vitkd_bench.networks import ViT, build_teacher, create_student, differences, read_architecture
from vitkd_bench.networks.unfilled import unfilled_parameters
from vitkd_bench.registry import DATASETS, METHODS, RECIPES, TEACHERS
from vitkd_bench.spec import (
    SIZES,
    Architecture,
    Components,
    Teacher,
    WeightSource,
    parse_student,
    resolve_student,
)

EVERY = list(TEACHERS)  # before other tests add teachers of their own
every_teacher = pytest.mark.parametrize("teacher", EVERY, ids=lambda t: t.name)
every_source = pytest.mark.parametrize(
    ("teacher", "source"),
    [(t, s) for t in TEACHERS for s in t.sources],
    ids=lambda value: value.name if isinstance(value, Teacher) else value.backend,
)
every_released = pytest.mark.parametrize(
    "teacher", [t for t in TEACHERS if t.group != "micro"], ids=lambda t: t.name
)
every_micro = pytest.mark.parametrize(
    "teacher", [t for t in TEACHERS if t.group == "micro"], ids=lambda t: t.name
)

PARTS = {  # names of tensors that a component adds to a plain ViT and takes from it, `*` for each block
    "layer_scale": ({"blocks.*.ls1.gamma", "blocks.*.ls2.gamma"}, set()),
    "norm_pre": ({"norm_pre.weight", "norm_pre.bias"}, set()),
    "relative_position_bias": ({"blocks.*.attn.relative_position_bias_table"}, set()),
    "position": (set(), {"pos_embed"}),
    "qkv_bias": ({"blocks.*.attn.q_bias", "blocks.*.attn.v_bias"}, {"blocks.*.attn.qkv.bias"}),
    "patch_bias": (set(), {"patch_embed.proj.bias"}),
    "position_on_prefix": (set(), set()),
    "activation": (set(), set()),
    "norm_eps": (set(), set()),
    "rope": (set(), set()),
    "qk_norm": ({f"blocks.*.attn.{n}_norm.{leaf}" for n in "qk" for leaf in ("weight", "bias")}, set()),
    "mlp": (set(), set()),  # the gate stands in fc1, which is wider
}
WITHOUT_QKV_BIAS: tuple[set[str], set[str]] = (set(), {"blocks.*.attn.qkv.bias"})
GATED = {"blocks.*.mlp.fc1.weight", "blocks.*.mlp.fc1.bias"}


def small(architecture: Architecture) -> Architecture:
    """The same network in a size that a test can run: four patches a side, three narrow blocks."""
    return architecture.with_(size=SIZES["micro_small"], image_size=4 * architecture.patch)


def tensors(architecture: Architecture, teacher: Teacher) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a student's state, blocks folded into one."""
    student = create_student(architecture, 0, teacher.pixels, seed=0)
    state = student.module.state_dict()
    return {re.sub(r"blocks\.\d+", "blocks.*", name): tuple(t.shape) for name, t in state.items()}


@every_teacher
def test_facts_are_told(teacher: Teacher) -> None:
    """Name, family, paper, licence and objective are there; the name is its group's or its family's."""
    assert teacher.name.partition("/")[0] == ("micro" if teacher.group == "micro" else teacher.family)
    assert all((teacher.title, teacher.paper, teacher.licence, teacher.objective, teacher.seen))
    assert re.fullmatch(r"arXiv:\d{4}\.\d{5}|doi:.+|https?://.+", teacher.paper)


@every_teacher
def test_the_contract_holds_together(teacher: Teacher) -> None:
    """Pixels fit the channels; weights come from a training or, by a backend that has them, from outside."""
    channels = teacher.architecture.channels
    assert len(teacher.pixels.mean) == len(teacher.pixels.std) == channels
    assert all(deviation > 0 for deviation in teacher.pixels.std)
    assert (teacher.training is not None) == (teacher.group == "micro")
    assert (teacher.training is None) == bool(teacher.sources)
    components = teacher.architecture.components
    relative = components.relative_position_bias or components.rope != "none"
    assert components.position != "none" or relative  # some sense of place


def parameters(module: nn.Module, classes: int) -> int:
    """Count the parameters without those of a head of labels."""
    heads = ("head.", "classifier.") if classes else ()
    return sum(p.numel() for name, p in module.named_parameters() if not name.startswith(heads))


@every_source
def test_what_is_built_is_what_is_claimed(teacher: Teacher, source: WeightSource) -> None:
    """The network that each source names, whole, has the parts, the head and the size that are claimed."""
    module = build_teacher(teacher, teacher.architecture, source.backend, unfilled=True)
    assert differences(teacher.architecture, read_architecture(module)) == []
    if source == teacher.source():
        assert parameters(module, teacher.head.num_classes if teacher.head else 0) == teacher.parameters


@every_source
def test_timm_and_open_clip_say_the_same_of_their_weights(teacher: Teacher, source: WeightSource) -> None:
    """Pixels, size, labels and the place of the weights are those that the libraries have on record."""
    if source.backend == "timm":
        config = get_pretrained_cfg(source.model, allow_unregistered=False)
        assert (config.mean, config.std) == (teacher.pixels.mean, teacher.pixels.std)
        assert config.input_size[1] == (teacher.native_size or teacher.architecture.image_size)
        assert source.location in {None, f"hf://{config.hf_hub_id}/model.safetensors"}
        assert teacher.head is None or config.num_classes == teacher.head.num_classes
    if source.backend == "open_clip":
        name, _, tag = (teacher.text_encoder or "").removeprefix("open_clip:").partition("/")
        record = open_clip.pretrained.get_pretrained_cfg(name, tag)
        assert name == source.model
        assert source.location == f"hf://{record['hf_hub'].rstrip('/')}/open_clip_model.safetensors"
        assert (record["mean"], record["std"]) == (teacher.pixels.mean, teacher.pixels.std)


def inner_tensors(module: nn.Module) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a network as ours calls them, blocks folded, without pooling and head."""
    found = {}
    for name, tensor in module.state_dict().items():
        ours = re.sub(r"\.gamma_([12])$", r".ls\1.gamma", re.sub(r"^norm\.", "fc_norm.", name))
        if not ours.startswith(("head.", "attn_pool.")):
            found[re.sub(r"blocks\.\d+", "blocks.*", ours)] = tuple(tensor.shape)
    return found


@every_released
def test_a_native_student_has_the_teachers_tensors(teacher: Teacher) -> None:
    """Ours of the contract's architecture has the names and shapes of the network that timm builds."""
    with unfilled_parameters():
        native = ViT(resolve_student(parse_student("native"), teacher.architecture))
    assert inner_tensors(native) == inner_tensors(build_teacher(teacher, teacher.architecture, unfilled=True))


@every_teacher
def test_a_native_student_has_the_parts_that_are_claimed(teacher: Teacher) -> None:
    """It differs from the standard student by the tensors of the named components, and by nothing else."""
    native = small(resolve_student(parse_student("native"), teacher.architecture))
    standard = small(resolve_student(parse_student("standard"), teacher.architecture))
    there, plain = tensors(native, teacher), tensors(standard, teacher)
    added: set[str] = set()
    taken: set[str] = set()
    for name in teacher.native_components:
        value = getattr(native.components, name)
        more, fewer = WITHOUT_QKV_BIAS if (name, value) == ("qkv_bias", "none") else PARTS[name]
        kept = name == "position" and value == "fixed"
        added |= more
        taken |= set() if kept else fewer
    assert there.keys() - plain.keys() == added
    assert plain.keys() - there.keys() == taken
    changed = {name for name in there.keys() & plain.keys() if there[name] != plain[name]}
    expected = {"pos_embed"} if not native.components.position_on_prefix else set()
    assert changed == expected | (GATED if "mlp" in teacher.native_components else set())


@every_teacher
def test_its_students_run(teacher: Teacher) -> None:
    """Standard and native students give logits and taps of the teacher's token interface."""
    for kind in ("standard", "native", "native_min"):
        architecture = small(resolve_student(parse_student(kind), teacher.architecture))
        student = create_student(architecture, 3, teacher.pixels, seed=0)
        side = architecture.image_size
        taps = frozenset({attention(2), tokens(2)})
        features = student(torch.rand(2, architecture.channels, side, side), taps)
        assert features.logits is not None
        assert features.logits.shape == (2, 3)
        assert features.attention[2].q.shape[2] == architecture.tokens == 16 + teacher.architecture.prefix
        assert features.tokens[2].shape == (2, architecture.tokens, 32)


@every_micro
def test_a_micro_teacher_can_be_made(teacher: Teacher) -> None:
    """Its method, recipe and data set are registered, of the right kind, and fit its network."""
    training = teacher.training
    assert training is not None
    assert METHODS.get(training.method).kind == "pretraining"
    assert METHODS.get(training.method).reads_teacher == (training.teacher is not None)
    RECIPES.get(training.recipe)
    facts = DATASETS.get(training.dataset).facts
    assert teacher.pixels == facts.pixels  # the run that makes it normalises as its data set says
    assert teacher.architecture.channels == facts.channels
    assert teacher.architecture.image_size == facts.image_size
    if teacher.head:
        assert facts.classes is not None
        assert teacher.head.num_classes == len(facts.classes)
        assert teacher.head.label_space == facts.label_space


@every_micro
def test_no_micro_teacher_waits_for_itself(teacher: Teacher) -> None:
    """The teachers that objectives read are registered, and following them comes to an end."""
    seen = [teacher.name]
    training = teacher.training
    while training is not None and training.teacher is not None:
        assert training.teacher not in seen
        seen.append(training.teacher)
        training = TEACHERS.get(training.teacher).training


def test_no_two_teachers_are_the_same() -> None:
    """Two micro teachers differ in architecture or in training, two others in where their weights are."""
    made = [(t.architecture, t.training) for t in EVERY if t.group == "micro"]
    loaded = [t.source().location for t in EVERY if t.group != "micro"]
    assert [pair for i, pair in enumerate(made) if pair in made[:i]] == []
    assert len(set(loaded)) == len(loaded)


def test_every_component_is_accounted_for() -> None:
    """A component added to the description is added to this test's table too."""
    assert PARTS.keys() == set(Components.model_fields)
