"""Of every teacher and every library that builds it: what the tap reads is what the library attends with."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vitkd_bench.attention import AttentionCall, attention_distillation
from vitkd_bench.contracts.taps import POOLED, attention, tokens
from vitkd_bench.networks import ViTNetwork, build_teacher
from vitkd_bench.networks.anatomy import anatomy_of, part
from vitkd_bench.registry import TEACHERS
from vitkd_bench.spec import Architecture, Teacher, WeightSource

DEPTH, SIDE = 2, 4  # blocks kept of each network, patches along a side
MAPS = frozenset(map(attention, range(DEPTH)))
TOKENS = frozenset({POOLED, tokens(0), tokens(DEPTH - 1)})


Way = tuple[Teacher, WeightSource]


def ways() -> Iterator[Way]:
    """Every teacher by every library; official files go into networks of timm, and are taken once."""
    for teacher in TEACHERS:
        seen = []
        for source in teacher.sources:
            built = (library(source), source.model.partition(".")[0], source.arguments)
            if built not in seen:
                seen.append(built)
                yield teacher, source


def distinct(of: list[Way]) -> Iterator[Way]:
    """Those among them that differ in architecture or in the class that is built; large reserves left out."""
    seen = []
    for teacher, source in of:
        kind = source.model if source.backend == "transformers" else library(source)
        built = (kind, teacher.architecture, source.arguments)
        if built not in seen and not (teacher.group == "reserve" and teacher.architecture.size.width > 768):
            seen.append(built)
            yield teacher, source


def library(source: WeightSource) -> str:
    """Whose classes a source builds."""
    return "timm" if source.backend == "official" else source.backend


def named(way: Way) -> str:
    """What a test is called."""
    teacher, source = way
    return f"{teacher.name}-{source.backend}-{source.model}"


WAYS = list(ways())
every_way = pytest.mark.parametrize("way", list(distinct(WAYS)), ids=named, indirect=True)


def unfilled(teacher: Teacher, source: WeightSource, architecture: Architecture) -> nn.Module:
    """The network that one source builds, on the meta device but for its buffers."""
    alone = teacher.model_copy(update={"sources": (source,)})
    return build_teacher(alone, architecture, unfilled=True)


def shortened(module: nn.Module) -> nn.Module:
    """Keep the first blocks alone, and fill everything with numbers that make uneven maps."""
    path = anatomy_of(module).blocks
    blocks = module.get_submodule(path)
    owner, _, name = path.rpartition(".")
    kept = list(blocks.children())[:DEPTH]
    short = nn.Sequential(*kept) if isinstance(blocks, nn.Sequential) else nn.ModuleList(kept)
    setattr(module.get_submodule(owner), name, short)
    random = torch.Generator().manual_seed(0)
    for inner in module.modules():
        for key, parameter in list(inner.named_parameters(recurse=False)):
            numbers = torch.randn(parameter.shape, generator=random)
            if parameter.dim() > 1:
                numbers *= 1.5 * parameter[0].numel() ** -0.5
            elif isinstance(inner, nn.LayerNorm) and key == "weight":
                numbers = 1 + 0.2 * numbers
            setattr(inner, key, nn.Parameter(numbers))
    return module


@pytest.fixture(scope="module")
def way(request: pytest.FixtureRequest) -> ViTNetwork:
    """A network of real width and two blocks, as one library builds it."""
    teacher, source = request.param
    architecture = teacher.architecture.with_(image_size=SIDE * teacher.architecture.patch)
    module = shortened(unfilled(teacher, source, architecture))
    short = architecture.with_(size=architecture.size.model_copy(update={"depth": DEPTH}))
    return ViTNetwork(module, short, teacher.pixels).eval()


def pixels(network: ViTNetwork) -> Tensor:
    """Two images."""
    side = network.architecture.image_size
    return torch.rand(
        2, network.architecture.channels, side, side, generator=torch.Generator().manual_seed(1)
    )


def calls(network: ViTNetwork) -> dict[int, AttentionCall]:
    """Read every block, without gradients."""
    with torch.no_grad():
        seen = dict(network(pixels(network), MAPS).attention)
    network.clear()
    return seen


def eager_maps(network: ViTNetwork) -> list[Tensor]:
    """The maps that the library itself makes when it is asked for them."""
    found: list[Tensor] = []
    module: Any = network.module
    handles = []
    for block in network.blocks:
        layer: Any = part(block, network.anatomy.attention)
        if isinstance(layer, nn.MultiheadAttention):
            asked = {"need_weights": True, "average_attn_weights": False}
            handles += [
                layer.register_forward_pre_hook(
                    lambda _, a, k, asked=asked: (a, k | asked), with_kwargs=True
                ),
                layer.register_forward_hook(lambda _, args, out: found.append(out[1])),  # noqa: ARG005
            ]
        elif hasattr(layer, "fused_attn"):
            layer.fused_attn = False
            drop = layer.attn_drop
            handles.append(drop.register_forward_hook(lambda _, args, out: found.append(args[0])))  # noqa: ARG005
        else:
            module.config._attn_implementation = "eager"
            handles.append(layer.register_forward_hook(lambda _, args, out: found.append(out[1])))  # noqa: ARG005
    with torch.no_grad():
        module(network.normalise(pixels(network)))
    for handle in handles:
        handle.remove()
    for block in network.blocks:
        layer = part(block, network.anatomy.attention)
        if hasattr(layer, "fused_attn"):
            layer.fused_attn = True
    if hasattr(module, "config"):
        module.config._attn_implementation = "sdpa"
    return found


@every_way
def test_maps_are_the_librarys_own(way: ViTNetwork) -> None:
    """What is read gives the maps that the library gives when it attends without the fused function."""
    seen, eager = calls(way), eager_maps(way)
    assert len(eager) == DEPTH
    for index, maps in enumerate(eager):
        assert seen[index].maps().std() > 1e-3  # uneven: a map of ones would agree with any scale
        torch.testing.assert_close(seen[index].maps(), maps, atol=1e-5, rtol=1e-4)


def inputs(network: ViTNetwork) -> list[Tensor]:
    """What each block's attention is given, (B, N, D)."""
    found: list[Tensor] = []

    def keep(_: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Tensor]) -> None:
        found.append(args[0] if args else kwargs["hidden_states"])

    handles = [
        part(block, network.anatomy.attention).register_forward_pre_hook(keep, with_kwargs=True)
        for block in network.blocks
    ]
    with torch.no_grad():
        network.module(network.normalise(pixels(network)))
    for handle in handles:
        handle.remove()
    return found


def projected(layer: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    """Queries and keys of one attention layer, in float64, (B, N, D) each."""
    x = x.double()
    if hasattr(layer, "qkv") and layer.qkv is not None:
        weight, bias = layer.qkv.weight.double(), layer.qkv.bias
        if bias is None:
            zero = weight.new_zeros(len(weight) // 3)
            q_bias = getattr(layer, "q_bias", None)
            bias = torch.cat([zero if q_bias is None else q_bias.double(), zero, zero])
        q, k, _ = (x @ weight.mT + bias.double()).chunk(3, dim=-1)
    elif isinstance(layer, nn.MultiheadAttention):
        q, k, _ = (x @ layer.in_proj_weight.double().mT + layer.in_proj_bias.double()).chunk(3, dim=-1)
    else:
        q, k = (
            x @ p.weight.double().mT + (0 if p.bias is None else p.bias.double())
            for p in (layer.q_proj, layer.k_proj)
        )
    return q, k


def relative_bias(table: Tensor) -> Tensor:
    """BEiT's table (R, H) as a bias (H, N, N): a row an offset of two patches, three for the class token."""
    places = [(row, column) for row in range(SIDE) for column in range(SIDE)]
    rows, far = len(table), 2 * SIDE - 1
    index = torch.empty(SIDE**2 + 1, SIDE**2 + 1, dtype=torch.long)
    index[0, :], index[:, 0], index[0, 0] = rows - 3, rows - 2, rows - 1
    for i, (a, b) in enumerate(places):
        for j, (c, d) in enumerate(places):
            index[i + 1, j + 1] = (a - c + SIDE - 1) * far + (b - d + SIDE - 1)
    return table.double()[index].permute(2, 0, 1)


def tables(network: ViTNetwork) -> list[Tensor | None]:
    """The relative table that each block attends with: its own, the shared one, or none."""
    named = {n: p for n, p in network.module.named_parameters() if n.endswith("relative_position_bias_table")}
    own = [p for name, p in named.items() if any(part.isdigit() for part in name.split("."))]
    return list(own) if own else [next(iter(named.values()), None)] * DEPTH


@every_way
def test_maps_are_softmax_of_scaled_products(way: ViTNetwork) -> None:
    """They are the softmax of queries times keys over the root of the head's width, plus a relative bias."""
    if way.architecture.components.rope != "none" or way.architecture.components.qk_norm:
        pytest.skip("queries and keys are turned or normed on the way: held by the library's own maps")
    seen, heads = calls(way), way.architecture.size.heads
    for index, (x, table) in enumerate(zip(inputs(way), tables(way), strict=True)):
        q, k = (
            y.unflatten(-1, (heads, -1)).transpose(1, 2)
            for y in projected(part(way.blocks[index], way.anatomy.attention), x)
        )
        logits = q @ k.mT / q.shape[-1] ** 0.5
        plain = (logits if table is None else logits + relative_bias(table)).softmax(dim=-1)
        torch.testing.assert_close(seen[index].maps().double(), plain, atol=1e-5, rtol=1e-3)


@every_way
@pytest.mark.parametrize("training", [False, True])
def test_own_calls_reproduce_the_output(way: ViTNetwork, *, training: bool) -> None:
    """What was read, injected, gives tokens and pooled features again; another block's gives others."""
    seen = calls(way)
    way.train(training)
    with torch.no_grad():
        own = way(pixels(way), TOKENS)
        again = way(pixels(way), TOKENS, seen)
        other = way(pixels(way), TOKENS, {1: seen[0]})
    way.clear()
    way.eval()
    for index, expected in own.tokens.items():
        assert float((again.tokens[index] - expected).abs().max() / expected.abs().max()) < 1e-5
    torch.testing.assert_close(again.pooled, own.pooled, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(other.tokens[1], own.tokens[1], atol=1e-3)
    assert own.tokens[0].shape == (2, way.architecture.tokens, way.architecture.size.width)


@every_way
def test_own_calls_reproduce_the_output_under_autocast(way: ViTNetwork) -> None:
    """In bfloat16, of eight bits, the tokens agree to 2^-6 of their largest value: four units in its last."""
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        own = way(pixels(way), TOKENS | MAPS)
        again = way(pixels(way), TOKENS, dict(own.attention))
    assert own.attention[1].q.dtype == torch.bfloat16
    way.clear()
    largest = float(own.tokens[1].abs().max())
    torch.testing.assert_close(again.tokens[1], own.tokens[1], atol=largest * 2**-6, rtol=0)


def gradients(network: ViTNetwork, given: dict[int, AttentionCall]) -> dict[str, Tensor]:
    """One training step that reads the last block and uses a given map in the first."""
    network.zero_grad()
    features = network(pixels(network), MAPS - {attention(0)}, given)
    assert features.pooled is not None
    target = calls_of(features.attention[DEPTH - 1])
    loss = features.pooled.square().mean() + attention_distillation(features.attention[DEPTH - 1], target)
    loss.backward()
    network.clear()
    return {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}


def calls_of(call: AttentionCall) -> AttentionCall:
    """A target that differs from what is read: keys in another order."""
    return AttentionCall(
        call.q.detach(),
        call.k.detach().flip(2),
        call.v.detach(),
        None if call.bias is None else call.bias.detach(),
        call.scale,
    )


def checkpointed(network: ViTNetwork, *, on: bool) -> None:
    """Switch the library's own activation checkpointing."""
    module: Any = network.module
    if not hasattr(module, "activation_checkpointing_enable"):
        module.set_grad_checkpointing(on)
    elif on:
        module.activation_checkpointing_enable({"use_reentrant": False})
    else:
        module.activation_checkpointing_disable()


@every_way
def test_checkpointing_keeps_the_gradients(way: ViTNetwork) -> None:
    """Gradients with the library's own checkpointing, around blocks or within them, are those without it."""
    given = {0: calls(way)[0]}
    runs: list[int] = []
    way.train()
    expected = gradients(way, given)
    first = part(way.blocks[0], way.anatomy.attention)
    counting = first.register_forward_pre_hook(lambda *_: runs.append(1))
    checkpointed(way, on=True)
    try:
        actual = gradients(way, given)
    finally:
        checkpointed(way, on=False)
        counting.remove()
        way.eval()
    assert len(runs) == 2  # once forward, once again in backward
    assert expected.keys() == actual.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(actual[name], gradient, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("way", WAYS, ids=named)
def test_as_many_calls_as_blocks(way: tuple[Teacher, WeightSource]) -> None:
    """At full depth every block makes one call that is seen, and nothing else is."""
    teacher, source = way
    architecture = teacher.architecture
    module = unfilled(teacher, source, architecture).to("meta").eval()
    network = ViTNetwork(module, architecture, teacher.pixels, frozen=True).to("meta")
    side = architecture.image_size
    wanted = frozenset(map(attention, range(architecture.size.depth))) | {POOLED}
    features = network(torch.empty(1, architecture.channels, side, side, device="meta"), wanted)
    assert sorted(features.attention) == list(range(architecture.size.depth))
    head = architecture.size.width // architecture.size.heads
    for call in features.attention.values():
        assert call.q.shape == (1, architecture.size.heads, architecture.tokens, head)
    assert features.pooled is not None
    assert features.pooled.shape == (1, architecture.size.width)
