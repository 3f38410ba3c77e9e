"""Every set of components builds, runs, is read off as it is, and shares its weights with every other."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vitkd_bench.networks import ViT, create_student, differences, fingerprint, initialise, read_architecture
from vitkd_bench.networks.positions import relative_index
from vitkd_bench.spec import Architecture, BadInputError, Components, PixelStats, Size

PIXELS = PixelStats(mean=(0.4,), std=(0.2,))
PLAIN = Architecture(channels=1, image_size=6, patch=2, size=Size(width=16, depth=2, heads=2))

components = st.builds(
    Components,
    layer_scale=st.sampled_from([None, 1e-5, 0.1]),
    norm_pre=st.booleans(),
    relative_position_bias=st.booleans(),
    position=st.sampled_from(["learned", "fixed", "none"]),
    position_on_prefix=st.booleans(),
    qkv_bias=st.sampled_from(["full", "qv", "none"]),
    activation=st.sampled_from(["gelu", "gelu_tanh", "quick_gelu"]),
    patch_bias=st.booleans(),
    norm_eps=st.sampled_from([1e-6, 1e-5]),
)
architectures = st.builds(
    lambda c, token, registers: PLAIN.with_(components=c, class_token=token, registers=registers),
    components,
    st.booleans(),
    st.integers(0, 2),
)


@settings(max_examples=60, deadline=None)
@given(architectures)
def test_what_is_built_is_what_was_asked(architecture: Architecture) -> None:
    """The architecture read off a student is the one it was built from."""
    student = create_student(architecture, 5, PIXELS, seed=0)
    assert differences(architecture, read_architecture(student.module)) == []
    assert read_architecture(student.module).components.position == architecture.components.position


@settings(max_examples=60, deadline=None)
@given(architectures)
def test_every_set_of_components_runs_and_trains(architecture: Architecture) -> None:
    """Logits have the right shape, and every parameter that can matter gets a gradient."""
    student = create_student(architecture, 5, PIXELS, seed=0)
    features = student(torch.rand(2, 1, 6, 6), frozenset({"attention/1", "tokens/1"}))
    assert features.logits is not None
    assert features.pooled is not None
    assert features.logits.shape == (2, 5)
    assert features.pooled.shape == (2, 16)
    assert features.tokens[1].shape == (2, architecture.tokens, 16)
    assert features.attention[1].q.shape == (2, 2, architecture.tokens, 8)
    features.logits.square().sum().backward()
    assert [name for name, p in student.named_parameters() if p.grad is None] == []


@settings(max_examples=40, deadline=None)
@given(architectures, architectures)
def test_students_of_one_seed_share_what_they_have_in_common(one: Architecture, other: Architecture) -> None:
    """Parameters of equal name and shape have equal values, whatever other parts stand between them."""
    first = dict(create_student(one, 5, PIXELS, seed=3).module.named_parameters())
    second = dict(create_student(other, 5, PIXELS, seed=3).module.named_parameters())
    common = [n for n in first.keys() & second.keys() if first[n].shape == second[n].shape]
    assert "blocks.1.attn.qkv.weight" in common
    drawn = [name for name in common if "ls" not in name]  # two initial values of layer scale may differ
    assert [name for name in drawn if not torch.equal(first[name], second[name])] == []


def test_weights_depend_on_the_seed_alone() -> None:
    """Neither reads nor moves torch's global random state; another seed gives other weights everywhere."""
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one = create_student(PLAIN, 5, PIXELS, seed=0)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    again = create_student(PLAIN, 5, PIXELS, seed=0)
    other = create_student(PLAIN, 5, PIXELS, seed=1)
    state, same, changed = (n.module.state_dict() for n in (one, again, other))
    assert all(torch.equal(state[name], same[name]) for name in state)
    constant = ("norm", "bias")
    drawn = [n for n in state if not any(c in n for c in constant)]
    assert not any(torch.equal(state[name], changed[name]) for name in drawn)


def test_no_two_parameters_share_their_draw() -> None:
    """Parameters of one shape, in one block or in two, have different weights."""
    state = create_student(PLAIN, 5, PIXELS, seed=0).module.state_dict()
    drawn = [t for name, t in state.items() if name.endswith("weight") and "norm" not in name]
    pairs = [(a, b) for i, a in enumerate(drawn) for b in drawn[:i] if a.shape == b.shape]
    assert len(pairs) == 4  # qkv, proj, fc1 and fc2 of the two blocks
    assert not any(torch.equal(a, b) for a, b in pairs)


def test_weights_follow_timm_s_law() -> None:
    """Deviations, bounds, zeros and ones are those of timm's default initialisation."""
    wide = Size(width=192, depth=2, heads=3)
    extras = Components(layer_scale=0.1, norm_pre=True, relative_position_bias=True, qkv_bias="qv")
    architecture = Architecture(image_size=32, patch=8, size=wide, components=extras)
    vit = ViT(architecture, num_classes=50)
    initialise(vit, seed=0)
    weights = {name: parameter.detach() for name, parameter in vit.named_parameters()}
    for name in ("blocks.0.attn.qkv.weight", "blocks.1.mlp.fc2.weight", "head.weight", "pos_embed"):
        assert float(weights[name].std()) == pytest.approx(0.02, rel=0.05)
        assert abs(float(weights[name].mean())) < 1e-3
    bound = 1 / math.sqrt(3 * 8 * 8)
    for name in ("patch_embed.proj.weight", "patch_embed.proj.bias"):
        assert float(weights[name].abs().max()) <= bound
        assert float(weights[name].std()) == pytest.approx(bound / math.sqrt(3), rel=0.1)
    assert 0 < float(weights["cls_token"].abs().max()) < 1e-5
    zero = ("blocks.0.attn.q_bias", "blocks.0.attn.relative_position_bias_table", "blocks.1.mlp.fc1.bias")
    assert all(not weights[name].any() for name in (*zero, "head.bias", "norm_pre.bias"))
    assert all(bool((weights[name] == 1).all()) for name in ("blocks.0.norm1.weight", "fc_norm.weight"))
    assert bool((weights["blocks.1.ls2.gamma"] == 0.1).all())


def test_a_part_without_a_law_is_an_error() -> None:
    """A new parameter is not left with whatever torch's constructor drew."""
    vit = ViT(PLAIN)
    vit.register_parameter("novelty", torch.nn.Parameter(torch.zeros(3)))
    with pytest.raises(LookupError, match="novelty"):
        initialise(vit, seed=0)


def test_relative_bias_depends_on_the_offset_alone() -> None:
    """Pairs of patches with one offset share a row, others do not; each prefix token stands as BEiT's one."""
    grid, prefix = 3, 2
    index = relative_index(grid, prefix)
    seen: dict[tuple[int, int], int] = {}
    for i in range(grid**2):
        for j in range(grid**2):
            offset = (i // grid - j // grid, i % grid - j % grid)
            row = int(index[prefix + i, prefix + j])
            assert seen.setdefault(offset, row) == row
    assert len(set(seen.values())) == len(seen) == (2 * grid - 1) ** 2
    rows = (2 * grid - 1) ** 2
    assert set(index[:prefix, prefix:].flatten().tolist()) == {rows}
    assert set(index[prefix:, :prefix].flatten().tolist()) == {rows + 1}
    assert set(index[:prefix, :prefix].flatten().tolist()) == {rows + 2}


def test_tokens_can_be_left_out_only_without_relative_bias() -> None:
    """MAE drops masked patches before the blocks; a relative table has no rows for a part of the grid."""
    tokens = torch.rand(2, 4, 16)
    assert ViT(PLAIN).encode(tokens).shape == (2, 4, 16)
    relative = PLAIN.with_(components=Components(relative_position_bias=True))
    with pytest.raises(BadInputError, match="relative_position_bias: 4 tokens where the table is for 10"):
        ViT(relative).encode(tokens)


def test_stages_make_up_the_forward() -> None:
    """embed, encode, pool and head in a row are the forward; pooling leaves the prefix out."""
    vit = ViT(PLAIN.with_(registers=2), num_classes=5)
    initialise(vit, seed=0)
    pixels = torch.randn(3, 1, 6, 6)
    tokens = vit.encode(vit.embed(pixels))
    assert torch.equal(vit.head(vit.pool(tokens)), vit(pixels))
    moved = tokens.clone()
    moved[:, :3] += 10
    assert torch.equal(vit.pool(moved), vit.pool(tokens))


def test_drop_path_rises_along_the_depth() -> None:
    """The first block never drops, the last one at the given rate, and only in training."""
    student = create_student(PLAIN, 5, PIXELS, seed=0, drop_path=0.5)
    rates = [getattr(block.get_submodule("drop_path1"), "drop_prob", 0.0) for block in student.blocks]
    assert rates == [0.0, 0.5]
    pixels, taps = torch.rand(400, 1, 6, 6), frozenset({"tokens/0", "tokens/1"})
    torch.manual_seed(0)
    for training, share in ((True, 0.25), (False, 0.0)):
        tokens = student.train(training)(pixels, taps).tokens
        untouched = (tokens[0] == tokens[1]).flatten(1).all(dim=1)
        assert float(untouched.float().mean()) == pytest.approx(share, abs=0.08)  # both branches dropped


def test_a_width_that_a_fixed_position_cannot_have_is_refused() -> None:
    """2D sin-cos needs four equal parts of the width."""
    odd = PLAIN.with_(size=Size(width=18, depth=1, heads=2), components=Components(position="fixed"))
    with pytest.raises(BadInputError, match="width divisible by 4, got 18"):
        create_student(odd, 5, PIXELS, seed=0)


@settings(max_examples=30, deadline=None)
@given(architectures, architectures)
def test_fingerprints_tell_structures_apart(one: Architecture, other: Architecture) -> None:
    """Equal fingerprints mean equal names and shapes; weights and seeds do not show in it."""
    first, second = (create_student(a, 5, PIXELS, seed=i) for i, a in enumerate((one, other)))
    shapes = [{k: v.shape for k, v in n.module.state_dict().items()} for n in (first, second)]
    counts = [sum(p.numel() for p in n.parameters()) for n in (first, second)]
    alike = shapes[0] == shapes[1] and counts[0] == counts[1]
    assert (fingerprint(first) == fingerprint(second)) == alike
    assert fingerprint(first) == fingerprint(create_student(one, 5, PIXELS, seed=9))
