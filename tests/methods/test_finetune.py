"""Full fine-tuning: after `fit` the student is the teacher, whatever names and parts the teacher has."""

from functools import partial
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from tests.methods.conftest import MakeCell, MakeMethod, as_teacher, network
from tests.networks.library_names import as_stored
from tests.networks.test_backends import DEPTH, OFFERED, random_state, small
from vitkd_bench.contracts import Batch, CellFacts, Features, taps
from vitkd_bench.methods._from_teacher import fold_layer_scale, in_form_of, start
from vitkd_bench.networks import ViTNetwork, create_student, load_teacher
from vitkd_bench.registry import METHODS, TEACHERS
from vitkd_bench.spec import (
    Architecture,
    Backend,
    ClassInfo,
    Components,
    Head,
    ResolvedDataset,
    resolve_student,
)
from vitkd_bench.spec.student import StudentEntry, parse_student

MICRO = sorted(t.name for t in TEACHERS if t.group == "micro" and not t.name.endswith("_large"))
ONE_A_FAMILY = sorted(
    {(name.partition("/")[0], backend): (name, backend) for name, backend in OFFERED}.values()
)
TOKENS = frozenset({taps.tokens(0), taps.tokens(1), taps.POOLED})


def scattered(architecture: Architecture, digits: ResolvedDataset, classes: int = 10) -> ViTNetwork:
    """A frozen network none of whose parts has its initial value."""
    torch.manual_seed(5)
    made = network(architecture, digits, classes, seed=9)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return as_teacher(made)


def seen(of: ViTNetwork, batch: Batch) -> Features:
    """What a network sees with dropout off."""
    with torch.no_grad():
        return of.eval()(batch.pixels, TOKENS)


def close(one: Features, other: Features) -> bool:
    """Tokens of two blocks agree to 1e-5 of their size."""
    return all(
        bool((one.tokens[i] - other.tokens[i]).abs().max() <= 1e-5 * other.tokens[i].abs().max())
        for i in (0, 1)
    )


@pytest.mark.parametrize("name", MICRO)
def test_a_native_student_starts_as_its_teacher(
    name: str, batch: Batch, make_cell: MakeCell, make_method: MakeMethod, digits: ResolvedDataset
) -> None:
    """Tokens, pooled features and, where the head fits, logits agree to 1e-5; all of it is to be trained."""
    cell = make_cell(name)
    classes = 10 if cell.teacher_classes else 0
    teacher, student = scattered(cell.student, digits, classes), network(cell.student, digits)
    assert not close(seen(student, batch), seen(teacher, batch))
    before = {n: p.clone() for n, p in student.module.named_parameters()}
    method = make_method("finetune", cell)
    method.fit(student, teacher, [])
    ours, theirs = seen(student, batch), seen(teacher, batch)
    assert close(ours, theirs)
    torch.testing.assert_close(ours.pooled, theirs.pooled, atol=1e-5, rtol=1e-5)
    if classes:
        logits = teacher(batch.pixels, frozenset({taps.LOGITS})).logits
        torch.testing.assert_close(ours.logits, logits, atol=1e-5, rtol=1e-5)
    unmoved = [n for n, p in student.module.named_parameters() if torch.equal(p, before[n])]
    assert unmoved == ([] if classes else ["head.weight", "head.bias"])
    assert all(p.requires_grad for p in student.parameters())
    copied, drawn = method.notes()
    assert "blocks.*.attn.qkv" in copied
    assert drawn == f"drawn at random: {'nothing' if classes else 'head'}"


@pytest.mark.parametrize(("name", "backend"), ONE_A_FAMILY)
def test_a_teacher_of_another_library_is_read_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, digits: ResolvedDataset, name: str, backend: Backend
) -> None:
    """A native student has the tokens of a teacher of open_clip or transformers, to 1e-5 of their size."""
    monkeypatch.setattr(timm, "create_model", partial(timm.create_model, depth=DEPTH))  # open_clip's towers
    contract = small(name)
    state = {key: t.contiguous() for key, t in as_stored(contract, backend, random_state(contract)).items()}
    save_file(state, tmp_path / "model.safetensors")
    teacher = load_teacher(contract, contract.architecture, tmp_path, backend)
    student = create_student(contract.architecture, 10, contract.pixels, 0)
    method = METHODS.get("finetune").method
    cell = CellFacts(contract.architecture, digits, contract, contract.architecture)
    method(method.Config(), cell).fit(student, teacher, [])
    side = contract.architecture.image_size
    pixels = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(2))
    whole = Batch(pixels, torch.zeros(2), torch.arange(2))
    assert close(seen(student, whole), seen(teacher, whole))


def test_real_weights_start_a_student(real_data: Path, digits: ResolvedDataset) -> None:
    """A student given DeiT-Ti's weights has its tokens; its head, made for a class token, is drawn."""
    facts = TEACHERS.get("deit/ti")
    file = real_data / "weights" / "deit_tiny_patch16_224.safetensors"
    teacher = load_teacher(facts, facts.architecture, file)
    student = create_student(facts.architecture, 10, facts.pixels, 0)
    method = METHODS.get("finetune").method
    method_of = method(method.Config(), CellFacts(facts.architecture, digits, facts, facts.architecture))
    method_of.fit(student, teacher, [])
    pixels = torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    reads = frozenset({taps.tokens(11)})
    with torch.no_grad():
        torch.testing.assert_close(
            student.eval()(pixels, reads).tokens[11], teacher(pixels, reads).tokens[11], atol=1e-4, rtol=1e-4
        )
    assert method_of.notes()[1] == "drawn at random: head"


def student_of(entry: StudentEntry, teacher: Architecture, digits: ResolvedDataset) -> ViTNetwork:
    """A drawn student of an entry."""
    return network(resolve_student(entry, teacher), digits)


@pytest.mark.parametrize(
    "student", [StudentEntry(name="standard", layer_scale="folded"), parse_student("standard")]
)
def test_folded_layer_scales_keep_the_function(
    student: StudentEntry, batch: Batch, make_cell: MakeCell, make_method: MakeMethod, digits: ResolvedDataset
) -> None:
    """A student without layer scale is the same function with them folded in, another with them dropped."""
    facts = TEACHERS.get("micro/dinov2")
    teacher = scattered(facts.architecture, digits)
    made = student_of(student, facts.architecture, digits)
    cell = make_cell("micro/dinov2", made.architecture)
    folded = student.layer_scale == "folded"
    make_method("finetune", cell, fold_layer_scale=not folded).fit(made, teacher, [])
    assert close(seen(made, batch), seen(teacher, batch))
    if not folded:
        make_method("finetune", cell).fit(made, teacher, [])
        assert not close(seen(made, batch), seen(teacher, batch))


def test_folding_is_exact() -> None:
    """In float64 x + g * (W a + b) is x + (diag(g) W) a + g * b, and no layer scale is left."""
    torch.manual_seed(0)
    weight, bias, gamma, a = (torch.randn(*s, dtype=torch.float64) for s in ((5, 3), (5,), (5,), (3,)))
    names = ("blocks.0.mlp.fc2.weight", "blocks.0.mlp.fc2.bias", "blocks.0.ls2.gamma")
    folded = fold_layer_scale(dict(zip(names, (weight, bias, gamma), strict=True)))
    torch.testing.assert_close(
        folded[names[0]] @ a + folded[names[1]], gamma * (weight @ a + bias), atol=1e-15, rtol=1e-14
    )
    assert set(folded) == set(names[:2])


FORMS = [
    pytest.param({"qkv_bias": "qv"}, {}, id="biases-joined"),
    pytest.param({"qkv_bias": "none"}, {}, id="biases-zero"),
    pytest.param({}, {"qkv_bias": "qv"}, id="key-bias-dropped"),
    pytest.param({"patch_bias": False}, {}, id="patch-bias-zero"),
    pytest.param({"position_on_prefix": False}, {}, id="prefix-without-positions"),
    pytest.param({}, {"position_on_prefix": False}, id="positions-into-tokens"),
]


@pytest.mark.parametrize(("theirs", "ours"), FORMS)
def test_what_has_another_form_keeps_the_function(
    theirs: dict[str, object], ours: dict[str, object], batch: Batch, digits: ResolvedDataset
) -> None:
    """Biases and positions are brought into the student's form: its tokens stay the teacher's."""
    base = TEACHERS.get("micro/dinov2_reg").architecture
    of_teacher, of_student = (base.with_(components=Components.model_validate(c)) for c in (theirs, ours))
    teacher, student = scattered(of_teacher, digits), network(of_student, digits)
    start(student, in_form_of(teacher.weights(), of_student, of_teacher), lambda _: True)
    assert close(seen(student, batch), seen(teacher, batch))


def test_tokens_that_the_student_lacks_are_left_out(digits: ResolvedDataset) -> None:
    """Without class token and registers the patches keep their positions; nothing else is asked."""
    base = TEACHERS.get("micro/dinov2_reg").architecture.with_(components=Components())
    bare = base.with_(class_token=False, registers=0)
    teacher, student = scattered(base, digits), network(bare, digits)
    started = start(student, in_form_of(teacher.weights(), bare, base), lambda _: True)
    assert started.drawn == ()
    expected = teacher.module.get_parameter("pos_embed")[:, base.prefix :]
    assert torch.equal(student.module.get_parameter("pos_embed"), expected)


def test_of_a_larger_head_the_rows_of_the_classes_are_taken(
    make_cell: MakeCell, make_method: MakeMethod, digits: ResolvedDataset
) -> None:
    """The head's rows are the data set's classes in order; unasked, or of unknown classes, it is drawn."""
    indices = [39, 3, 20, 7, 11, 0, 30, 31, 5, 22]
    forty = Head(kind="labels", label_space="forty", num_classes=40)
    classes = tuple(ClassInfo(name=f"c{i}", indices={"forty": n}) for i, n in enumerate(indices))
    facts = TEACHERS.get("micro/deit").model_copy(update={"head": forty})
    cell = make_cell(facts, "native", digits.model_copy(update={"classes": classes}))
    teacher = scattered(cell.student, digits, 40)
    student = network(cell.student, digits)
    drawn = student.module.get_parameter("head.weight").clone()
    for other in (make_cell(facts), cell):
        make_method("finetune", other, head=other is not cell).fit(student, teacher, [])
        assert torch.equal(student.module.get_parameter("head.weight"), drawn)
    make_method("finetune", cell).fit(student, teacher, [])
    found = student.module.get_parameter("head.weight")
    assert torch.equal(found, teacher.module.get_parameter("head.weight")[indices])
    assert torch.equal(
        student.module.get_parameter("head.bias"), teacher.module.get_parameter("head.bias")[indices]
    )


def test_the_teacher_is_read_once_and_not_changed(
    batch: Batch, make_cell: MakeCell, make_method: MakeMethod, digits: ResolvedDataset
) -> None:
    """No taps, nothing injected, no memory shared with the teacher, and the loss is the baseline's."""
    cell = make_cell("micro/beitv2", "standard")
    teacher, student = (
        scattered(TEACHERS.get("micro/beitv2").architecture, digits, 0),
        network(cell.student, digits),
    )
    kept = {name: tensor.clone() for name, tensor in teacher.module.state_dict().items()}
    method = make_method("finetune", cell)
    method.fit(student, teacher, [])
    assert not method.teacher_taps() | method.student_taps()
    assert method.injects() == ()
    parts = method.step(student.train(), None, batch)
    assert parts.keys() == {"labels"}
    assert torch.equal(parts["labels"], make_method("none", cell).step(student, None, batch)["labels"])
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(1.0)
    assert all(torch.equal(tensor, kept[name]) for name, tensor in teacher.module.state_dict().items())


def test_another_size_is_refused(make_cell: MakeCell) -> None:
    """A student of another width, depth or grid cannot take the teacher's weights."""
    entry = METHODS.get("finetune")
    teacher = TEACHERS.get("micro/deit").architecture
    for student, because in (
        (resolve_student(parse_student("standard@micro_small"), teacher), "widths differ: student 32"),
        (teacher.with_(size=teacher.size.model_copy(update={"depth": 3})), "depths differ: student 3"),
        (teacher.with_(patch=4), "grids of patches differ"),
    ):
        assert because in str(entry.refuses(entry.method.Config(), make_cell("micro/deit", student)))
    assert entry.refuses(entry.method.Config(), make_cell("micro/beitv2", "standard")) is None
