"""Our ViT is timm's, component by component: a timm state dict loads and gives the same output."""

from typing import Any

import pytest
import timm
import torch
from torch import nn

from vitkd_bench.networks import ViT, differences, read_architecture
from vitkd_bench.networks.positions import fixed_position
from vitkd_bench.spec import Architecture, BadInputError, Components, Size

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "deit": ("deit_tiny_patch16_224", {"img_size": 64}),
    "dinov2": ("vit_small_patch14_dinov2", {"img_size": 56}),
    "dinov2_reg": ("vit_small_patch14_reg4_dinov2", {"img_size": 56}),
    "clip": ("vit_base_patch16_clip_quickgelu_224", {"img_size": 64, "embed_dim": 96, "num_heads": 4}),
    "siglip2": ("vit_base_patch16_siglip_gap_224", {"img_size": 64, "embed_dim": 96, "num_heads": 4}),
    "beitv2": ("beitv2_base_patch16_224", {"img_size": 64, "embed_dim": 96, "num_heads": 4}),
}


def built_by_timm(case: str) -> nn.Module:
    """Build a timm model of two blocks, mean pooling, and give every parameter a value that matters."""
    name, arguments = CASES[case]
    pooled_as_ours = {"global_pool": "avg", "fc_norm": True} if name.startswith(("vit", "deit")) else {}
    torch.manual_seed(0)
    model: nn.Module = timm.create_model(name, depth=2, num_classes=7, **pooled_as_ours, **arguments)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model.eval()


@pytest.mark.parametrize("case", CASES)
def test_timm_weights_give_timm_output(case: str) -> None:
    """A ViT built from what is read off a timm model loads its weights and computes the same logits."""
    reference = built_by_timm(case)
    architecture = read_architecture(reference)
    ours = ViT(architecture, num_classes=7).eval()
    ours.load_state_dict(reference.state_dict(), strict=True)
    pixels = torch.randn(3, 3, architecture.image_size, architecture.image_size)
    with torch.no_grad():
        torch.testing.assert_close(ours(pixels), reference(pixels), rtol=1e-5, atol=1e-5)


def test_components_of_families_are_read_off() -> None:
    """What is read off timm's models is the table of native components."""
    found = {case: read_architecture(built_by_timm(case)) for case in CASES}
    assert {case: a.components for case, a in found.items()} == {
        "deit": Components(),
        "dinov2": Components(layer_scale=1e-5),
        "dinov2_reg": Components(layer_scale=1e-5, position_on_prefix=False),
        "clip": Components(norm_pre=True, activation="quick_gelu", patch_bias=False, norm_eps=1e-5),
        "siglip2": Components(),
        "beitv2": Components(layer_scale=1e-5, relative_position_bias=True, position="none", qkv_bias="qv"),
    }
    assert {case: (a.class_token, a.registers) for case, a in found.items()} == {
        "deit": (True, 0),
        "dinov2": (True, 0),
        "dinov2_reg": (True, 4),
        "clip": (True, 0),
        "siglip2": (False, 0),
        "beitv2": (True, 0),
    }


def test_arguments_that_timm_drops_are_noticed() -> None:
    """`init_values=None` leaves DINOv2's layer scale in place: what was built counts, not what was asked."""
    asked = {"depth": 2, "img_size": 56, "num_classes": 0}
    kept = read_architecture(timm.create_model("vit_small_patch14_dinov2", init_values=None, **asked))
    removed = read_architecture(timm.create_model("vit_small_patch14_dinov2", init_values=0.0, **asked))
    assert kept.components.layer_scale == 1e-5
    assert removed.components.layer_scale is None
    assert differences(removed, kept) == ["components.layer_scale: absent claimed, present found"]


def test_heads_are_compared() -> None:
    """MoCo v3-S built with 6 heads instead of 12 has the same shapes and is told apart all the same."""
    asked = {"depth": 1, "img_size": 32, "num_classes": 0}
    six = timm.create_model("vit_small_patch16_224", **asked)
    twelve = timm.create_model("vit_small_patch16_224", num_heads=12, **asked)
    assert {k: v.shape for k, v in six.state_dict().items()} == {
        k: v.shape for k, v in twelve.state_dict().items()
    }
    claimed = read_architecture(twelve)
    assert differences(claimed, read_architecture(six)) == ["size.heads: 12 claimed, 6 found"]


def test_parts_without_a_word_are_refused() -> None:
    """A network with a norm inside its MLP is no set of our components."""
    model = timm.create_model("eva02_base_patch14_224", depth=1, img_size=28)
    with pytest.raises(BadInputError, match="which no component describes"):
        read_architecture(model)


def test_fixed_position_is_that_of_mocov3() -> None:
    """The fixed embedding follows moco-v3 `vits.py:53-69`, written out here as it stands there."""
    grid, width = 5, 24
    rows, columns = torch.meshgrid(torch.arange(grid).float(), torch.arange(grid).float(), indexing="ij")
    omega = 1.0 / 10000 ** (torch.arange(width // 4).float() / (width // 4))
    by_row, by_column = (torch.einsum("m,d->md", axis.flatten(), omega) for axis in (rows, columns))
    patches = torch.cat([by_row.sin(), by_row.cos(), by_column.sin(), by_column.cos()], dim=1)
    expected = torch.cat([torch.zeros(1, width), patches])[None]
    architecture = Architecture(image_size=10, patch=2, size=Size(width=width, depth=1, heads=2))
    torch.testing.assert_close(fixed_position(architecture), expected)
