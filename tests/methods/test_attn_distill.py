from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, get_args

import pytest
import torch
from torch import Tensor

from tests.methods.attention_calls import PACKED, Pair, calls_of, drawn, on_tensors
from tests.methods.conftest import MakeCell, MakeMethod
from tests.methods.laws import LossLaws, laws_of
from vitkd_bench.attention import AttentionCall, Loss
from vitkd_bench.contracts import Batch
from vitkd_bench.methods.attn_distill import OWN, AttentionDistillation, attn_distill_loss
from vitkd_bench.spec import BadInputError, ResolvedDataset

LOSSES: tuple[Loss, ...] = get_args(Loss)
STUDENT, TEACHER = drawn(*PACKED), drawn(*PACKED, seed=1)


def entropy(packed: Tensor) -> float:
    """Compute the mean entropy of the rows, summed over blocks: the floor of the cross-entropy."""
    maps = [call.maps() for call in calls_of(packed)]
    return -sum((m * m.log()).sum(dim=-1).mean() for m in maps).item()  # type: ignore[union-attr]


test_the_laws_hold = laws_of(
    {
        loss: LossLaws(
            on_tensors(partial(attn_distill_loss, loss=loss)),
            STUDENT,
            TEACHER,
            floor=entropy if loss == "ce" else 0.0,
        )
        for loss in LOSSES
    }
    | {
        "one token": LossLaws(
            on_tensors(attn_distill_loss),
            drawn(2, 1, 3, 2, 1, 3),
            drawn(2, 1, 3, 2, 1, 3, seed=1),
            floor=None,
        ),
        "so many tokens that no map is made": LossLaws(
            on_tensors(partial(attn_distill_loss, loss="jsd")),
            drawn(1, 1, 3, 1, 33, 2),
            drawn(1, 1, 3, 1, 33, 2, seed=1),
        ),
    }
)


def published(student: AttentionCall, teacher: AttentionCall) -> Tensor:
    """Cross-entropy of maps as the published code writes it."""
    maps = torch.softmax(teacher.q @ teacher.k.transpose(-1, -2) * teacher.scale, -1)
    logs = torch.log_softmax(student.q @ student.k.transpose(-1, -2) * student.scale, -1)
    return -(maps * logs).sum(-1).mean()


def test_the_sum_over_blocks_is_the_published_one() -> None:
    """The cross-entropy is added up over blocks, with no mean over these unless it is asked for."""
    student, teacher = calls_of(drawn(2, 3, 3, 2, 5, 4)), calls_of(drawn(2, 3, 3, 2, 5, 4, seed=1))
    expected = torch.stack([published(s, t) for s, t in zip(student, teacher, strict=True)]).sum()
    torch.testing.assert_close(attn_distill_loss(student, teacher), expected, atol=1e-10, rtol=0)
    torch.testing.assert_close(attn_distill_loss(student, teacher, over="mean"), expected / 3)


def test_uniform_maps_lose_the_log_of_the_tokens() -> None:
    """At the start maps are uniform, and the loss is L ln N: 11.333 for 4 blocks of 17 tokens."""
    zeros = torch.zeros(1, 2, 17, 4)
    flat = AttentionCall(zeros, zeros, zeros, None, 0.5)
    assert attn_distill_loss([flat] * 4, [flat] * 4).item() == pytest.approx(4 * math.log(17), abs=1e-5)
    assert attn_distill_loss([flat] * 4, [flat] * 4).item() == pytest.approx(11.333, abs=1e-3)


def test_cross_entropy_and_kl_have_one_gradient() -> None:
    """They differ by the teacher's entropy, in which the student has no part."""
    found = []
    for loss in ("ce", "kl"):
        student = STUDENT.clone().requires_grad_()
        value = attn_distill_loss(calls_of(student), calls_of(TEACHER), loss)
        found.append((value.item(), torch.autograd.grad(value, student)[0]))
    torch.testing.assert_close(found[0][1], found[1][1], atol=1e-12, rtol=0)
    assert found[0][0] - found[1][0] == pytest.approx(entropy(TEACHER))


@pytest.mark.parametrize("loss", LOSSES)
def test_reductions_over_keys(loss: Loss) -> None:
    """Both squares are a mean over keys unless told otherwise, as F.mse_loss is, and the others a sum."""
    student, teacher = calls_of(STUDENT), calls_of(TEACHER)
    summed = attn_distill_loss(student, teacher, loss, over_keys="sum")
    averaged = attn_distill_loss(student, teacher, loss, over_keys="mean")
    torch.testing.assert_close(averaged * PACKED[-2], summed)
    own = attn_distill_loss(student, teacher, loss)
    assert own.item() == (averaged if loss.startswith("mse") else summed).item()
    if loss == "mse":
        pairs = zip(student, teacher, strict=True)
        plain = torch.stack([torch.nn.functional.mse_loss(s.maps(), t.maps()) for s, t in pairs]).sum()
        torch.testing.assert_close(own, plain)


def test_blocks_are_paired() -> None:
    """Unequal numbers of blocks are an error and never cut short."""
    with pytest.raises(ValueError, match="as many blocks"):
        attn_distill_loss(calls_of(STUDENT), calls_of(drawn(2, 3, 3, 2, 4, 3)))
    with pytest.raises(ValueError, match="at least one"):
        attn_distill_loss([], [])


@pytest.mark.parametrize(
    ("settings", "declared"),
    [
        ({}, {}),
        ({"weight": 0.003}, {"weight": 0.003}),
        ({"weight": 3.0}, {}),
        ({"loss": "kl"}, {"loss": "kl"}),
        ({"loss": "kl", "weight": 3}, {"loss": "kl"}),
        ({"loss": "mse", "weight": 3e4, "over_keys": "mean"}, {"loss": "mse"}),
        ({"weight": 3e4, "loss": "mse"}, {"loss": "mse"}),
        ({"loss": "mse", "weight": 3.0}, {"loss": "mse", "weight": 3.0}),
        ({"layers": "first:3", "weight": 3.0}, {"layers": "first:3"}),
    ],
)
def test_one_meaning_has_one_form(settings: dict[str, Any], declared: dict[str, Any]) -> None:
    """What is declared, and so the run id, is the same whether a default is written or left out."""
    config = AttentionDistillation.Config.parse(settings)
    assert config.declared() == declared
    assert AttentionDistillation.Config.parse(declared) == config


@pytest.mark.parametrize("loss", LOSSES)
def test_each_loss_has_a_weight_of_its_own(loss: Loss) -> None:
    """The default weight is that of the loss, stands in its grid of six, and gives way to a given one."""
    config = AttentionDistillation.Config.parse({"loss": loss})
    assert config.used_weight == OWN[loss].weight
    assert config.used_weight in OWN[loss].grid
    assert len(OWN[loss].grid) == 6
    assert AttentionDistillation.Config.parse({"loss": loss, "weight": 0.25}).used_weight == 0.25


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"weight": float("nan")}, "weight: .*finite"),
        ({"weight": float("inf")}, "weight: .*finite"),
        ({"weight": -1}, "weight: .*greater than or equal to 0"),
        ({"weight": "much"}, "weight: .*number"),
        (
            {"loss": "mse", "over_keys": "sum"},
            "weight: say a weight: that of mse is meant for another over_keys",
        ),
        ({"loss": "l2"}, "loss: .*'ce', 'kl'"),
        ({"heads": [0, 0]}, "heads: each head once"),
        ({"heads": []}, "heads: expected 'all'"),
        ({"share": 0}, "share: .*greater than 0"),
        ({"schedule": "up"}, "schedule: "),
        ({"match": "nearest"}, "match: .*experimental_nearest"),
    ],
)
def test_bad_settings_are_refused_by_field(settings: dict[str, Any], said: str) -> None:
    """A setting that cannot be meant is refused when it is read, and the message names the field."""
    with pytest.raises(BadInputError, match=rf"^here: {said}"):
        AttentionDistillation.Config.parse(settings, "here")


@pytest.fixture
def make_pair(
    make_cell: MakeCell, make_method: MakeMethod, digits: ResolvedDataset, batch: Batch
) -> Callable[..., Pair]:
    """Make a native micro pair under attention distillation with these settings."""
    return lambda **settings: Pair(make_method("attn_distill", make_cell(), **settings), digits, batch)


@pytest.mark.parametrize("loss", LOSSES)
def test_the_method_weighs_its_loss(make_pair: Callable[..., Pair], loss: Loss) -> None:
    """The part of the loss is the loss's own weight times the loss of the calls that were read."""
    pair = make_pair(loss=loss)
    student = pair.student(pair.batch.pixels, pair.method.student_taps())
    calls = [student.attention[i] for i in range(4)]
    teacher = [pair.read().attention[i] for i in range(4)]
    expected = OWN[loss].weight * attn_distill_loss(calls, teacher, loss)
    assert pair.parts()["attention"].item() == pytest.approx(expected.item(), rel=1e-5)


def test_heads_alone_are_matched(make_pair: Callable[..., Pair]) -> None:
    """With a subset of heads, q and k of the last block get gradients in these heads and nowhere else."""
    pair = make_pair(heads=[0, 2], layers="last:1")
    pair.parts()["attention"].backward()
    gradient = pair.gradient(3)
    assert gradient[:2, 1].abs().max() == 0
    assert all(gradient[part, head].abs().max() > 0 for part in (0, 1) for head in (0, 2))
    assert gradient[2].abs().max() == 0


def test_a_mean_over_blocks_is_a_share(make_pair: Callable[..., Pair]) -> None:
    """`over: mean` divides by the number of blocks."""
    summed, averaged = (make_pair(over=over).parts()["attention"].item() for over in ("sum", "mean"))
    assert averaged == pytest.approx(summed / 4, rel=1e-6)


def test_the_weight_follows_its_schedule(make_pair: Callable[..., Pair]) -> None:
    """Half way down a linear schedule the part is half of what it is at the start, and at the end nothing."""
    pair = make_pair(schedule="linear")
    at = [pair.parts(replace(pair.batch, progress=p))["attention"].item() for p in (0.0, 0.5, 1.0)]
    assert at[1] == pytest.approx(at[0] / 2)
    assert at[2] == 0


def test_heads_beyond_those_there_are_refused(make_cell: MakeCell) -> None:
    """A head that the network lacks is refused with the numbers that it has."""
    config = AttentionDistillation.Config.parse({"heads": [3]})
    assert AttentionDistillation.refuses(config, make_cell()) == (
        "heads [3] reach beyond the network's 3 heads (0 to 2)"
    )


def test_the_record_says_which_weight_was_used(make_cell: MakeCell, make_method: MakeMethod) -> None:
    """A weight that no setting gives is noted, but for the published default."""
    assert make_method("attn_distill", make_cell(), loss="mse").notes() == (
        "weight of the maps' loss: 30000, that of mse",
    )
    assert make_method("attn_distill", make_cell()).notes() == ()
    assert make_method("attn_distill", make_cell(), loss="mse", weight=1.0).notes() == ()
