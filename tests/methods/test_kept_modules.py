"""The component diagnosis: which parts are the teacher's, on which host, and what follows."""

from typing import Any

import pytest
import torch

from tests.methods.conftest import MakeCell, MakeMethod, as_teacher, network, query_key_rows
from vitkd_bench.contracts import Batch, CellFacts, Features, Method
from vitkd_bench.networks import ViTNetwork
from vitkd_bench.registry import METHODS, TEACHERS
from vitkd_bench.spec import Components, ResolvedDataset

REST = {"patch_embed.proj.weight", "patch_embed.proj.bias", "cls_token", "fc_norm.weight", "fc_norm.bias"}
ATTENTION = {
    "linear": {"attn.qkv.weight", "attn.q_bias", "attn.v_bias", "attn.proj.weight", "attn.proj.bias"},
    "norm": {"norm1.weight", "norm1.bias"},
    "all": {"ls1.gamma", "attn.relative_position_bias_table"},
}
MLP = {
    "linear": {"mlp.fc1.weight", "mlp.fc1.bias", "mlp.fc2.weight", "mlp.fc2.bias"},
    "norm": {"norm2.weight", "norm2.bias"},
    "all": {"ls2.gamma"},
}
KEPT = {"keep_attention": ATTENTION, "keep_mlp": MLP}
BEITV2 = "micro/beitv2"  # layer scale, relative tables, biases of query and value: every kind of part


def scattered(of: CellFacts, digits: ResolvedDataset) -> ViTNetwork:
    """A teacher of the cell's own, none of whose parts has its initial value."""
    assert of.teacher_architecture is not None
    torch.manual_seed(5)
    made = network(of.teacher_architecture, digits, 10, seed=9)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return as_teacher(made)


def moved(method: Method, student: ViTNetwork, teacher: ViTNetwork) -> set[str]:
    """Names of the parameters that `fit` changed, each to what the teacher has."""
    before = {n: p.clone() for n, p in student.module.named_parameters()}
    method.fit(student, teacher, [])
    after = dict(student.module.named_parameters())
    names = {n for n, p in after.items() if not torch.equal(p, before[n])}
    for name in names:
        assert torch.equal(after[name], teacher.module.get_parameter(name))
    return names


@pytest.mark.parametrize("name", KEPT)
@pytest.mark.parametrize("extent", ["linear", "norm", "all"])
@pytest.mark.parametrize("rest", ["keep", "redraw"])
def test_what_is_kept_is_named_by_module_extent_and_rest(
    name: str, extent: str, rest: str, make_cell: MakeCell, make_method: MakeMethod, digits: ResolvedDataset
) -> None:
    """On the teacher's own architecture the named parts are the teacher's and no other one is."""
    cell = make_cell(BEITV2)
    student = network(cell.student, digits)
    method = make_method(name, cell, extent=extent, rest=rest)
    extents = ["linear", "norm", "all"]
    parts = set().union(*(KEPT[name][e] for e in extents[: extents.index(extent) + 1]))
    blocks = {f"blocks.{i}.{part}" for i in range(4) for part in parts}
    assert moved(method, student, scattered(cell, digits)) == blocks | (REST if rest == "keep" else set())
    assert ("cls_token" in method.notes()[0]) == (rest == "keep")
    assert "head" in method.notes()[1]


@pytest.mark.parametrize("name", KEPT)
def test_the_two_methods_share_nothing_in_the_blocks(
    name: str, make_cell: MakeCell, make_method: MakeMethod, digits: ResolvedDataset
) -> None:
    """With all of both modules a block is the teacher's whole: attention and MLP exclude each other."""
    cell = make_cell(BEITV2)
    other = next(n for n in KEPT if n != name)
    student, teacher = network(cell.student, digits), scattered(cell, digits)
    one = moved(make_method(name, cell, extent="all", rest="redraw"), student, teacher)
    two = moved(make_method(other, cell, extent="all", rest="redraw"), student, teacher)
    assert not one & two
    assert one | two == {n for n, _ in student.module.named_parameters() if n.startswith("blocks.")}


@pytest.mark.parametrize(("name", "layer"), [("keep_attention", "attn.proj"), ("keep_mlp", "mlp.fc2")])
@pytest.mark.parametrize("scale", ["dropped", "folded"])
def test_a_standard_host_drops_or_folds_layer_scale(
    name: str, layer: str, scale: str, make_cell: MakeCell, make_method: MakeMethod, digits: ResolvedDataset
) -> None:
    """The last layer of the kept branch has the teacher's values, times its layer scale if that is asked."""
    cell = make_cell("micro/dinov2", "standard")
    student, teacher = network(cell.student, digits), scattered(cell, digits)
    make_method(name, cell, fold_layer_scale=scale == "folded").fit(student, teacher, [])
    branch = "ls1" if layer == "attn.proj" else "ls2"
    for i in range(4):
        theirs = teacher.module.get_parameter(f"blocks.{i}.{layer}.weight")
        gamma = teacher.module.get_parameter(f"blocks.{i}.{branch}.gamma")
        expected = torch.einsum("o,oi->oi", gamma, theirs) if scale == "folded" else theirs
        assert torch.equal(student.module.get_parameter(f"blocks.{i}.{layer}.weight"), expected)


def test_a_standard_host_keeps_beits_biases(
    make_cell: MakeCell, make_method: MakeMethod, digits: ResolvedDataset
) -> None:
    """Query and value biases go into the packed one, whose key third is zero, as the teacher computes it."""
    cell = make_cell(BEITV2, "standard")
    student, teacher = network(cell.student, digits), scattered(cell, digits)
    make_method("keep_attention", cell).fit(student, teacher, [])
    query, key, value = student.module.get_parameter("blocks.2.attn.qkv.bias").chunk(3)
    assert torch.equal(query, teacher.module.get_parameter("blocks.2.attn.q_bias"))
    assert torch.equal(key, torch.zeros_like(key))
    assert torch.equal(value, teacher.module.get_parameter("blocks.2.attn.v_bias"))


def first_loss(method: Method, student: ViTNetwork, teacher: ViTNetwork, batch: Batch) -> dict[str, Any]:
    """The parts of the loss of the first step, the teacher read as the engine does."""
    method.fit(student, teacher, [batch])
    asked = method.teacher_taps()
    read: Features | None = teacher(batch.pixels, asked) if asked else None
    return dict(method.step(student.train(), read, batch))


@pytest.mark.parametrize("name", KEPT)
def test_a_transfer_may_follow(
    name: str, batch: Batch, make_cell: MakeCell, make_method: MakeMethod, digits: ResolvedDataset
) -> None:
    """Labels alone, copied maps or distilled maps: each is what the method of that name does from here."""
    cell = make_cell("micro/dinov2", "standard")
    teacher = scattered(cell, digits)
    for transfer, settings in (("none", {}), ("attn_copy", {}), ("attn_distill", {"weight": 0.5})):
        student, twin = network(cell.student, digits), network(cell.student, digits)
        method = make_method(name, cell, transfer=transfer, **settings)
        found = first_loss(method, student, teacher, batch)
        make_method(name, cell).fit(twin, teacher, [])
        expected = first_loss(make_method(transfer, cell, **settings), twin, teacher, batch)
        assert found.keys() == expected.keys()
        for part, value in expected.items():
            assert torch.equal(found[part], value)
        assert bool(method.teacher_taps()) == (transfer != "none")


def test_copied_maps_hold_the_rows_that_the_student_starts_with(
    batch: Batch, make_cell: MakeCell, make_method: MakeMethod, digits: ResolvedDataset
) -> None:
    """Under copied attention the unused query and key rows stay the teacher's, which were copied before."""
    cell = make_cell("micro/deit")
    student, teacher = network(cell.student, digits), scattered(cell, digits)
    method = make_method("keep_attention", cell, transfer="attn_copy")
    optimiser = torch.optim.AdamW(student.parameters(), lr=0.01, weight_decay=0.5)
    torch.stack(list(first_loss(method, student, teacher, batch).values())).sum().backward()
    optimiser.step()
    method.after_step(student, 0.5)
    assert torch.equal(query_key_rows(student.blocks[1]), query_key_rows(teacher.blocks[1]))
    assert "unused and frozen" in method.notes()[2]


@pytest.mark.parametrize("name", KEPT)
def test_the_teacher_is_needed_at_test_for_copied_maps_alone(name: str) -> None:
    """The fact that a report shows follows the setting."""
    entry = METHODS.get(name)
    found = {
        transfer: entry.teacher_at_test(entry.method.Config.parse({"transfer": transfer}))
        for transfer in ("none", "attn_copy", "attn_distill")
    }
    assert found == {"none": False, "attn_copy": True, "attn_distill": False}
    copy = METHODS.get("attn_copy")
    assert copy.teacher_at_test(copy.method.Config())


def test_hosts_that_cannot_take_the_module_are_refused(make_cell: MakeCell) -> None:
    """Another width; for attention other heads; for MLPs another form; for a transfer maps that differ."""
    teacher = TEACHERS.get("micro/deit").architecture
    heads = teacher.with_(size=teacher.size.model_copy(update={"heads": 4}))
    wider = teacher.with_(size=teacher.size.model_copy(update={"mlp_ratio": 2.0}))
    gated = teacher.with_(components=Components(mlp="swiglu"))

    def why(name: str, student: Any, **settings: object) -> str:
        entry = METHODS.get(name)
        config = entry.method.Config.parse(settings)
        return str(entry.refuses(config, make_cell("micro/deit", student)))

    assert "widths differ: student 32" in why("keep_mlp", "standard@micro_small")
    assert "heads differ: student 4" in why("keep_attention", heads)
    assert why("keep_mlp", heads) == "None"
    assert "heads differ: student 4" in why("keep_mlp", heads, transfer="attn_copy")
    assert why("keep_mlp", wider).startswith("forms of the MLP differ: student plain x 2, teacher plain x 4")
    assert why("keep_mlp", gated).startswith("forms of the MLP differ: student swiglu")
    assert why("keep_attention", gated) == "None"
    assert "nothing" not in why("keep_mlp", "standard")
