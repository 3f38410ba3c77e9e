"""Initial values as controls: a folded layer scale and BEiT's division by depth."""

from __future__ import annotations

import math
from importlib import import_module
from typing import Any

import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from vitkd_bench.networks import ViTNetwork, create_student, fingerprint
from vitkd_bench.spec import (
    Architecture,
    Components,
    InitialValues,
    PixelStats,
    Size,
    StudentEntry,
    resolve_student,
)

PIXELS = PixelStats(mean=(0.4,), std=(0.2,))
PLAIN = Architecture(channels=1, image_size=6, patch=2, size=Size(width=16, depth=3, heads=2))
LAST = ("attn.proj", "mlp.fc2")
components = st.builds(
    Components,
    layer_scale=st.sampled_from([1e-5, 0.1, 1.0]),
    norm_pre=st.booleans(),
    relative_position_bias=st.booleans(),
    qkv_bias=st.sampled_from(["full", "qv"]),
    mlp=st.sampled_from(["plain", "swiglu"]),
)


def student(teacher: Architecture, seed: int = 3, **entry: object) -> ViTNetwork:
    """Build a student entry of a teacher."""
    chosen = resolve_student(StudentEntry.parse({"as": "own", **entry}), teacher)
    return create_student(chosen, 5, PIXELS, seed)


def logits_of(network: ViTNetwork, pixels: torch.Tensor) -> torch.Tensor:
    """Compute logits in float64."""
    logits = network.double()(pixels.double()).logits
    assert logits is not None
    return logits.detach()


@settings(max_examples=25, deadline=None)
@given(components, st.integers(0, 50), st.sampled_from(["timm", "small"]))
def test_folded_starts_as_the_function_that_native_is(parts: Components, seed: int, law: str) -> None:
    """For one seed the folded student computes what the one with layer scale computes."""
    teacher = PLAIN.with_(components=parts)
    entry = StudentEntry.parse({"name": "native", "layer_scale": "folded"})
    folded = create_student(resolve_student(entry, teacher), 5, PIXELS, seed, law=law)  # type: ignore[arg-type]
    native = create_student(teacher, 5, PIXELS, seed, law=law)  # type: ignore[arg-type]
    pixels = torch.rand(4, 1, 6, 6, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(
        logits_of(folded, pixels), logits_of(native, pixels), atol=1e-6, rtol=0, check_dtype=True
    )


def test_the_folded_control_is_a_standard_student_in_every_name() -> None:
    """No parameter more than standard; nothing but the last layer of each branch starts elsewhere."""
    teacher = PLAIN.with_(components=Components(layer_scale=0.1))
    folded, standard = (
        student(teacher, name="standard", layer_scale="folded"),
        student(teacher, name="standard"),
    )
    assert fingerprint(folded) == fingerprint(standard)
    found, plain = folded.module.state_dict(), standard.module.state_dict()
    moved = {name for name in found if not torch.equal(found[name], plain[name])}
    assert moved == {f"blocks.{i}.{layer}.weight" for i in range(3) for layer in LAST}
    for name in moved:
        torch.testing.assert_close(found[name], 0.1 * plain[name])
    native = student(teacher, name="native")
    pixels = torch.rand(4, 1, 6, 6)
    torch.testing.assert_close(logits_of(folded, pixels), logits_of(native, pixels), atol=1e-6, rtol=0)
    assert not torch.allclose(logits_of(standard, pixels), logits_of(native, pixels), atol=1e-3)


def test_folding_covers_biases(monkeypatch: pytest.MonkeyPatch) -> None:
    """Under a law that draws biases, `x + g (W a + b) = x + (g W) a + g b` needs them folded too."""
    laws = import_module("vitkd_bench.networks.initialise")  # the package names its function so
    own = laws._law

    def drawing_biases(owner: nn.Module, name: str) -> Any:
        if name.endswith("bias"):
            return lambda p, g: nn.init.normal_(p, generator=g)
        return own(owner, name)

    monkeypatch.setattr(laws, "_law", drawing_biases)
    teacher = PLAIN.with_(components=Components(layer_scale=0.1))
    folded, native = student(teacher, name="standard", layer_scale="folded"), student(teacher, name="native")
    pixels = torch.rand(4, 1, 6, 6)
    torch.testing.assert_close(logits_of(folded, pixels), logits_of(native, pixels), atol=1e-6, rtol=0)
    assert float(folded.module.get_parameter("blocks.0.attn.proj.bias").detach().abs().max()) > 0


def test_division_by_depth_is_beits() -> None:
    """Opted in, the last layers of block l are divided by sqrt(2 l), as timm's Beit does to its own."""
    native, divided = student(PLAIN, name="native"), student(PLAIN, name="native", scaled_by_depth=True)
    before, after = native.module.state_dict(), divided.module.state_dict()
    beit = timm.create_model("beitv2_base_patch16_224", depth=3, embed_dim=16, num_heads=2, img_size=32)
    with torch.no_grad():
        for block in beit.blocks:
            for layer in LAST:
                block.get_parameter(f"{layer}.weight").fill_(1)
    beit.fix_init_weight()
    for name, tensor in after.items():
        ends = [layer for layer in LAST if name.endswith(f"{layer}.weight")]
        factor = float(beit.get_parameter(name).detach()[0, 0]) if ends else 1.0
        torch.testing.assert_close(tensor, factor * before[name])
    third = beit.get_parameter("blocks.2.mlp.fc2.weight").detach()
    assert float(third[0, 0]) == pytest.approx(1 / math.sqrt(6))


def test_the_two_departures_multiply() -> None:
    """A folded student under BEiT's law still starts as the native one under the same law."""
    teacher = PLAIN.with_(components=Components(layer_scale=0.1))
    folded = student(teacher, name="standard", layer_scale="folded", scaled_by_depth=True)
    native = student(teacher, name="native", scaled_by_depth=True)
    pixels = torch.rand(4, 1, 6, 6)
    torch.testing.assert_close(logits_of(folded, pixels), logits_of(native, pixels), atol=1e-6, rtol=0)
    assert folded.architecture.initial == InitialValues(folded_layer_scale=0.1, scaled_by_depth=True)
