from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from vitkd_bench.attention import AttentionCall, Tap, tap
from vitkd_bench.attention.visit import Visit

MakeVit = Callable[..., Any]


def read_all(network: Any, images: Tensor) -> dict[int, AttentionCall]:
    """Read every block of a network once, detached."""
    own = Tap(network.blocks)
    own.read(range(len(network.blocks)))
    network(images)
    calls = {index: call.detach() for index, call in own.calls.items()}
    own.remove()
    return calls


def grouped(q: Tensor, k: Tensor, v: Tensor, **options: Any) -> Tensor:
    """Attend with one head of keys and values for all queries."""
    return F.scaled_dot_product_attention(q, k[:, :1], v[:, :1], enable_gqa=True, **options)


def causal(q: Tensor, k: Tensor, v: Tensor, **options: Any) -> Tensor:
    """Attend to what came before."""
    return F.scaled_dot_product_attention(q, k, v, is_causal=True, **options)


def masked(q: Tensor, k: Tensor, v: Tensor, **options: Any) -> Tensor:
    """Attend to all but the second key."""
    mask = torch.tensor([True, False, True, True, True]).expand(5, 5)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, **options)


def biased(q: Tensor, k: Tensor, v: Tensor, **options: Any) -> Tensor:
    """Attend with a bias and a scale of one's own."""
    bias = torch.arange(25.0, dtype=q.dtype).sin().view(5, 5)
    return F.scaled_dot_product_attention(q, k, v, bias, scale=0.9, **options)


def unfused(q: Tensor, k: Tensor, v: Tensor, **_: Any) -> Tensor:
    """Attend without the function at which the tap stands."""
    return (q @ k.mT).softmax(dim=-1) @ v


def twice(q: Tensor, k: Tensor, v: Tensor, **options: Any) -> Tensor:
    """Attend twice, as differential attention does."""
    return F.scaled_dot_product_attention(q, k, v, **options) - F.scaled_dot_product_attention(
        k, q, v, **options
    )


def flat(q: Tensor, k: Tensor, v: Tensor, **options: Any) -> Tensor:
    """Attend with batch and heads folded into one."""
    q3, k3, v3 = q.flatten(0, 1), k.flatten(0, 1), v.flatten(0, 1)
    return F.scaled_dot_product_attention(q3, k3, v3, **options).view_as(q)


@pytest.mark.parametrize("attend", [None, grouped, causal, masked, biased])
def test_what_is_read_is_what_the_network_does(make_vit: MakeVit, images: Tensor, attend: Any) -> None:
    """Map times values of each call is the output of that block's attention, for every kind of call."""
    network, outputs = make_vit(attend=attend), []
    for block in network.blocks:
        block.proj.register_forward_pre_hook(lambda _, args: outputs.append(args[0]))
    for index, call in read_all(network, images).items():
        mixed = (call.maps() @ call.v).transpose(1, 2).flatten(2)
        torch.testing.assert_close(mixed, outputs[index], atol=1e-12, rtol=0)


@pytest.mark.parametrize("attend", [None, grouped, causal, masked, biased])
def test_copying_own_calls_changes_nothing(make_vit: MakeVit, images: Tensor, attend: Any) -> None:
    """A network that is given its own attention gives its own output."""
    network = make_vit(attend=attend)
    expected, calls, own = network(images), read_all(network, images), Tap(network.blocks)
    own.replace(calls)
    torch.testing.assert_close(network(images), expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("layers", [[], [1], [2, 0], [0, 1, 2]])
def test_only_armed_blocks_are_read(make_vit: MakeVit, images: Tensor, layers: list[int]) -> None:
    """A subset of the blocks is read; the others stay as they are."""
    network = make_vit()
    everything, own = read_all(network, images), Tap(network.blocks)
    own.read(layers)
    network(images)
    assert sorted(layers) == sorted(own.calls)
    for layer in layers:
        assert torch.equal(everything[layer].q, own.calls[layer].q)


@pytest.mark.parametrize("layers", [[0], [1, 2], [0, 1, 2]])
def test_only_armed_blocks_are_replaced(make_vit: MakeVit, images: Tensor, layers: list[int]) -> None:
    """Replaced blocks mix tokens with the maps given and values of their own; the others go on as before."""
    network, given = make_vit(), read_all(make_vit(seed=5), images)
    own = Tap(network.blocks)
    own.replace({layer: given[layer] for layer in layers})
    copied = network(images)
    own.clear()

    def by_hand(index: int) -> Callable[..., Tensor] | None:
        return (lambda q, k, v, **_: given[index].maps() @ v) if index in layers else None  # noqa: ARG005

    before = network(images)
    for index, block in enumerate(network.blocks):
        block.attend = by_hand(index)
    torch.testing.assert_close(copied, network(images), atol=1e-12, rtol=0)
    assert not torch.allclose(copied, before, atol=1e-4)


def test_gradients_flow_through_what_is_read(make_vit: MakeVit, images: Tensor) -> None:
    """A loss on the maps that were read trains the block's own projection of queries and keys."""
    network = make_vit()
    own = Tap(network.blocks)
    own.read([1])
    network(images)
    own.calls[1].maps().square().sum().backward()
    to_q, to_k, to_v = network.blocks[1].qkv.weight.grad.chunk(3)
    assert to_q.count_nonzero() > 0
    assert to_k.count_nonzero() > 0
    assert to_v.count_nonzero() == 0


def test_copied_blocks_train_values_only(make_vit: MakeVit, images: Tensor) -> None:
    """Under copy the block's own queries and keys get a gradient of exactly zero, its values do not."""
    network, given = make_vit(), read_all(make_vit(seed=5), images)
    own = Tap(network.blocks)
    own.replace({0: given[0]})
    network(images).square().sum().backward()
    to_q, to_k, to_v = network.blocks[0].qkv.weight.grad.chunk(3)
    assert to_q.count_nonzero() == to_k.count_nonzero() == 0
    assert to_v.count_nonzero() > 0
    assert network.blocks[1].qkv.weight.grad.chunk(3)[0].count_nonzero() > 0


def test_replaced_blocks_can_be_read(make_vit: MakeVit, images: Tensor) -> None:
    """A block that is both read and replaced shows its own queries and keys, not the ones given."""
    network, given = make_vit(), read_all(make_vit(seed=5), images)
    mine, own = read_all(network, images), Tap(network.blocks)
    own.read([0])
    own.replace({0: given[0]})
    network(images)
    assert torch.equal(mine[0].q, own.calls[0].q)


def test_dropout_stays_the_networks_own(make_vit: MakeVit, images: Tensor) -> None:
    """Attention dropout acts on the map that was given, in training only."""
    network = make_vit(dropout=0.3)
    network.eval()
    calls, own = read_all(network, images), Tap(network.blocks)
    own.replace(calls)
    still = network(images)
    assert torch.equal(still, network(images))
    network.train()
    own.replace({0: calls[0]})
    torch.manual_seed(3)
    copied = network(images)
    own.clear()
    torch.manual_seed(3)
    torch.testing.assert_close(copied, network(images), atol=1e-12, rtol=0)
    assert not torch.allclose(copied, still)


def test_autocast_is_seen_through(make_vit: MakeVit, images: Tensor) -> None:
    """Under autocast the queries are read in half precision, and own calls give the same output."""
    network = make_vit().float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        expected, calls = network(images.float()), read_all(network, images.float())
        own = Tap(network.blocks)
        own.replace(calls)
        copied = network(images.float())
    assert calls[0].q.dtype == torch.bfloat16
    assert calls[0].maps().dtype == torch.float32
    torch.testing.assert_close(copied, expected, atol=2e-2, rtol=0)


def test_last_forward_counts(make_vit: MakeVit, images: Tensor) -> None:
    """A second forward replaces what the first one read, and clearing forgets it."""
    network = make_vit()
    own = Tap(network.blocks)
    own.read([0, 2])
    network(images)
    first = own.calls
    network(2 * images)
    assert not torch.equal(first[0].q, own.calls[0].q)
    own.clear()
    assert own.calls == {}
    network(images)
    assert own.calls == {}


def test_what_was_not_reached_is_an_error(make_vit: MakeVit, images: Tensor) -> None:
    """Blocks that no forward has reached are named; nothing of an earlier forward stands in for them."""
    network = make_vit()
    own = Tap(network.blocks)
    own.read([0, 2])
    with pytest.raises(RuntimeError, match=r"blocks \[0, 2\]"):
        _ = own.calls
    network(images)
    network.blocks[0](images)
    with pytest.raises(RuntimeError, match=r"blocks \[2\]"):
        _ = own.calls


@pytest.mark.parametrize("layer", [-1, 3])
def test_layers_that_are_not_there_are_refused(make_vit: MakeVit, layer: int) -> None:
    """A layer below 0 or beyond the depth is refused, for reading and for replacing."""
    own = Tap(make_vit().blocks)
    with pytest.raises(ValueError, match=f"layer {layer} .* 3 blocks: they count from 0 to 2"):
        own.read([0, layer])
    with pytest.raises(ValueError, match=f"layer {layer} "):
        own.replace({layer: None})  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("attend", "said"),
    [
        (unfused, r"block 1 .* made no call .*set_fused_attn\(True\)"),
        (twice, "block 1 calls .* more than once"),
        (flat, r"block 1 .* \(6, 5, 4\)"),
    ],
)
def test_a_block_makes_one_call(make_vit: MakeVit, images: Tensor, attend: Any, said: str) -> None:
    """No call, a second call or a folded one is an error that names the block, and only where it is armed."""
    network, given = make_vit(), read_all(make_vit(), images)
    network.blocks[1].attend = attend
    own = Tap(network.blocks)
    own.read([0, 2])
    network(images)
    own.read([1])
    with pytest.raises(RuntimeError, match=said):
        network(images)
    own.clear()
    own.replace({1: given[1]})
    with pytest.raises(RuntimeError, match=said):
        network(images)


@pytest.mark.parametrize("differing", [{"heads": 4}, {"heads": 1}])
def test_a_replacement_must_fit(make_vit: MakeVit, images: Tensor, differing: dict[str, int]) -> None:
    """Other heads, tokens or another batch are refused with the block's name, before anything broadcasts."""
    own = Tap(make_vit().blocks)
    for given in (
        read_all(make_vit(**differing), images),
        read_all(make_vit(), images[:1]),
        read_all(make_vit(), images[:, :4]),
    ):
        own.replace({2: given[2]})
        with pytest.raises(ValueError, match="block 2 cannot use the attention given"):
            own.blocks[2](images)


def test_what_is_not_armed_is_not_visited(
    make_vit: MakeVit, images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blocks that are not armed, and the attention of a pooling head, go straight through."""
    visited: list[int] = []

    class Counted(Visit):
        def attend(self, *args: Any, **kwargs: Any) -> Tensor:
            visited.append(self.index)
            return super().attend(*args, **kwargs)

    monkeypatch.setattr(tap, "Visit", Counted)
    network = make_vit()
    expected, own = network(images), Tap(network.blocks)
    assert torch.equal(expected, network(images))
    assert visited == []
    own.read([1])
    assert torch.equal(expected, network(images))
    assert visited == [1]
