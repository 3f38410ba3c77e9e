"""Whatever library a network is of, its weights have timm's names, and the values that these stand for."""

from functools import partial
from pathlib import Path

import pytest
import timm
import torch
import transformers

from tests.networks.library_names import as_stored
from tests.networks.test_backends import DEPTH, OFFERED, random_state, small, stored
from vitkd_bench.networks import load_teacher, read_architecture
from vitkd_bench.networks.timm_names import timm_weights
from vitkd_bench.registry import TEACHERS
from vitkd_bench.spec import Backend, BadInputError

ONE_A_FAMILY = sorted(
    {(name.partition("/")[0], backend): (name, backend) for name, backend in OFFERED}.values()
)
POOLING = (
    "attn_pool.",
    "head.probe",
    "head.attention",
    "head.layernorm",
    "head.mlp",
)  # SigLIP's, no student's


@pytest.mark.parametrize(("name", "backend"), ONE_A_FAMILY)
def test_every_library_gives_timms_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, backend: Backend
) -> None:
    """The same weights through timm and through another library are the same tensors by the same names."""
    monkeypatch.setattr(timm, "create_model", partial(timm.create_model, depth=DEPTH))  # open_clip's towers
    contract = small(name)
    state = random_state(contract)
    ours = load_teacher(contract, contract.architecture, stored(tmp_path / "timm", state), "timm")
    theirs = load_teacher(
        contract,
        contract.architecture,
        stored(tmp_path / backend, as_stored(contract, backend, state)),
        backend,
    )
    expected, found = (
        {n: t for n, t in network.weights().items() if not n.startswith(POOLING)}
        for network in (ours, theirs)
    )
    assert sorted(expected) == sorted(found)
    for key, tensor in expected.items():
        torch.testing.assert_close(found[key], tensor, msg=key)
    assert not any(tensor.requires_grad for tensor in found.values())


def test_a_shared_relative_table_is_given_to_every_block() -> None:
    """BEiT's pretraining has one table for all blocks; a student has one in each."""
    beit = timm.create_model(
        "beitv2_base_patch16_224", img_size=32, embed_dim=24, depth=3, num_heads=2, num_classes=0,
        use_rel_pos_bias=False, use_shared_rel_pos_bias=True,
    )  # fmt: skip
    with torch.no_grad():
        beit.rel_pos_bias.relative_position_bias_table.normal_()
    weights = timm_weights(beit, read_architecture(beit))
    for block in range(3):
        table = weights[f"blocks.{block}.attn.relative_position_bias_table"]
        assert torch.equal(table, beit.rel_pos_bias.relative_position_bias_table)
    assert "blocks.0.ls1.gamma" in weights
    assert "rel_pos_bias.relative_position_bias_table" not in weights


def test_a_distillation_token_is_a_register() -> None:
    """DeiT's second token stands where a student's register does, with a position of its own."""
    config = transformers.DeiTConfig(
        hidden_size=24, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48, image_size=32
    )
    deit = transformers.DeiTModel(config, add_pooling_layer=False)
    weights = timm_weights(deit, read_architecture(deit))
    assert torch.equal(weights["reg_token"], deit.embeddings.distillation_token)
    assert weights["pos_embed"].shape == (1, 6, 24)


def test_blocks_of_other_parts_are_refused_in_one_sentence() -> None:
    """A gated MLP of transformers has layers of other names: the first that is missing is named."""
    config = transformers.Dinov2Config(
        hidden_size=24, num_hidden_layers=2, num_attention_heads=2, image_size=28, use_swiglu_ffn=True
    )
    known = TEACHERS.get("dinov2/s14").architecture
    with pytest.raises(
        BadInputError, match=r"^weights of Dinov2Model: in block 0 nothing is mlp\.fc1\.weight"
    ) as why:
        timm_weights(transformers.Dinov2Model(config), known)
    assert "\n" not in str(why.value)
