"""The tap under torch.compile: a network compiled whole leaves its graph at attention and is read there."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from vitkd_bench.attention import AttentionCall
from vitkd_bench.contracts.taps import POOLED, attention, tokens
from vitkd_bench.networks import ViTNetwork, build_teacher
from vitkd_bench.registry import TEACHERS

TAPS = frozenset({POOLED, tokens(0), attention(0), attention(11)})
HEADS = 3


def network(name: str) -> ViTNetwork:
    """A teacher of a quarter of its width with random weights, at four patches a side."""
    teacher = TEACHERS.get(name)
    full = teacher.architecture
    size = full.size.model_copy(update={"width": full.size.width // 4, "heads": HEADS})
    architecture = full.with_(image_size=4 * full.patch, size=size)
    source = teacher.source()
    told = {**source.arguments, "embed_dim": size.width, "num_heads": HEADS}
    narrow = teacher.model_copy(update={"sources": (source.model_copy(update={"arguments": told}),)})
    torch.manual_seed(0)
    return ViTNetwork(build_teacher(narrow, architecture), architecture, teacher.pixels).eval()


def pixels(of: ViTNetwork) -> Tensor:
    """Two images."""
    side = of.architecture.image_size
    return torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(1))


@pytest.fixture(autouse=True)
def _forget_what_was_compiled() -> Iterator[None]:
    yield
    torch.compiler.reset()


# torch looks at the gradient of every tensor that it guards, leaf or not
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")
@pytest.mark.parametrize("name", ["deit/s", "dinov2_reg/s14", "beitv2/b", "clip/b16"])
def test_a_compiled_network_reads_and_injects(name: str) -> None:
    """Maps, tokens, injected attention and gradients are those of the network without compilation."""
    plain, compiled = network(name), network(name)
    compiled.module.compile(backend="aot_eager")
    own, ours = plain(pixels(plain), TAPS), compiled(pixels(compiled), TAPS)
    for index in (0, 11):
        torch.testing.assert_close(
            ours.attention[index].maps(), own.attention[index].maps(), atol=1e-5, rtol=0
        )
    torch.testing.assert_close(ours.tokens[0], own.tokens[0], atol=1e-5, rtol=1e-5)
    foreign = {i: replace(call.detach(), scale=100 * call.scale) for i, call in own.attention.items()}
    expected, found, uninjected = gradient(plain, foreign), gradient(compiled, foreign), gradient(plain, {})
    assert (found - expected).norm() < 1e-5 * expected.norm()
    assert (uninjected - expected).norm() > 1e-3 * expected.norm()


def gradient(of: ViTNetwork, inject: dict[int, AttentionCall]) -> Tensor:
    """Of the pooled representation's squares, in the values of the first block's attention."""
    of.module.zero_grad()
    pooled = of(pixels(of), frozenset({POOLED}), inject).pooled
    assert pooled is not None
    pooled.square().sum().backward()
    weight = of.module.get_parameter("blocks.0.attn.qkv.weight")
    of.clear()
    assert weight.grad is not None
    return weight.grad[2 * weight.shape[1] :].clone()
