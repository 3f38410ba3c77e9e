"""Rotary positions, norms of q and k, gated MLPs: ours are timm's, with timm's own weights."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
from timm.layers import GluMlp
from torch import nn

from vitkd_bench.networks import ViT, create_student, differences, read_architecture
from vitkd_bench.spec import Architecture, BadInputError, Components, PixelStats, Size

PIXELS = PixelStats(mean=(0.4,), std=(0.2,))
EVA02 = Components(qkv_bias="qv", rope="eva02", mlp="swiglu")
DINOV3 = Components(
    layer_scale=1e-5,
    position="none",
    qkv_bias="none",
    norm_eps=1e-5,
    rope="dinov3",
)
CASES: dict[str, tuple[str, dict[str, Any], Components]] = {
    # four patches a side, not the sixteen of its own training: the grid is scaled
    "eva02": ("eva02_small_patch14_224", {"img_size": 56}, EVA02),
    "dinov3": ("vit_small_patch16_dinov3", {"img_size": 64, "use_fc_norm": True}, DINOV3),
    "qk_norm": (
        "eva02_small_patch14_224",
        {"img_size": 56, "qk_norm": True},
        EVA02.model_copy(update={"qk_norm": True}),
    ),
    "glu": (
        "vit_small_patch16_224",
        {"img_size": 64, "mlp_layer": GluMlp, "global_pool": "avg", "fc_norm": True, "qk_norm": True},
        Components(mlp="glu", qk_norm=True),
    ),
}


def built_by_timm(case: str) -> nn.Module:
    """Build two blocks of a timm model, and give every parameter a value that matters."""
    name, arguments, _ = CASES[case]
    torch.manual_seed(0)
    model: nn.Module = timm.create_model(name, depth=2, num_classes=7, embed_dim=96, num_heads=3, **arguments)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model.eval()


def architecture_of(case: str) -> Architecture:
    """What the built model is, written down by hand."""
    _, arguments, components = CASES[case]
    ratio = {"swiglu": 8 / 3, "glu": 2.0, "plain": 4.0}[components.mlp]  # GluMlp halves timm's hidden width
    return Architecture(
        image_size=arguments["img_size"],
        patch=14 if arguments["img_size"] == 56 else 16,
        registers=4 if case == "dinov3" else 0,
        size=Size(width=96, depth=2, heads=3, mlp_ratio=ratio),
        components=components,
    )


@pytest.mark.parametrize("case", CASES)
def test_timm_weights_give_timm_output(case: str) -> None:
    """Every key finds its place, and the logits are timm's."""
    reference = built_by_timm(case)
    ours = ViT(architecture_of(case), num_classes=7).eval()
    ours.load_state_dict(reference.state_dict(), strict=True)
    pixels = torch.randn(3, 3, ours.architecture.image_size, ours.architecture.image_size)
    with torch.no_grad():
        torch.testing.assert_close(ours(pixels), reference(pixels), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_what_is_built_is_read_off(case: str) -> None:
    """Ours and timm's are described alike, and as they were asked for."""
    claimed = architecture_of(case)
    assert differences(claimed, read_architecture(ViT(claimed))) == []
    assert differences(claimed, read_architecture(built_by_timm(case))) == []


@pytest.mark.parametrize("form", ["eva02", "dinov3"])
def test_the_tap_sees_queries_that_were_turned(form: str) -> None:
    """Position is in the maps: with equal patches everywhere they still differ from place to place."""
    size = Size(width=24, depth=1, heads=2)
    components = Components(rope=form, position="none")  # type: ignore[arg-type]
    plain = Architecture(image_size=12, patch=4, registers=2, size=size, components=components)
    pixels, taps = torch.full((1, 3, 12, 12), 0.7), frozenset({"attention/0"})
    statistics = PixelStats(mean=(0.4,) * 3, std=(0.2,) * 3)
    found = {}
    for rope in (form, "none"):
        parts = Components(rope=rope, position="none")  # type: ignore[arg-type]
        network = create_student(plain.with_(components=parts), 5, statistics, seed=0)
        with torch.no_grad():
            network.module.get_parameter("blocks.0.attn.qkv.weight").mul_(50)
            found[rope] = network(pixels, taps).attention[0]
    turned, still = found[form], found["none"]
    assert torch.equal(turned.q[:, :, :3], still.q[:, :, :3])  # class token and registers stay as they are
    assert float((still.maps()[:, :, 3:] - still.maps()[:, :, 3:4]).abs().max()) < 1e-5
    assert float((turned.maps()[:, :, 3:] - turned.maps()[:, :, 3:4]).abs().max()) > 1e-3
    torch.testing.assert_close(turned.q.norm(dim=-1), still.q.norm(dim=-1))


def test_a_head_that_cannot_be_turned_is_refused() -> None:
    """Rows and columns each take pairs of channels."""
    odd = Architecture(
        image_size=8, patch=4, size=Size(width=12, depth=1, heads=2), components=Components(rope="eva02")
    )
    with pytest.raises(BadInputError, match="heads of 4 k channels, got 6"):
        create_student(odd, 5, PixelStats(mean=(0.4,) * 3, std=(0.2,) * 3), seed=0)


def test_patches_cannot_be_left_out_under_a_rotary_embedding() -> None:
    """The embedding is that of the whole grid; a part of it would be turned wrongly without a word."""
    vit = ViT(architecture_of("eva02"))
    with pytest.raises(BadInputError, match=r"components.rope: 5 patches where the embedding is for 16"):
        vit.encode(torch.rand(2, 6, 96))
