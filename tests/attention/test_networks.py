from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vitkd_bench.attention import AttentionCall, Tap, attention_distillation

SMALL = {"img_size": 64, "depth": 3, "embed_dim": 48, "num_heads": 3, "num_classes": 4, "class_token": True}
# What each adds to plain attention: nothing; a learned bias; rotary embedding; registers and layer scale; a
# pooling head that attends, and no class token.
NETWORKS: dict[str, dict[str, Any]] = {
    "vit_tiny_patch16_224": {"patch_size": 8},
    "beitv2_base_patch16_224": {"patch_size": 8},
    "eva02_tiny_patch14_224": {"patch_size": 8},
    "vit_small_patch14_reg4_dinov2": {"patch_size": 8, "init_values": 0.5},
    "vit_base_patch16_siglip_224": {"patch_size": 8, "class_token": False},
}


def build(name: str, seed: int = 0) -> Any:
    """Build a small network of this architecture in float64, with no weight left at zero."""
    import timm

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        settings = SMALL | NETWORKS[name]
        if name.startswith("beit"):
            settings.pop("class_token")
        network = timm.create_model(name, **settings).double()
        for parameter in network.parameters():
            nn.init.normal_(parameter, std=0.3)
    return network


@pytest.fixture(scope="module")
def pictures() -> Tensor:
    """Two images of 64 pixels: 64 patches, and the class token where there is one."""
    return torch.randn(2, 3, 64, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def read_all(network: Any, pictures: Tensor) -> dict[int, AttentionCall]:
    """Read every block once, detached."""
    tap = Tap(network.blocks)
    tap.read(range(3))
    with torch.no_grad():
        network(pictures)
    calls = tap.calls
    tap.remove()
    return calls


@pytest.mark.parametrize("name", NETWORKS)
def test_own_calls_reproduce_the_output(name: str, pictures: Tensor) -> None:
    """What is read is final: given back, it reproduces the output, whatever was done to queries and keys."""
    network = build(name)
    expected, calls, tap = network(pictures), read_all(network, pictures), Tap(network.blocks)
    assert sorted(calls) == [0, 1, 2]
    tap.replace(calls)
    torch.testing.assert_close(network(pictures), expected, atol=1e-9, rtol=0)
    tap.replace({1: calls[0]})
    assert not torch.allclose(network(pictures), expected, atol=1e-3)


@pytest.mark.parametrize("name", ["beitv2_base_patch16_224", "eva02_tiny_patch14_224"])
def test_unfused_maps_are_the_same(name: str, pictures: Tensor) -> None:
    """The maps agree with those that the architecture makes itself when its attention is not fused."""
    network, seen = build(name), []
    calls = read_all(network, pictures)
    for block in network.blocks:
        block.attn.fused_attn = False
        block.attn.attn_drop.register_forward_hook(lambda _, args, out: seen.append(args[0]))  # noqa: ARG005
    network(pictures)
    for index, maps in enumerate(seen):
        torch.testing.assert_close(calls[index].maps(), maps, atol=1e-9, rtol=0)


def test_unfused_attention_is_an_error(pictures: Tensor) -> None:
    """A network that was built without fused attention cannot be read; the error names the switch."""
    network = build("vit_tiny_patch16_224")
    network.blocks[2].attn.fused_attn = False
    with pytest.raises(
        RuntimeError, match=r"block 2 \(Block\) made no call .*timm.layers.set_fused_attn\(True\)"
    ):
        read_all(network, pictures)


def step(network: Any, tap: Tap, pictures: Tensor, teacher: dict[int, AttentionCall]) -> dict[str, Tensor]:
    """Read one block, replace another, and give the gradients of one training step."""
    network.zero_grad()
    tap.read([2])
    tap.replace({0: teacher[0]})
    loss = network(pictures).square().mean() + attention_distillation(tap.calls[2], teacher[2], form="fused")
    loss.backward()
    tap.clear()
    return {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "beitv2_base_patch16_224"])
def test_timm_checkpointing_keeps_the_gradients(name: str, pictures: Tensor) -> None:
    """The activation checkpointing of timm gives the same gradients, also of a learned bias."""
    network, teacher = build(name), read_all(build(name, seed=1), pictures)
    tap = Tap(network.blocks)
    expected = step(network, tap, pictures, teacher)
    network.set_grad_checkpointing()
    actual = step(network, tap, pictures, teacher)
    assert expected.keys() == actual.keys()
    for parameter, gradient in expected.items():
        torch.testing.assert_close(actual[parameter], gradient, atol=1e-9, rtol=1e-9)
    if name.startswith("beit"):
        assert expected["blocks.2.attn.relative_position_bias_table"].count_nonzero() > 0
        assert "blocks.0.attn.relative_position_bias_table" not in expected


class TorchBlock(nn.Module):
    """A block around torch's own attention, as open_clip has it."""

    def __init__(self, *, need_weights: bool = False) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(12, 4, dropout=0.1, batch_first=True)
        self.need_weights = need_weights

    def forward(self, x: Tensor) -> Tensor:
        """Mix the tokens, (B, N, D) to (B, N, D)."""
        mixed: Tensor = self.attn(x, x, x, need_weights=self.need_weights)[0]
        return x + mixed


@pytest.fixture
def slow_path() -> Any:
    """Turn off torch's fast path, which never calls scaled_dot_product_attention."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    yield
    torch.backends.mha.set_fastpath_enabled(before)


def test_torch_attention_in_training(images: Tensor) -> None:
    """nn.MultiheadAttention is read and replaced in train mode, with its own dropout."""
    block = TorchBlock().double()
    tap = Tap([block])
    tap.read([0])
    torch.manual_seed(0)
    expected = block(images)
    tap.replace(tap.calls)
    torch.manual_seed(0)
    torch.testing.assert_close(block(images), expected, atol=1e-12, rtol=0)


@pytest.mark.usefixtures("slow_path")
def test_torch_attention_in_evaluation(images: Tensor) -> None:
    """nn.MultiheadAttention is read in eval mode once the fast path is off."""
    block = TorchBlock().double().eval()
    tap = Tap([block])
    tap.read([0])
    with torch.no_grad():
        block(images)
    assert tap.calls[0].q.shape == (2, 4, 5, 3)


@pytest.mark.parametrize("need_weights", [False, True])
def test_torch_attention_that_makes_no_call(
    images: Tensor, monkeypatch: pytest.MonkeyPatch, *, need_weights: bool
) -> None:
    """The fast path, or a map that is asked for, is an error that names both switches."""
    block = TorchBlock(need_weights=need_weights).double().eval()
    tap = Tap([block])
    tap.read([0])
    monkeypatch.setattr(torch.backends.mha, "_is_fastpath_enabled", True)  # a tapped network turns it off
    with (
        pytest.raises(RuntimeError, match=r"need_weights=False .*set_fastpath_enabled\(False\)"),
        torch.no_grad(),
    ):
        block(images)
