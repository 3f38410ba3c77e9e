import copy
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch

from tests.methods.conftest import MakeCell, MakeMethod, as_teacher, layer_scaled, network, query_key_rows
from vitkd_bench.contracts import Batch, CellFacts, Features, Method
from vitkd_bench.networks import ViTNetwork
from vitkd_bench.plan import MAKERS, probed
from vitkd_bench.registry import METHODS, TEACHERS
from vitkd_bench.spec import SIZES, BadInputError, ClassInfo, Head, ResolvedDataset

DISTILLATION = sorted(entry.name for entry in METHODS if entry.kind not in MAKERS)


def read(method: Method, teacher: ViTNetwork, batch: Batch) -> Features | None:
    """Read of the teacher what the method names, as the engine does."""
    taps = method.teacher_taps()
    return teacher(batch.pixels, taps) if taps else None


def losses(method: Method, student: ViTNetwork, teacher: ViTNetwork, batch: Batch) -> dict[str, torch.Tensor]:
    """Take the first half of a step: meet the peers, fit, read, loss."""
    student.train()
    if method.peers():
        method.meet([copy.deepcopy(student) for _ in range(method.peers())])
    method.fit(student, teacher, [batch])
    return dict(method.step(student, read(method, teacher, batch), batch))


@pytest.mark.parametrize("family", ["deit", "clip", "dinov2_reg", "siglip2", "beitv2"])
@pytest.mark.parametrize("name", DISTILLATION)
def test_one_step_trains_the_student_alone(
    name: str,
    family: str,
    batch: Batch,
    make_cell: MakeCell,
    make_method: MakeMethod,
    digits: ResolvedDataset,
) -> None:
    """On a micro pair of any token layout losses are finite, the student gets gradients, the teacher none."""
    cell = make_cell(f"micro/{family}", "standard")
    if (why := METHODS.get(name).refuses(METHODS.get(name).method.Config(), cell)) is not None:
        assert "logits" in METHODS.get(name).needs
        assert "no classification head" in why
        return
    architecture = cell.teacher_architecture
    assert architecture is not None
    assert cell.teacher is not None
    if METHODS.get(name).method.teacher_run(METHODS.get(name).method.Config(), cell):
        # its teacher is a network that another run makes for these classes
        cell = replace(cell, teacher=probed(cell.teacher, cell.dataset))
    teacher = as_teacher(network(architecture, digits, seed=5))
    student = network(cell.student, digits)
    parts = losses(make_method(name, cell), student, teacher, batch)
    assert all(part.ndim == 0 and torch.isfinite(part) for part in parts.values())
    torch.stack(list(parts.values())).sum().backward()
    assert all(p.grad is None for p in teacher.parameters())
    assert student.module.get_parameter("patch_embed.proj.weight").grad is not None
    assert all(torch.isfinite(p.grad).all() for p in student.parameters() if p.grad is not None)


def test_no_transfer_is_cross_entropy_with_the_recipes_smoothing(
    batch: Batch, make_cell: MakeCell, make_method: MakeMethod, digits: ResolvedDataset
) -> None:
    """The baseline's loss is the smoothed cross-entropy of its logits and nothing else."""
    student = network(make_cell(None).student, digits)
    parts = make_method("none", make_cell(None)).step(student, None, batch)
    logits = student(batch.pixels).logits
    assert logits is not None
    assert batch.label_smoothing == 0.1
    expected = torch.nn.functional.cross_entropy(logits, batch.labels, label_smoothing=0.1)
    assert {k: v.item() for k, v in parts.items()} == {"labels": pytest.approx(expected.item())}


def test_copy_into_equal_weights_changes_nothing(
    batch: Batch, make_cell: MakeCell, make_method: MakeMethod, digits: ResolvedDataset
) -> None:
    """A student with its teacher's weights gives the teacher's logits under copy, whatever its parts."""
    for family in ("deit", "beitv2", "clip"):
        cell = make_cell(f"micro/{family}", "native")
        student = network(cell.student, digits)
        teacher = as_teacher(student)
        method = make_method("attn_copy", cell)
        found = read(method, teacher, batch)
        assert found is not None
        inject = {i: found.attention[i] for i in method.injects()}
        copied = student.eval()(batch.pixels, frozenset(), inject).logits
        own = teacher(batch.pixels, frozenset({"logits"})).logits
        assert copied is not None
        torch.testing.assert_close(copied, own, atol=1e-5, rtol=1e-5)


def test_copy_uses_the_teacher_in_the_named_blocks_alone(
    batch: Batch, make_cell: MakeCell, make_method: MakeMethod, digits: ResolvedDataset
) -> None:
    """Queries and keys of copied blocks have gradient exactly zero, values and other blocks have not."""
    cell = make_cell("micro/deit")
    student = network(cell.student, digits)
    teacher = as_teacher(network(cell.student, digits, seed=9))
    method = make_method("attn_copy", cell, layers="last:2")
    torch.stack(list(losses(method, student, teacher, batch).values())).sum().backward()
    width = cell.student.size.width
    for i, block in enumerate(student.blocks):
        gradient = block.get_parameter("attn.qkv.weight").grad
        assert gradient is not None
        assert (gradient[: 2 * width].abs().max() == 0) == (i >= 2)
        assert gradient[2 * width :].abs().max() > 0


def test_copy_holds_unused_rows_against_decay(
    batch: Batch, make_cell: MakeCell, make_method: MakeMethod, digits: ResolvedDataset
) -> None:
    """After a decayed step the rows that copy leaves unused are to the bit as they were; values moved."""
    cell = make_cell("micro/deit")
    student = network(cell.student, digits)
    teacher = as_teacher(network(cell.student, digits, seed=9))
    method = make_method("attn_copy", cell, layers=[1, 3])
    before = [query_key_rows(block).clone() for block in student.blocks]
    values = student.blocks[1].get_parameter("attn.qkv.weight").detach().clone()
    optimiser = torch.optim.AdamW(student.parameters(), lr=0.01, weight_decay=0.5)
    torch.stack(list(losses(method, student, teacher, batch).values())).sum().backward()
    optimiser.step()
    method.after_step(student, 0.5)
    after = [query_key_rows(block) for block in student.blocks]
    assert [torch.equal(a, b) for a, b in zip(before, after, strict=True)] == [False, True, False, True]
    assert not torch.equal(values, student.blocks[1].get_parameter("attn.qkv.weight").detach())


def test_distillation_pulls_the_named_maps_alone(
    batch: Batch, make_cell: MakeCell, make_method: MakeMethod, digits: ResolvedDataset
) -> None:
    """The maps' loss reaches queries and keys up to the named block and no parameter behind it."""
    cell = make_cell("micro/deit")
    student = network(cell.student, digits)
    teacher = as_teacher(network(cell.student, digits, seed=9))
    parts = losses(make_method("attn_distill", cell, layers=[1], weight=2.0), student, teacher, batch)
    parts["attention"].backward()
    touched = [block.get_parameter("attn.qkv.weight").grad is not None for block in student.blocks]
    assert touched == [True, True, False, False]


def test_distillation_weight_and_form(
    batch: Batch, make_cell: MakeCell, make_method: MakeMethod, digits: ResolvedDataset
) -> None:
    """The weight multiplies the sum over blocks; with itself as teacher KL is zero."""
    cell = make_cell("micro/deit")
    student = network(cell.student, digits)
    teacher = as_teacher(student)
    found = {
        (weight, loss): losses(
            make_method("attn_distill", cell, weight=weight, loss=loss), student, teacher, batch
        )
        for weight in (0.5, 1.0)
        for loss in ("ce", "kl")
    }
    assert found[1.0, "kl"]["attention"].item() == pytest.approx(0, abs=1e-5)
    assert found[0.5, "ce"]["attention"].item() == pytest.approx(found[1.0, "ce"]["attention"].item() / 2)
    assert found[1.0, "ce"]["attention"].item() > 1


def many_classes(cell: CellFacts, make_cell: MakeCell, indices: Sequence[int | None]) -> CellFacts:
    """Let the teacher have a head of 40 classes and the data set indices into it."""
    teacher = TEACHERS.get("micro/deit").model_copy(
        update={"head": Head(kind="labels", label_space="forty", num_classes=40)}
    )
    classes = tuple(
        ClassInfo(name=f"c{i}", indices={} if index is None else {"forty": index})
        for i, index in enumerate(indices)
    )
    return make_cell(teacher, "native", cell.dataset.model_copy(update={"classes": classes}))


def test_kd_reads_the_cells_classes_alone(
    batch: Batch, make_cell: MakeCell, make_method: MakeMethod, digits: ResolvedDataset
) -> None:
    """Logits of classes that the data set lacks play no part; those of its classes do, in its order."""
    indices = [39, 3, 20, 7, 11, 0, 30, 31, 5, 22]
    cell = many_classes(make_cell(), make_cell, indices)
    method = make_method("kd", cell, alpha=1.0, temperature=2.0)
    student = network(cell.student, digits)
    logits = torch.randn(len(batch.labels), 40)
    own = student(batch.pixels)
    assert own.logits is not None
    plain = method.loss(own, Features(logits=logits), batch)["kd"]
    elsewhere = logits.clone()
    elsewhere[:, [i for i in range(40) if i not in indices]] += 100
    assert torch.equal(method.loss(own, Features(logits=elsewhere), batch)["kd"], plain)
    exact = torch.full((len(batch.labels), 40), 50.0)
    exact[:, indices] = own.logits.detach()
    assert method.loss(own, Features(logits=exact), batch)["kd"].item() == pytest.approx(0, abs=1e-5)


def test_kd_shares_out_by_alpha(
    batch: Batch, make_cell: MakeCell, make_method: MakeMethod, digits: ResolvedDataset
) -> None:
    """At alpha 0 it is the baseline, at 1 labels play no part."""
    cell = make_cell()
    student, teacher = network(cell.student, digits), as_teacher(network(cell.student, digits, seed=3))
    none = losses(make_method("none", cell), student, teacher, batch)["labels"]
    bare = losses(make_method("kd", cell, alpha=0.0), student, teacher, batch)
    full = losses(make_method("kd", cell, alpha=1.0), student, teacher, batch)
    assert bare["labels"].item() == pytest.approx(none.item())
    assert bare["kd"].item() == 0.0
    assert full["labels"].item() == 0.0
    assert full["kd"].item() > 0


def refusal(name: str, cell: CellFacts, **settings: object) -> str:
    """Ask a method whether it refuses a cell; it must, in one sentence."""
    entry = METHODS.get(name)
    why = entry.refuses(entry.method.Config.parse(settings, "test"), cell)
    assert why is not None
    assert "\n" not in why
    return why


@pytest.mark.parametrize("name", ["attn_copy", "attn_distill"])
def test_maps_that_do_not_meet_are_refused(name: str, make_cell: MakeCell) -> None:
    """Heads, depth, tokens, layout or blocks that differ are refused, each with its numbers."""
    teacher = TEACHERS.get("micro/deit").architecture
    sized = SIZES["micro"].model_copy
    for student, because in (
        (teacher.with_(size=sized(update={"heads": 4})), "heads differ: student 4, teacher micro/deit 3"),
        (teacher.with_(size=sized(update={"depth": 3})), "depth differ: student 3, teacher micro/deit 4"),
        (teacher.with_(registers=1), "tokens differ: student 18, teacher micro/deit 17"),
        (
            teacher.with_(class_token=False, registers=1),
            "token layout differ: student no class token, 1 registers",
        ),
    ):
        assert because in refusal(name, make_cell("micro/deit", student))
    same = make_cell("micro/deit", teacher.with_(components=layer_scaled()))
    assert METHODS.get(name).method.refuses(METHODS.get(name).method.Config(), same) is None
    assert "layers last:5 reach beyond the network's 4 blocks" in refusal(name, same, layers="last:5")
    assert "layers [4] reach beyond" in refusal(name, same, layers=[4])
    assert refusal(name, make_cell(None)) == "attention transfer needs a teacher"


def test_kd_without_a_fitting_head_is_refused(make_cell: MakeCell) -> None:
    """No teacher, no head, a class unknown to the head, or two classes on one logit."""
    assert refusal("kd", make_cell(None)) == "kd needs a teacher"
    assert "teacher micro/mae has no classification head" in refusal("kd", make_cell("micro/mae"))
    for indices in ([0, 1, None], [0, 1, 1], [0, 1, 40]):
        assert "head of micro/deit (forty) lacks" in refusal(
            "kd", many_classes(make_cell(), make_cell, indices)
        )
    known = many_classes(make_cell(), make_cell, [2, 1, 39])
    assert METHODS.get("kd").refuses(METHODS.get("kd").method.Config(), known) is None


def test_an_absent_block_is_no_silent_subset(make_cell: MakeCell, make_method: MakeMethod) -> None:
    """A method made in spite of a refusal fails at the first question and copies no smaller set of blocks."""
    with pytest.raises(BadInputError, match="beyond the network's 4 blocks"):
        make_method("attn_copy", make_cell(), layers="first:9").injects()
