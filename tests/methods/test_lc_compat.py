"""The setting `lc_compat`: the teacher under the student's drop path masks, as in the published code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from timm.layers import DropPath
from torch import Tensor, nn

from tests.methods.attention_calls import Pair
from tests.methods.conftest import MakeCell, MakeMethod, as_teacher
from vitkd_bench.attention import plain_distillation
from vitkd_bench.contracts import Batch
from vitkd_bench.methods._shared_drop_path import SharedDropPath
from vitkd_bench.registry import METHODS
from vitkd_bench.spec import SIZES, BadInputError, ResolvedDataset

MakePair = Callable[..., Pair]
ATTENTION = frozenset(f"attention/{i}" for i in range(4))


@pytest.fixture
def make_pair(
    make_cell: MakeCell, make_method: MakeMethod, digits: ResolvedDataset, batch: Batch
) -> MakePair:
    """Make a native micro pair: method, rate of drop path in the last block, family, settings."""

    def make(
        name: str = "attn_distill", drop_path: float = 0.6, family: str = "deit", **settings: Any
    ) -> Pair:
        cell = make_cell(f"micro/{family}", "native")
        return Pair(make_method(name, cell, **settings), digits, batch, drop_path)

    return make


@pytest.mark.parametrize("name", ["attn_copy", "attn_distill"])
def test_without_drop_path_it_changes_nothing(make_pair: MakePair, name: str) -> None:
    """Losses and gradients of a student without drop path are to the bit those without the setting."""
    pairs = [make_pair(name, 0.0, lc_compat=lc_compat) for lc_compat in (False, True)]
    for pair in pairs:
        pair.backward()
    losses = [{key: part.item() for key, part in pair.parts().items()} for pair in pairs]
    assert losses[0] == losses[1]
    for block in range(4):
        assert torch.equal(pairs[0].gradient(block), pairs[1].gradient(block))


@pytest.mark.parametrize("family", ["deit", "dinov2", "beitv2"])
def test_masks_are_shared(make_pair: MakePair, batch: Batch, family: str) -> None:
    """A teacher of the student's own weights attends exactly as the student does, masks and all."""
    pair = make_pair(family=family)
    for name, parameter in pair.student.named_parameters():
        if name.endswith("gamma"):
            parameter.data.fill_(1)  # at its start layer scale lets nothing of a branch be seen
    shared = SharedDropPath(pair.student, as_teacher(pair.student))
    read = shared.read(batch.pixels, ATTENTION)
    student = pair.student(batch.pixels, ATTENTION)
    for block in range(4):
        apart = plain_distillation(student.attention[block], read.attention[block], loss="kl")
        assert apart.item() == pytest.approx(0, abs=1e-6)
    clean = as_teacher(pair.student)(batch.pixels, ATTENTION)
    noise = plain_distillation(student.attention[3], clean.attention[3], loss="kl").item()
    assert noise > 1e-4


def test_a_mask_is_nothing_or_the_whole_branch(make_pair: MakePair, batch: Batch) -> None:
    """What a branch of the teacher adds for a sample is nothing, or its output over 1 - p."""
    pair = make_pair(drop_path=0.6)
    shared = SharedDropPath(pair.student, pair.teacher)
    last: Any = pair.teacher.blocks[3]
    seen: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        return lambda _, args, out: seen.update({name: args[0], f"{name}/out": out})

    read = "tokens/3"
    handles = [getattr(last, f"drop_path{i}").register_forward_hook(keep(f"{i}")) for i in (1, 2)]
    before: list[Tensor] = []
    entry = last.register_forward_pre_hook(lambda _, args: before.append(args[0]))
    tokens = shared.read(batch.pixels, frozenset({read})).tokens[3]
    added = tokens - before[0]
    for handle in (*handles, entry):
        handle.remove()
    kept = {name: seen[name].abs().amax(dim=(1, 2)) > 0 for name in ("1", "2")}
    assert all(flags.all() for flags in kept.values())
    ratios = torch.linalg.lstsq(
        torch.stack([seen["1"], seen["2"]], dim=-1).flatten(1, 2).double(),
        added.flatten(1).unsqueeze(-1).double(),
    ).solution.squeeze(-1)
    near = torch.minimum(ratios.abs(), (ratios - 1 / 0.4).abs())
    assert near.max() < 1e-3
    shares = (ratios > 1).float().mean(dim=0)
    assert ((shares > 0.1) & (shares < 0.75)).all()


def test_a_recomputed_student_sees_the_same_masks(make_pair: MakePair, batch: Batch) -> None:
    """Until the next step masks stay, as activation checkpointing needs; the next step draws others."""
    pair = make_pair(lc_compat=True)
    pair.parts()
    outputs = [pair.student(batch.pixels).logits for _ in range(2)]
    pair.parts()
    outputs.append(pair.student(batch.pixels).logits)
    assert outputs[0] is not None
    assert torch.equal(outputs[0], outputs[1])  # type: ignore[arg-type]
    assert not torch.equal(outputs[0], outputs[2])  # type: ignore[arg-type]


def test_nothing_is_left_behind(make_pair: MakePair, batch: Batch) -> None:
    """The teacher runs clean beside the step, the student in eval mode has no masks, and keeps its names."""
    pair = make_pair(lc_compat=True)
    clean = pair.teacher(batch.pixels, ATTENTION).attention[3].q
    names = set(pair.student.state_dict())
    evaluated = pair.student.eval()(batch.pixels).logits
    pair.student.train()
    pair.parts()
    assert torch.equal(pair.teacher(batch.pixels, ATTENTION).attention[3].q, clean)
    again = pair.student.eval()(batch.pixels).logits
    assert evaluated is not None
    assert torch.equal(evaluated, again)  # type: ignore[arg-type]
    assert set(pair.student.state_dict()) == names
    assert any(isinstance(module, DropPath) for module in pair.student.modules())


@pytest.mark.parametrize("name", ["attn_copy", "attn_distill"])
def test_the_noise_reaches_the_loss_in_training_alone(make_pair: MakePair, name: str) -> None:
    """With drop path the same seed gives the same losses, another one others; the engine reads nothing."""
    found = []
    for seed in (0, 0, 1):
        pair = make_pair(name, lc_compat=True)
        torch.manual_seed(seed)
        parts = pair.method.step(pair.student, None, pair.batch)
        found.append(torch.stack(list(parts.values())).sum().item())
    assert found[0] == found[1] != found[2]
    kind = METHODS.get(name).method
    assert [kind.reads_alone(kind.Config.parse({"lc_compat": on})) for on in (True, False)] == [True, False]


def test_depths_that_differ_are_refused(make_cell: MakeCell) -> None:
    """Masks of a student's block have no place in a teacher of another depth."""
    size = SIZES["micro"].model_copy(update={"depth": 2})
    cell = make_cell("micro/deit", make_cell().student.with_(size=size))
    for name in ("attn_copy", "attn_distill"):
        entry = METHODS.get(name)
        config = entry.method.Config.parse({"lc_compat": True, "match": "experimental_nearest"})
        assert entry.refuses(config, cell) == (
            "lc_compat gives each block of the teacher the masks of one of the student's, and depths differ: "
            "4 and 2"
        )


def test_a_teacher_without_such_branches_is_refused(make_pair: MakePair) -> None:
    """Blocks that have no drop path of timm's names cannot be masked, and the message says so."""
    pair = make_pair()

    class Other(nn.Module):
        blocks = nn.ModuleList([nn.TransformerEncoderLayer(8, 2, batch_first=True)])

    with pytest.raises(
        BadInputError, match=r"the teacher's blocks \(TransformerEncoderLayer\) have no drop_path1"
    ):
        SharedDropPath(pair.student, Other())  # type: ignore[arg-type]
    with pytest.raises(BadInputError, match="none was given"):
        SharedDropPath(pair.student, None)
