"""What each control does to a teacher's features, and what it leaves alone."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.controls.conftest import IMAGES, MakeControl
from vitkd_bench.contracts import CellFacts, Features
from vitkd_bench.controls.dark_knowledge import cwtm_loss, permuted_but
from vitkd_bench.controls.wrong_layers import WrongLayers

IDS = torch.arange(10, 10 + IMAGES)
LABELS = torch.tensor([3, 3, 3, 1, 1, 0])
seeds = settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])


def rows(tensor: Tensor) -> list[tuple[float, ...]]:
    """The rows of a tensor as a sorted multiset."""
    return sorted(tuple(row) for row in tensor.flatten(1).tolist())


@given(seed=st.integers(0, 2**31))
@seeds
def test_shuffled_maps_are_those_of_other_images(
    seed: int, make_control: MakeControl, features: Features
) -> None:
    """Maps and values keep their multiset over the images, and none stays with its own."""
    seen = make_control("shuffled_maps", seed).seen(features, IDS, LABELS)
    for i, call in features.attention.items():
        before, after = call.maps(), seen.attention[i].maps()
        assert rows(before) == rows(after)
        assert (before != after).flatten(1).any(dim=1).all()
        order = [next(j for j in range(IMAGES) if (v == call.v[j]).all()) for v in seen.attention[i].v]
        assert (after == before[order]).all()
    assert seen.logits is features.logits
    assert seen.tokens == features.tokens


@pytest.mark.parametrize("among", ["any", "same_class", "other_class"])
def test_shuffled_outputs_of_an_image_stay_together(
    among: str, make_control: MakeControl, features: Features
) -> None:
    """Tokens, pooled and logits are all of one other image, of the class that was asked for."""
    seen = make_control("shuffled_outputs", among=among).seen(features, IDS, LABELS)
    assert seen.logits is not None
    assert features.logits is not None
    order = [next(j for j in range(IMAGES) if (row == features.logits[j]).all()) for row in seen.logits]
    assert all(i != j for i, j in enumerate(order))
    assert features.pooled is not None
    assert seen.pooled is not None
    assert (seen.pooled == features.pooled[order]).all()
    assert all((seen.tokens[i] == tokens[order]).all() for i, tokens in features.tokens.items())
    assert seen.attention is features.attention
    if among == "other_class":
        assert (LABELS[order] != LABELS).all()
    if among == "same_class":
        assert (LABELS[order] == LABELS)[:3].all()


def test_uniform_rows_are_one_over_the_keys(make_control: MakeControl, features: Features) -> None:
    """Every map is 1/N throughout, whatever bias the teacher has; values are as they were."""
    seen = make_control("uniform_map").seen(features, IDS, LABELS)
    for i, call in features.attention.items():
        count = call.k.shape[2]
        torch.testing.assert_close(seen.attention[i].maps(), torch.full_like(call.maps(), 1 / count))
        assert seen.attention[i].v is call.v


def test_the_mean_map_is_the_mean_and_the_same_for_all(make_control: MakeControl, features: Features) -> None:
    """Each image's map is the mean over the batch, head by head, so rows still sum to 1."""
    seen = make_control("mean_map").seen(features, IDS, LABELS)
    for i, call in features.attention.items():
        expected = sum(call.maps()[j] for j in range(IMAGES)) / IMAGES
        maps = seen.attention[i].maps()
        for image in maps:
            torch.testing.assert_close(image, expected)


def test_a_mean_that_underflows_masks_nothing(make_control: MakeControl, features: Features) -> None:
    """A map of zeros and ones has a mean whose logarithm is finite."""
    call = features.attention[0]
    sharp = Features(attention={0: type(call)(call.q * 1e4, call.k * 1e4, call.v, None, 1.0)})
    mean = make_control("mean_map").seen(sharp, IDS, LABELS).attention[0]
    assert mean.bias is not None
    assert torch.isfinite(mean.bias).all()
    torch.testing.assert_close(mean.maps()[0], sharp.attention[0].maps().mean(dim=0))


@given(seed=st.integers(0, 2**31))
@seeds
def test_a_shuffled_grid_keeps_row_sums_and_class_token(
    seed: int, make_control: MakeControl, features: Features, cell: CellFacts
) -> None:
    """Patches change places in rows, columns and tokens alike; the class token does not; no patch stays."""
    seen = make_control("grid_shuffle", seed).seen(features, IDS, LABELS)
    prefix = cell.student.prefix
    first = features.tokens[0]
    order = [int((first[0] == token).all(dim=1).nonzero()) for token in seen.tokens[0][0]]
    assert order[:prefix] == list(range(prefix))
    assert all(i != j for i, j in enumerate(order) if i >= prefix)
    assert sorted(order) == list(range(first.shape[1]))
    for i, call in features.attention.items():
        maps, shuffled = call.maps(), seen.attention[i].maps()
        torch.testing.assert_close(shuffled, maps[:, :, order][..., order])
        torch.testing.assert_close(shuffled.sum(dim=-1), maps.sum(dim=-1))
    assert seen.logits is features.logits
    assert seen.pooled is features.pooled


def test_one_permutation_holds_for_the_whole_run(make_control: MakeControl, features: Features) -> None:
    """Grid, channels and blocks change with the seed of the run, and with nothing else."""
    for name, given_ in (
        ("grid_shuffle", {}),
        ("permuted_channels", {}),
        ("wrong_layers", {"order": "random"}),
    ):
        one = make_control(name, 3, **given_).seen(features, IDS, LABELS, epoch=0).tokens[0]
        later = make_control(name, 3, **given_).seen(features, IDS + 9, None, epoch=7).tokens[0]
        others = [make_control(name, s, **given_).seen(features, IDS, LABELS).tokens[0] for s in range(4, 10)]
        assert (one == later).all()
        assert any((one != other).any() for other in others)


def test_permuted_channels_leave_logits_and_attention(make_control: MakeControl, features: Features) -> None:
    """Tokens of all blocks and pooled features have their channels in one other order."""
    seen = make_control("permuted_channels").seen(features, IDS, LABELS)
    assert seen.logits is features.logits
    assert seen.attention is features.attention
    assert features.pooled is not None
    assert seen.pooled is not None
    order = [int((features.pooled[0] == value).nonzero()) for value in seen.pooled[0]]
    assert order != sorted(order)
    assert all((seen.tokens[i] == tokens[..., order]).all() for i, tokens in features.tokens.items())


@pytest.mark.parametrize("kept", ["top", "label"])
def test_dkpp_keeps_one_probability_and_the_multiset_of_the_others(
    kept: str, make_control: MakeControl, features: Features
) -> None:
    """The class that is kept has its probability still, and the others have each other's."""
    seen = make_control("dkpp", kept=kept).seen(features, IDS, LABELS)
    assert features.logits is not None
    assert seen.logits is not None
    before, after = features.logits.softmax(dim=1), seen.logits.softmax(dim=1)
    held = LABELS if kept == "label" else features.logits.argmax(dim=1)
    torch.testing.assert_close(after.gather(1, held[:, None]), before.gather(1, held[:, None]))
    torch.testing.assert_close(after.sort(dim=1).values, before.sort(dim=1).values)
    assert (before != after).any(dim=1).all()
    later = make_control("dkpp", kept=kept).seen(features, IDS, LABELS, epoch=1).logits
    assert later is not None
    assert (later != seen.logits).any()


def test_every_other_class_gets_every_probability_equally_often() -> None:
    """Over many draws each of three other classes has each of their logits in a third of the cases."""
    logits = torch.tensor([[0.0, 1.0, 2.0, 3.0]]).repeat(3000, 1)
    found = permuted_but(logits, torch.full((3000,), 2), torch.Generator().manual_seed(0))
    assert (found[:, 2] == 2).all()
    for place in (0, 1, 3):
        for value in (0.0, 1.0, 3.0):
            assert abs((found[:, place] == value).double().mean().item() - 1 / 3) < 0.04


def test_one_class_has_nothing_to_permute() -> None:
    """A single class keeps its logit."""
    one = torch.tensor([[2.0], [1.0]])
    assert (permuted_but(one, torch.zeros(2, dtype=torch.long), torch.Generator()) == one).all()


def test_cwtm_of_the_golden_logits() -> None:
    """The weights are the teacher's largest probabilities over their sum: .8611548433 on three samples."""
    student = torch.tensor(
        [[1, 0.5, -0.5, 0], [0.2, -0.3, 0.9, -0.6], [-1, 0.4, 0.1, 0.7]], dtype=torch.float64
    ).requires_grad_()
    teacher = torch.tensor(
        [[2, 0, -1, 0.5], [-0.4, 0.1, 1.5, -0.2], [-0.5, 0.3, 0.8, 1.2]], dtype=torch.float64
    ).requires_grad_()
    labels = torch.tensor([0, 2, 1])
    loss = cwtm_loss(student, teacher, labels)
    assert loss.item() == pytest.approx(0.8611548433, abs=1e-9)
    loss.backward()
    assert teacher.grad is None
    sure = torch.zeros_like(teacher)
    assert cwtm_loss(student, sure, labels).item() == pytest.approx(
        torch.nn.functional.cross_entropy(student, labels).item()
    )


def test_a_uniform_teacher_says_the_same_of_every_class(
    make_control: MakeControl, features: Features
) -> None:
    """All logits are equal, whatever the image and its label."""
    seen = make_control("virtual_teacher", soft_labels="uniform").seen(features, IDS, LABELS)
    assert seen.logits is not None
    torch.testing.assert_close(seen.logits.softmax(dim=1), torch.full((IMAGES, 10), 0.1))


@pytest.mark.parametrize(("order", "expected"), [("reversed", [3, 2, 1, 0]), ("random", None)])
def test_wrong_layers_answer_for_others(
    order: str, expected: list[int] | None, make_control: MakeControl, features: Features
) -> None:
    """Each block is another one, in attention and tokens alike, and the taps ask for what is needed."""
    control = make_control("wrong_layers", order=order)
    assert isinstance(control, WrongLayers)
    found = control.order
    assert sorted(found) == [0, 1, 2, 3]
    assert found == expected or (expected is None and all(i != j for i, j in enumerate(found)))
    seen = control.seen(features, IDS, LABELS)
    assert all(seen.attention[i] is features.attention[j] for i, j in enumerate(found))
    assert all(seen.tokens[i] is features.tokens[j] for i, j in enumerate(found))
    wanted = frozenset({"tokens/3", "attention/1", "logits"})
    assert control.taps(wanted) == {f"tokens/{found[3]}", f"attention/{found[1]}", "logits"}


@pytest.mark.parametrize("name", ["shuffled_maps", "mean_map", "grid_shuffle", "dkpp", "permuted_channels"])
def test_nothing_is_drawn_from_global_generators(
    name: str, make_control: MakeControl, features: Features
) -> None:
    """A control leaves torch's own random state where it was, and does not depend on it."""
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one = make_control(name).seen(features, IDS, LABELS)
    assert (torch.get_rng_state() == before).all()
    torch.manual_seed(2)
    other = make_control(name).seen(features, IDS, LABELS)
    assert one.logits is not None
    assert other.logits is not None
    assert (one.logits == other.logits).all()
    assert all((one.tokens[i] == other.tokens[i]).all() for i in one.tokens)
    assert all((one.attention[i].maps() == other.attention[i].maps()).all() for i in one.attention)
