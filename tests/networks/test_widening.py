"""Students that end wider than they begin."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from vitkd_bench.networks import ViTNetwork, create_student
from vitkd_bench.spec import Architecture, BadInputError, Components, InitialValues, PixelStats, Size

PIXELS = PixelStats(mean=(0.4,), std=(0.2,))
PLAIN = Architecture(channels=1, image_size=6, patch=2, size=Size(width=16, depth=3, heads=2))
components = st.builds(
    Components,
    layer_scale=st.sampled_from([None, 0.1]),
    norm_pre=st.booleans(),
    relative_position_bias=st.booleans(),
    qkv_bias=st.sampled_from(["full", "qv", "none"]),
    rope=st.sampled_from(["none", "dinov3"]),
    qk_norm=st.booleans(),
    mlp=st.sampled_from(["plain", "swiglu"]),
)
IMAGES = torch.rand(2, 1, 6, 6, generator=torch.Generator().manual_seed(0))


def state(network: ViTNetwork) -> dict[str, Tensor]:
    """Copy the weights, by name."""
    return {name: tensor.clone() for name, tensor in network.module.state_dict().items()}


@given(parts=components, last_block=st.booleans(), width=st.sampled_from([24, 32]))
@settings(max_examples=25, deadline=None)
def test_what_is_not_new_stays(*, parts: Components, last_block: bool, width: int) -> None:
    """Whatever its components, a student keeps its other weights, and no global random number is drawn."""
    network = create_student(PLAIN.with_(components=parts), 5, PIXELS, 3)
    before, stream = state(network), torch.get_rng_state()
    network.widen(width, 7, last_block=last_block)
    new = ("lift.", "blocks.2.", "fc_norm.", "head.") if last_block else ("lift.", "fc_norm.", "head.")
    assert torch.equal(torch.get_rng_state(), stream)
    after = state(network)
    kept = {name for name in before if not name.startswith(new)}
    assert kept == {name for name in after if not name.startswith(new)}
    assert all(torch.equal(before[name], after[name]) for name in kept)
    found = network.eval()(IMAGES, frozenset({"tokens/2", "attention/2"}))
    assert found.pooled is not None
    assert found.pooled.shape == (2, width)
    assert found.tokens[2].shape[-1] == (width if last_block else 16)
    assert found.attention[2].q.shape[1] == (width // 8 if last_block else 2)


@pytest.mark.parametrize("last_block", [False, True])
@pytest.mark.parametrize("law", ["timm", "small"])
def test_new_parts_follow_the_law_and_their_seed(*, last_block: bool, law: str) -> None:
    """One seed draws the same, another does not; biases are 0, and the law's deviation is kept."""

    def made(seed: int) -> dict[str, Tensor]:
        network = create_student(PLAIN, 5, PIXELS, 3, law=law)  # type: ignore[arg-type]
        network.widen(64, seed, law, last_block=last_block)  # type: ignore[arg-type]
        return state(network)

    one, again, other = made(1), made(1), made(2)
    assert all(torch.equal(one[name], again[name]) for name in one)
    name = "blocks.2.widening.projection.weight" if last_block else "lift.projection.weight"
    assert one[name].shape == (64, 16)
    assert not torch.equal(one[name], other[name])
    assert not one["head.bias"].any()
    assert one["head.weight"].shape == (5, 64)
    deviation = 0.02 if law == "timm" else (2 / 80) ** 0.5
    assert one[name].std().item() == pytest.approx(deviation, rel=0.1)


def test_a_wide_block_starts_as_the_initial_values_say() -> None:
    """Divided by depth once: the new block, and none of those that were there."""
    divided = PLAIN.with_(initial=InitialValues(scaled_by_depth=True))
    pair = [create_student(each, 5, PIXELS, 3) for each in (PLAIN, divided)]
    for network in pair:
        network.widen(32, 7, last_block=True)
    plain, scaled = (state(network) for network in pair)
    for block in range(3):
        name = f"blocks.{block}.mlp.fc2.weight"
        torch.testing.assert_close(scaled[name] * (2 * (block + 1)) ** 0.5, plain[name])


@pytest.mark.parametrize("last_block", [False, True])
def test_the_new_last_block_is_injected_into(*, last_block: bool) -> None:
    """Attention of the last block is replaced where it stands now, and no other stays replaced."""
    network = create_student(PLAIN, 5, PIXELS, 3).eval()
    network.widen(32, 7, last_block=last_block)
    with torch.no_grad():
        read = network(IMAGES, frozenset({"attention/2"}))
        same = network(IMAGES, inject={2: read.attention[2]})
        other = network(IMAGES, inject={2: network(IMAGES.flip(0), frozenset({"attention/2"})).attention[2]})
        network.clear()
        plain = network(IMAGES)
    assert read.logits is not None
    torch.testing.assert_close(same.logits, read.logits)
    assert other.logits is not None
    assert not torch.allclose(other.logits, read.logits, atol=1e-7)
    assert torch.equal(plain.logits, read.logits)  # type: ignore[arg-type]


@pytest.mark.parametrize("last_block", [False, True])
def test_a_copy_and_checkpointed_blocks_compute_the_same(*, last_block: bool) -> None:
    """As a moving average copies it, and as a recipe recomputes it: same outputs, taps and gradients."""
    network = create_student(PLAIN, 5, PIXELS, 3)
    network.widen(32, 7, last_block=last_block)
    copied = copy.deepcopy(network)
    copied.checkpoint_blocks()
    gradients = []
    for each in (network, copied):
        found = each(IMAGES, frozenset({"tokens/2"}))
        assert found.logits is not None
        (found.logits.square().sum() + found.tokens[2].square().sum()).backward()
        gradients.append({name: p.grad for name, p in each.module.named_parameters()})
    assert all(gradient is not None for gradient in gradients[0].values())
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient)


def test_what_cannot_be_widened_is_refused() -> None:
    """Heads that do not fit, and a network of another library."""
    network = create_student(PLAIN, 5, PIXELS, 3)
    with pytest.raises(
        BadInputError, match="a last block 20 wide has no whole number of heads of dimension 8"
    ):
        network.widen(20, 7, last_block=True)
    network.module = nn.Identity()
    with pytest.raises(TypeError, match="Identity is not ours, and cannot be widened"):
        network.widen(32, 7, last_block=False)
