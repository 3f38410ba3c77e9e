"""A network gives what its taps name, does no more than that, and uses the attention that is injected."""

import copy

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from vitkd_bench.contracts import Features, Network
from vitkd_bench.contracts.taps import LOGITS, POOLED, attention, tokens
from vitkd_bench.networks import ViTNetwork, create_student, read_architecture
from vitkd_bench.spec import Architecture, BadInputError, Components, PixelStats, Size

PIXELS = PixelStats(mean=(0.4,), std=(0.2,))
SIZE = Size(width=16, depth=4, heads=2)
PLAIN = Architecture(channels=1, image_size=6, patch=2, size=SIZE)
RICH = PLAIN.with_(
    registers=1,
    components=Components(layer_scale=0.1, relative_position_bias=True, position="none", qkv_bias="qv"),
)
EVERYTHING = frozenset({LOGITS, POOLED, *map(attention, range(4)), *map(tokens, range(4))})


def images(count: int = 3, channels: int = 1, side: int = 6) -> Tensor:
    """Pixels in [0, 1]."""
    return torch.rand(count, channels, side, side, generator=torch.Generator().manual_seed(0))


def answer(network: Network, *taps: str) -> Features:
    """Ask a network as methods do: by the contract, whoever built it."""
    return network(images(), frozenset(taps))


def student(architecture: Architecture = PLAIN, seed: int = 0) -> ViTNetwork:
    """A small student with weights large enough that its attention is far from uniform."""
    network = create_student(architecture, 5, PIXELS, seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(seed)) * 0.3)
    return network


def frozen(network: ViTNetwork) -> ViTNetwork:
    """A teacher with the weights of a student."""
    return ViTNetwork(copy.deepcopy(network.module), network.architecture, network.pixels, frozen=True)


def foreign() -> ViTNetwork:
    """A small timm model as a teacher, token pooling and all."""
    torch.manual_seed(0)
    module = timm.create_model("deit_tiny_patch16_224", depth=4, img_size=32, num_classes=5)
    stats = PixelStats(mean=(0.4,) * 3, std=(0.2,) * 3)
    return ViTNetwork(module, read_architecture(module), stats, frozen=True)


def same(one: Features, other: Features, block: int) -> bool:
    """Whether two forwards read the same attention in one block, to the last bit."""
    first, second = one.attention[block], other.attention[block]
    return all(torch.equal(getattr(first, name), getattr(second, name)) for name in "qkv")


@pytest.mark.parametrize("architecture", [PLAIN, RICH])
def test_a_student_gives_logits_and_pooled_unasked(architecture: Architecture) -> None:
    """Both come with every forward; pooled is what the head sees, and nothing else is read."""
    network = student(architecture)
    features = answer(network)
    assert features.logits is not None
    assert features.pooled is not None
    head = network.module.get_submodule("head")
    assert torch.equal(head(features.pooled), features.logits)
    assert not features.attention
    assert not features.tokens


def test_a_student_without_classes_has_no_logits() -> None:
    """A network for pretraining gives its pooled representation and no logits."""
    features = create_student(PLAIN, 0, PIXELS, 0)(images())
    assert features.logits is None
    assert features.pooled is not None
    assert features.pooled.shape == (3, 16)


@pytest.mark.parametrize("network", [frozen(student(PLAIN)), frozen(student(RICH)), foreign()])
def test_a_teacher_that_ends_early_reads_the_same(network: ViTNetwork) -> None:
    """Attention and tokens of a forward that ends early are those of the whole one, bit for bit."""
    pixels = images(3, network.architecture.channels, network.architecture.image_size)
    whole = network(pixels, EVERYTHING)
    assert whole.logits is not None
    for block in range(4):
        part = network(pixels, frozenset({attention(block)}))
        assert part.logits is None
        assert part.pooled is None
        assert list(part.attention) == [block]
        assert same(part, whole, block)
        deep = network(pixels, frozenset({tokens(block), attention(0)}))
        assert torch.equal(deep.tokens[block], whole.tokens[block])
        assert same(deep, whole, 0)
    assert whole.pooled is not None
    assert torch.equal(network(pixels, frozenset({POOLED})).pooled, whole.pooled)  # type: ignore[arg-type]


@pytest.mark.parametrize("network", [frozen(student(PLAIN)), foreign()])
def test_a_teacher_does_no_work_that_nobody_reads(network: ViTNetwork) -> None:
    """Each further tap costs more; nothing asked is nothing done."""
    pixels = images(2, network.architecture.channels, network.architecture.image_size)

    def cost(*taps: str) -> int:
        with FlopCounterMode(display=False) as counter:
            network(pixels, frozenset(taps))
        return counter.get_total_flops()

    rising = [cost(), cost(attention(0)), cost(tokens(0)), cost(attention(3)), cost(tokens(3)), cost(LOGITS)]
    assert rising[0] == 0
    assert rising[:5] == sorted(set(rising[:5]))
    assert cost(POOLED) == cost(tokens(3)) < cost(LOGITS)
    mlp = cost(tokens(0)) - cost(attention(0))
    assert cost(tokens(3)) - cost(attention(3)) == mlp > 0  # the deepest block's MLP is left out too


def test_an_early_end_leaves_nothing_behind() -> None:
    """After a forward that ended early the next ones are whole, tapped or not."""
    network = frozen(student(RICH))
    before = network(images(), EVERYTHING).logits
    network(images(), frozenset({attention(1)}))
    after = network(images(), frozenset({LOGITS})).logits
    assert before is not None
    assert after is not None
    assert torch.equal(before, after)


@pytest.mark.parametrize("architecture", [PLAIN, RICH])
def test_own_attention_injected_changes_nothing(architecture: Architecture) -> None:
    """A student that is given its own q, k and bias reproduces its output; another's attention changes it."""
    network, other = student(architecture), student(architecture, seed=1)
    whole = network(images(), EVERYTHING)
    calls = dict(whole.attention)
    network.clear()
    again = network(images(), frozenset(), calls).logits
    assert again is not None
    assert whole.logits is not None
    torch.testing.assert_close(again, whole.logits)
    network.clear()
    foreign_calls = other(images(), frozenset(map(attention, range(4)))).attention
    changed = network(images(), frozenset(), foreign_calls).logits
    assert changed is not None
    assert not torch.allclose(changed, whole.logits, atol=1e-3)
    network.clear()
    back = network(images()).logits
    assert back is not None
    assert torch.equal(back, whole.logits)


def test_injected_attention_silences_query_and_key() -> None:
    """Under injection the value part of qkv learns and the query and key parts get a gradient of zero."""
    network, teacher = student(), frozen(student(seed=1))
    calls = teacher(images(), frozenset({attention(2)})).attention
    logits = network(images(), frozenset(), calls).logits
    assert logits is not None
    logits.square().sum().backward()
    gradient = network.module.get_parameter("blocks.2.attn.qkv.weight").grad
    assert gradient is not None
    assert not gradient[:32].any()
    assert bool(gradient[32:].any())
    assert all(p.grad is None for p in teacher.parameters())


def test_a_copy_is_a_network_of_its_own() -> None:
    """A deep copy taps and watches itself: reading one leaves the other alone, weights are apart."""
    network = student(RICH)
    twin = copy.deepcopy(network)
    whole, copied = network(images(), EVERYTHING), twin(images(), EVERYTHING)
    assert torch.equal(whole.logits, copied.logits)  # type: ignore[arg-type]
    assert all(same(whole, copied, block) for block in range(4))
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.zero_()
    assert torch.equal(network(images(), EVERYTHING).logits, whole.logits)  # type: ignore[arg-type]
    assert not twin(images(), frozenset({tokens(3)})).tokens[3].any()
    assert twin.module is not network.module


def test_a_copy_after_a_forward_is_whole() -> None:
    """An averaged network is copied in the middle of training, after taps have been read."""
    network = student()
    whole = network(images(), frozenset({attention(1), tokens(2)}))
    network.clear()
    twin = copy.deepcopy(network)
    features = twin(images(), frozenset({attention(1), tokens(2)}))
    assert same(features, whole, 1)
    assert torch.equal(features.tokens[2], whole.tokens[2])


def test_a_frozen_network_stays_as_it_is() -> None:
    """It has no gradients, and `train` leaves it in eval mode."""
    network = frozen(create_student(PLAIN, 5, PIXELS, 0, drop_path=0.9))
    network.train()
    assert not any(part.training for part in network.modules())
    assert not any(p.requires_grad for p in network.parameters())
    one, two = (network(images(), frozenset({LOGITS})).logits for _ in range(2))
    assert torch.equal(one, two)  # type: ignore[arg-type]


def test_each_network_normalises_its_own_way() -> None:
    """Pixels in [0, 1] come in; mean and deviation are the network's."""
    network = student()
    expected = network.module((images() - 0.4) / 0.2)
    assert torch.equal(network(images()).logits, expected)  # type: ignore[arg-type]


@pytest.mark.parametrize("tap", ["attention/4", "tokens/-1", "tokens/x", "attention", "logit"])
def test_unknown_taps_are_named(tap: str) -> None:
    """A tap that the network does not have is an error, not an empty answer."""
    with pytest.raises(BadInputError, match=rf"tap '{tap}'.*blocks 0 to 3"):
        student()(images(), frozenset({tap}))


def test_what_does_not_fit_is_refused() -> None:
    """Logits without a head, pixels of another size, statistics of other channels: one line each."""
    headless = create_student(PLAIN, 0, PIXELS, 0)
    with pytest.raises(BadInputError, match="no head"):
        frozen(headless)(images(), frozenset({LOGITS}))
    with pytest.raises(BadInputError, match=r"\(3, 1, 8, 8\).*\(B, 1, 6, 6\)"):
        headless(images(side=8))
    with pytest.raises(BadInputError, match="3 means and 3 deviations for a network of 1 channels"):
        create_student(PLAIN, 5, PixelStats(mean=(0.0,) * 3, std=(1.0,) * 3), 0)


def test_the_state_is_that_of_the_bare_network() -> None:
    """Wrapping adds no tensor to what is stored, and the stored state dict is plain timm names."""
    network = student()
    reference = timm.models.VisionTransformer(
        img_size=6,
        patch_size=2,
        in_chans=1,
        num_classes=5,
        embed_dim=16,
        depth=4,
        num_heads=2,
        global_pool="avg",
    )
    assert isinstance(network, nn.Module)
    assert set(network.module.state_dict()) == set(reference.state_dict())
    assert {f"module.{name}" for name in reference.state_dict()} == set(network.state_dict())
