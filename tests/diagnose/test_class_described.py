"""Classes of ViT that are not run are described as far as there are words, and never further."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from vitkd_bench.diagnose import advise, describe, write_suite
from vitkd_bench.diagnose.library import build_from_transformers
from vitkd_bench.networks import ViT
from vitkd_bench.networks.anatomy import anatomy_of, anatomy_to_read
from vitkd_bench.networks.rotary import embedding_of, rotary_embedding
from vitkd_bench.spec import BadInputError

SMALL = {"hidden_size": 32, "num_attention_heads": 2, "num_hidden_layers": 2, "intermediate_size": 64}
TINY = {**SMALL, "image_size": 32, "patch_size": 8}
DINOV3 = {**TINY, "model_type": "dinov3_vit", "num_register_tokens": 4}
DATA2VEC = {**TINY, "model_type": "data2vec-vision", "layer_norm_eps": 1e-6}


def _configured(folder: Path, config: dict[str, object]) -> str:
    (folder / "config.json").write_text(json.dumps(config))
    return f"transformers:{folder}"


@pytest.mark.parametrize(
    ("config", "family", "prefix", "lacking"),
    [
        ({**TINY, "model_type": "ijepa", "layer_norm_eps": 1e-6}, "ijepa", (False, 0), {}),
        (
            DINOV3,
            "dinov3",
            (True, 4),
            {"layer_scale": 1.0, "position": "none", "qkv_bias": "qv", "norm_eps": 1e-5, "rope": "dinov3"},
        ),
        (
            {**DINOV3, "use_gated_mlp": True, "hidden_act": "silu", "query_bias": False, "value_bias": False},
            "dinov3",
            (True, 4),
            {
                "layer_scale": 1.0,
                "position": "none",
                "qkv_bias": "none",
                "norm_eps": 1e-5,
                "rope": "dinov3",
                "mlp": "swiglu",
            },
        ),
        (
            {**DATA2VEC, "use_relative_position_bias": True},
            None,
            (True, 0),
            {"layer_scale": 0.1, "relative_position_bias": True, "position": "none", "qkv_bias": "qv"},
        ),
        (
            {**DATA2VEC, "use_absolute_position_embeddings": True, "layer_scale_init_value": 0.0},
            None,
            (True, 0),
            {"qkv_bias": "qv"},
        ),
    ],
)
def test_a_class_that_is_not_run_is_described(
    tmp_path: Path,
    config: dict[str, object],
    family: str | None,
    prefix: tuple[bool, int],
    lacking: dict[str, object],
) -> None:
    """All its parts are read: blocks of our own with these have as many numbers. No suite is written."""
    model = _configured(tmp_path, config)
    facts = describe(model)
    found = facts.architecture
    assert found is not None
    assert (facts.family, (found.class_token, found.registers)) == (family, prefix)
    assert facts.lacking == lacking
    assert (found.size.width, found.size.depth, found.size.heads, found.grid) == (32, 2, 2, 4)
    module = build_from_transformers(model.partition(":")[2]).module
    assert _numbers_in_blocks(module) == _numbers_in_blocks(ViT(found))
    _refuse_a_suite(model, tmp_path)


def _numbers_in_blocks(module: nn.Module) -> int:
    blocks = anatomy_to_read(module).blocks_of(module)
    return sum(parameter.numel() for block in blocks for parameter in block.parameters())


def _refuse_a_suite(model: str, folder: Path) -> None:
    """Advice says why none can be written, and none is."""
    facts = describe(model)
    advice = advise(facts)
    assert facts.not_run is not None
    assert "run the suite" not in advice.reason
    assert (facts.unnamed or facts.not_run) in advice.reason
    with pytest.raises(BadInputError, match="no contract can be written") as caught:
        write_suite(facts, advice, folder / "try.yaml")
    assert (facts.unnamed or facts.not_run) in str(caught.value)
    assert list(folder.glob("try*")) == []


def test_a_distillation_token_counts_as_a_register(tmp_path: Path) -> None:
    """DeiT of timm with one is a plain ViT of two prefix tokens, and the family is that without."""
    facts = describe("deit_tiny_distilled_patch16_224")
    assert facts.architecture is not None
    assert (facts.architecture.registers, facts.lacking, facts.family) == (1, {}, None)
    assert facts.architecture.components.position_on_prefix
    _refuse_a_suite(facts.name, tmp_path)


def test_dinov3_of_transformers_turns_as_ours(tmp_path: Path) -> None:
    """What is called the rotary embedding of DINOv3 gives our own angles; other periods have no name."""
    model = _configured(tmp_path, DINOV3)
    found = describe(model).architecture
    assert found is not None
    unfilled = build_from_transformers(str(tmp_path)).module.get_submodule("rope_embeddings")
    theirs = type(unfilled)(unfilled.config).eval()
    cosines, sines = theirs(torch.zeros(1, 3, 32, 32))
    ours = embedding_of(rotary_embedding(found), found.grid**2)
    torch.testing.assert_close(ours, torch.cat([sines, cosines], dim=-1), atol=1e-5, rtol=0)
    other = describe(_configured(tmp_path, {**DINOV3, "rope_theta": 10.0}))
    assert other.architecture is None
    assert "no component describes this DINOv3ViTRopePositionEmbedding" in str(other.unnamed)


@pytest.mark.parametrize("missing", ["mlp_bias", "proj_bias"])
def test_a_layer_without_its_bias_is_told(tmp_path: Path, missing: str) -> None:
    """There is a word for biases of queries, keys and values, and of patches, alone."""
    facts = describe(_configured(tmp_path, {**DINOV3, missing: False}))
    assert facts.architecture is None
    assert "has no bias, which no component describes" in str(facts.unnamed)


@pytest.mark.parametrize(
    ("model", "size", "said"),
    [
        ("samvit_base_patch16", "12 blocks, width 768 and 12 heads", "within windows"),
        ("vit_relpos_small_patch16_224", "12 blocks, width 384 and 6 heads", "by relative position"),
        ("vit_srelpos_small_patch16_224", "12 blocks, width 384 and 6 heads", "by relative position"),
        ("naflexvit_base_patch16_gap", "12 blocks, width 768 and 12 heads", "packed sequences of patches"),
        ("transformers:Siglip2VisionModel", "12 blocks, width 768 and 12 heads", "packed sequences"),
    ],
)
def test_a_class_beyond_our_words_is_outlined(model: str, size: str, said: str, tmp_path: Path) -> None:
    """Its size is given and the part is named; nothing passes as described, though the blocks look alike."""
    facts = describe(model)
    assert (facts.architecture, facts.lacking, facts.families) == (None, {}, ())
    assert facts.unnamed is not None
    assert size in facts.unnamed
    assert said in facts.unnamed
    _refuse_a_suite(model, tmp_path)


def test_a_class_that_is_only_described_is_no_network_to_run() -> None:
    """Its parts are found for reading alone, bare or within a model with a head."""
    for name in ("IJepaModel", "IJepaForImageClassification"):
        module = build_from_transformers(name).module
        assert anatomy_to_read(module).class_token is None
        with pytest.raises(BadInputError, match="IJepaModel is described here but not run"):
            anatomy_of(module)
