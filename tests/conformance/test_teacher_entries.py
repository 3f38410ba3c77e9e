"""What holds of every registered teacher, ours or a stranger's."""

import re

import pytest
import torch

from vitkd_bench.contracts.taps import attention, tokens
from vitkd_bench.networks import build_teacher, create_student, differences, read_architecture
from vitkd_bench.registry import DATASETS, METHODS, RECIPES, TEACHERS
from vitkd_bench.spec import SIZES, Architecture, Components, Teacher, parse_student, resolve_student

every_teacher = pytest.mark.parametrize("teacher", list(TEACHERS), ids=lambda t: t.name)
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
    "qk_norm": (set(), set()),
    "mlp": (set(), set()),
}


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
    assert components.position != "none" or components.relative_position_bias  # some sense of place


@every_teacher
def test_what_is_built_is_what_is_claimed(teacher: Teacher) -> None:
    """The network that the contract names, built whole, has the parts that the contract claims."""
    module = build_teacher(teacher, teacher.architecture)
    assert differences(teacher.architecture, read_architecture(module)) == []
    head = module.get_submodule("head")
    outputs = head.out_features if isinstance(head, torch.nn.Linear) else 0
    assert outputs == (teacher.head.num_classes if teacher.head else 0)


@every_teacher
def test_a_native_student_has_the_parts_that_are_claimed(teacher: Teacher) -> None:
    """It differs from the standard student by the tensors of the named components, and by nothing else."""
    native = small(resolve_student(parse_student("native"), teacher.architecture))
    standard = small(resolve_student(parse_student("standard"), teacher.architecture))
    there, plain = tensors(native, teacher), tensors(standard, teacher)
    added: set[str] = set()
    taken: set[str] = set()
    for name in teacher.native_components:
        more, fewer = PARTS[name]
        value = getattr(native.components, name)
        kept = name == "position" and value == "fixed"
        added |= more
        taken |= set() if kept else fewer
    assert there.keys() - plain.keys() == added
    assert plain.keys() - there.keys() == taken
    changed = {name for name in there.keys() & plain.keys() if there[name] != plain[name]}
    assert changed == ({"pos_embed"} if not native.components.position_on_prefix else set())


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
    """Two micro teachers differ in architecture or in training, two others in their weights' name."""
    made = [(t.architecture, t.training) for t in TEACHERS if t.group == "micro"]
    loaded = [t.source().model for t in TEACHERS if t.group != "micro"]
    assert [pair for i, pair in enumerate(made) if pair in made[:i]] == []
    assert len(set(loaded)) == len(loaded)


def test_every_component_is_accounted_for() -> None:
    """A component added to the description is added to this test's table too."""
    assert PARTS.keys() == set(Components.model_fields)
