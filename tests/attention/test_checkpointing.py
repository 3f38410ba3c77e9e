from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.checkpoint import set_checkpoint_early_stop

from vitkd_bench.attention import AttentionCall, Tap, attention_distillation, copying

MakeVit = Callable[..., Any]
Calls = dict[int, AttentionCall]
# Our own words, or torch's where its check comes first. Without that check other errors may come before ours.
NOTICED = {
    "default": r"is recomputed in backward|different number of tensors|different metadata",
    "none": None,
}


@pytest.fixture(
    autouse=True, params=[(0, 0, 0), (64, 0, 64), (64, 64, 64)], ids=["not kept", "tiled", "whole"]
)
def _form_of_copy(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Copy without keeping the maps, as where tokens are many, by maps made in tiles, and whole."""
    for name, keys in zip(("FUSED_FROM", "TILED_FROM", "NOT_KEPT_FROM"), request.param, strict=True):
        monkeypatch.setattr(copying, name, keys)


@pytest.fixture
def teacher(make_vit: MakeVit, images: Tensor) -> Calls:
    """What another network's blocks do on the same images."""
    network = make_vit(seed=5)
    tap = Tap(network.blocks)
    tap.read(range(3))
    with torch.no_grad():
        network(images)
    return tap.calls


def arm(tap: Tap, use: str, teacher: Calls) -> None:
    """Read the first and last block, replace the first two, or both."""
    if use in {"read", "both"}:
        tap.read([0, 2])
    if use in {"replace", "both"}:
        tap.replace({index: teacher[index] for index in (0, 1)})


def loss_of(network: Any, tap: Tap, images: Tensor, teacher: Calls) -> Tensor:
    """Add the output's square and the distance of what was read."""
    task: Tensor = network(images).square().sum()
    return task + sum(
        attention_distillation(call, teacher[index], form="fused") for index, call in tap.calls.items()
    )


def gradients(network: Any, tap: Tap, images: Tensor, teacher: Calls, use: str) -> dict[str, Tensor]:
    """Train one step and give the gradients by parameter."""
    network.zero_grad()
    arm(tap, use, teacher)
    loss_of(network, tap, images, teacher).backward()
    tap.clear()
    return {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}


def assert_same(expected: dict[str, Tensor], actual: dict[str, Tensor]) -> None:
    """Compare gradients by parameter."""
    assert expected.keys() == actual.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(actual[name], gradient, atol=1e-12, rtol=0)


@pytest.mark.parametrize(
    ("checkpointing", "early_stop"), [("block", True), ("block", False), ("segment", True)]
)
@pytest.mark.parametrize("use", ["none", "read", "replace", "both"])
def test_gradients_are_those_without_checkpointing(
    make_vit: MakeVit, images: Tensor, teacher: Calls, use: str, checkpointing: str, early_stop: Any
) -> None:
    """Reading and replacing give the same gradients with and without activation checkpointing."""
    network = make_vit()
    tap = Tap(network.blocks)
    expected = gradients(network, tap, images, teacher, use)
    network.checkpointing = checkpointing
    with set_checkpoint_early_stop(early_stop):
        assert_same(expected, gradients(network, tap, images, teacher, use))


@pytest.mark.parametrize("use", ["read", "replace", "both"])
def test_arming_moves_the_gradients(make_vit: MakeVit, images: Tensor, teacher: Calls, use: str) -> None:
    """The gradients that are compared here do depend on what is armed."""
    network = make_vit()
    tap = Tap(network.blocks)
    plain, armed = (gradients(network, tap, images, teacher, how) for how in ("none", use))
    assert not torch.allclose(plain["blocks.0.qkv.weight"], armed["blocks.0.qkv.weight"], rtol=1e-3)


@pytest.mark.parametrize("checkpointing", ["block", "segment"])
def test_a_recomputation_reads_nothing(
    make_vit: MakeVit, images: Tensor, teacher: Calls, checkpointing: str
) -> None:
    """What was read in forward stands after backward, and the same objects at that."""
    network = make_vit()
    network.checkpointing = checkpointing
    tap = Tap(network.blocks)
    arm(tap, "both", teacher)
    loss = loss_of(network, tap, images, teacher)
    before = tap.calls
    loss.backward()
    assert [call.q for call in before.values()] == [call.q for call in tap.calls.values()]


def test_backward_may_run_in_parts(make_vit: MakeVit, images: Tensor, teacher: Calls) -> None:
    """A retained graph is recomputed for each of two losses, with the same sum of gradients."""
    network = make_vit()
    tap = Tap(network.blocks)
    expected = gradients(network, tap, images, teacher, "both")
    network.checkpointing = "block"
    network.zero_grad()
    arm(tap, "both", teacher)
    network(images).square().sum().backward(retain_graph=True)
    sum(attention_distillation(call, teacher[i]) for i, call in tap.calls.items()).backward()  # type: ignore[union-attr]
    found = {n: p.grad for n, p in network.named_parameters() if p.grad is not None}
    assert expected.keys() == found.keys()
    assert_same(expected, found)


def test_two_forwards_share_one_replacement(make_vit: MakeVit, images: Tensor, teacher: Calls) -> None:
    """Accumulated microbatches may be recomputed after both forwards where the replacement is the same."""
    network = make_vit()
    tap = Tap(network.blocks)
    found = []
    for checkpointing in ("none", "block"):
        network.checkpointing = checkpointing
        network.zero_grad()
        tap.replace({0: teacher[0]})
        (network(images).square().sum() + network(3 * images).square().sum()).backward()
        found.append({n: p.grad.clone() for n, p in network.named_parameters() if p.grad is not None})
    assert_same(*found)


def forget(network: Any, tap: Tap, images: Tensor, other: Calls) -> None:  # noqa: ARG001
    """Clear the tap before backward."""
    tap.clear()


def forget_and_go_on(network: Any, tap: Tap, images: Tensor, other: Calls) -> None:  # noqa: ARG001
    """Clear the tap, and run another forward, before backward."""
    tap.clear()
    network(images)


def replace_again(network: Any, tap: Tap, images: Tensor, other: Calls) -> None:  # noqa: ARG001
    """Give another replacement before backward."""
    tap.replace(other)


def replace_and_go_on(network: Any, tap: Tap, images: Tensor, other: Calls) -> None:
    """Give another replacement, and run a forward with it, before backward."""
    tap.replace(other)
    network(images)


@pytest.mark.parametrize("determinism", ["default", "none"])
@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("meddle", [forget, forget_and_go_on, replace_again, replace_and_go_on])
def test_a_stale_recomputation_is_an_error(
    make_vit: MakeVit, images: Tensor, teacher: Calls, meddle: Any, frozen: Any, determinism: str
) -> None:
    """A backward that would see another replacement than its forward fails; it never gives a gradient.

    Also where the values of the block are frozen, so that no gradient passes through its attention.
    """
    network = make_vit()
    network.checkpointing = "block"
    network.options["determinism_check"] = determinism
    if frozen:
        for module in (network.embed, network.blocks[0].qkv):
            module.requires_grad_(requires_grad=False)
    tap = Tap(network.blocks)
    tap.replace({0: teacher[0]})
    loss = network(images).square().sum()
    meddle(network, tap, images, {0: teacher[1]})
    with pytest.raises(RuntimeError, match=NOTICED[determinism]):
        loss.backward()


def test_a_forgotten_replacement_says_what_to_do(make_vit: MakeVit, images: Tensor, teacher: Calls) -> None:
    """The likeliest mistake, clearing before backward, gets a sentence of ours."""
    network = make_vit()
    network.checkpointing = "block"
    tap = Tap(network.blocks)
    tap.replace({0: teacher[0]})
    loss = network(images).sum()
    tap.clear()
    with pytest.raises(RuntimeError, match=r"call clear\(\) or replace\(\) only after backward"):
        loss.backward()


def test_an_unarmed_forward_is_not_suspected(make_vit: MakeVit, images: Tensor, teacher: Calls) -> None:
    """Copying in one step, without checkpoints, does not disturb a later step with them."""
    network = make_vit()
    tap = Tap(network.blocks)
    expected = gradients(network, tap, images, teacher, "none")
    gradients(network, tap, images, teacher, "replace")
    network.checkpointing = "block"
    assert_same(expected, gradients(network, tap, images, teacher, "none"))


def test_an_evaluation_between_does_not_disturb(make_vit: MakeVit, images: Tensor, teacher: Calls) -> None:
    """A forward without gradients may come between forward and backward, armed as they are."""
    network = make_vit()
    tap = Tap(network.blocks)
    expected = gradients(network, tap, images, teacher, "replace")
    network.checkpointing = "block"
    network.zero_grad()
    arm(tap, "replace", teacher)
    loss = loss_of(network, tap, images, teacher)
    with torch.no_grad():
        network(2 * images)
    loss.backward()
    assert_same(expected, {n: p.grad for n, p in network.named_parameters() if p.grad is not None})


def test_checkpoints_inside_a_block_can_be_read(make_vit: MakeVit, images: Tensor, teacher: Calls) -> None:
    """Where a block checkpoints its attention, hooks do not see the recomputation, and reading needs none."""
    network = make_vit()
    tap = Tap(network.blocks)
    expected = gradients(network, tap, images, teacher, "read")
    for block in network.blocks:
        block.inner = {"use_reentrant": False}
    assert_same(expected, gradients(network, tap, images, teacher, "read"))


@pytest.mark.parametrize("determinism", ["default", "none"])
def test_checkpoints_inside_a_block_cannot_be_replaced(
    make_vit: MakeVit, images: Tensor, teacher: Calls, determinism: str
) -> None:
    """Where a block checkpoints its attention, replacing fails in backward."""
    network = make_vit()
    for block in network.blocks:
        block.inner = {"use_reentrant": False, "determinism_check": determinism}
    with pytest.raises(RuntimeError, match=NOTICED[determinism]):
        gradients(network, Tap(network.blocks), images, teacher, "replace")


@pytest.mark.parametrize("checkpointing", ["block", "segment"])
@pytest.mark.parametrize("use", ["read", "replace"])
def test_reentrant_checkpoints_are_refused(
    make_vit: MakeVit, images: Tensor, teacher: Calls, use: str, checkpointing: str
) -> None:
    """A forward without a graph of its own cannot be tapped; the error says which switch to turn."""
    network = make_vit()
    network.checkpointing, network.options = checkpointing, {"use_reentrant": True}
    tap = Tap(network.blocks)
    arm(tap, use, teacher)
    with pytest.raises(RuntimeError, match=r"block 0 is armed .* use use_reentrant=False"):
        network(images)
    tap.clear()
    network(images).sum().backward()


def test_no_grad_alone_is_not_suspected(make_vit: MakeVit, images: Tensor) -> None:
    """A teacher that is read without gradients, its checkpoints on, is no reentrant checkpoint."""
    network = make_vit()
    network.checkpointing = "block"
    tap = Tap(network.blocks)
    tap.read([0, 1, 2])
    for context in (torch.no_grad(), torch.inference_mode(), nullcontext()):
        with context:
            network(images)
        assert sorted(tap.calls) == [0, 1, 2]
