"""Any ViT of the three libraries is described from its configuration, and gets advice and a suite."""

import json
from pathlib import Path

import pytest

from vitkd_bench.diagnose import advise, conformance, describe, write_suite
from vitkd_bench.diagnose.recommendation import Evidence
from vitkd_bench.plan import read_suite
from vitkd_bench.registry import TEACHERS, load_extension
from vitkd_bench.spec import BadInputError, WorldError

FAMILIES = {
    "deit/ti": "deit",
    "vit_small_patch14_dinov2.lvd142m": "dinov2",
    "vit_small_patch14_reg4_dinov2.lvd142m": "dinov2_reg",
    "vit_small_patch16_224.dino": "dino",
    "beitv2_base_patch16_224": "beitv2",
    "open_clip:ViT-B-32-quickgelu": "clip",
    "transformers:Dinov2Model": "dinov2",
    "transformers:ViTModel": None,  # a plain ViT is of any of five families, or of none
}


@pytest.mark.parametrize(("model", "family"), FAMILIES.items())
def test_the_family_is_read_off_names_and_parts(model: str, family: str | None) -> None:
    """Names of the libraries' own are told apart, registers and version numbers too."""
    assert describe(model).family == family


@pytest.mark.parametrize(
    ("model", "lacking"),
    [
        ("vit_tiny_patch16_224", {}),
        ("vit_large_patch14_dinov2", {"layer_scale": 1e-5}),
        (
            "open_clip:ViT-B-32-quickgelu",
            {"norm_pre": True, "activation": "quick_gelu", "patch_bias": False, "norm_eps": 1e-5},
        ),
        (
            "beit_base_patch16_224",
            {"layer_scale": 0.1, "relative_position_bias": True, "position": "none", "qkv_bias": "qv"},
        ),
    ],
)
def test_what_a_standard_student_lacks(model: str, lacking: dict[str, object]) -> None:
    """Read off what was built, not off arguments."""
    assert describe(model).lacking == lacking


def test_a_configuration_file_is_enough(tmp_path: Path) -> None:
    """A `config.json` of a ViT with two heads and no other file."""
    path = tmp_path / "config.json"
    config = {"model_type": "vit", "hidden_size": 32, "num_attention_heads": 2, "num_hidden_layers": 3}
    path.write_text(json.dumps({**config, "intermediate_size": 64, "image_size": 32, "patch_size": 8}))
    found = describe(f"transformers:{path}").architecture
    assert found is not None
    assert (found.size.heads, found.size.depth, found.grid) == (2, 3, 4)


def test_a_part_without_a_word_is_told() -> None:
    """A ViT with a part that no component describes is described as far as it goes, and cannot be native."""
    odd = describe("vit_base_patch16_rope_224")
    assert odd.architecture is None
    assert odd.unnamed
    advice = advise(odd)
    assert advice.student == "standard"
    assert odd.unnamed in advice.reason


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("vit_tinny_patch16_224", "did you mean 'vit_tiny_patch16_224'"),
        ("resnet18", "ResNet is no Vision Transformer"),
        ("open_clip:ViT-B-17", "did you mean 'ViT-B-16'"),
        ("transformers:Dinov2Mode", "did you mean 'Dinov2Model'"),
    ],
)
def test_what_is_no_model_is_refused(model: str, said: str) -> None:
    """With the nearest name, or with what it is instead."""
    with pytest.raises(BadInputError, match=said):
        describe(model)


def test_a_missing_configuration_is_the_worlds_fault(tmp_path: Path) -> None:
    """A path that ends in .json is meant as a file."""
    with pytest.raises(WorldError, match="cannot be read"):
        describe(f"transformers:{tmp_path / 'config.json'}")


def test_advice_follows_the_published_sign() -> None:
    """Fails and has components: native. Transfers: standard. Nothing known: find out."""
    fails, transfers = advise(describe("dinov2/s14")), advise(describe("deit/ti"))
    assert (fails.student, fails.method) == ("native", "attn_copy")
    assert "fails" in fails.reason
    assert "layer_scale" in fails.reason
    assert (transfers.student, transfers.method) == ("standard", "attn_copy")
    assert fails.evidence[0].outcome == "fails"
    unknown = advise(describe("transformers:ViTModel"))
    assert unknown.evidence == ()
    assert "run the suite" in unknown.reason


def test_own_records_outweigh_what_is_published() -> None:
    """A decided verdict of attention copy to a standard student counts; an undecided one does not."""
    facts = describe("dinov2/s14")
    mine = Evidence("own records", "standard", "attn_copy", "transfers")
    assert advise(facts, [mine]).student == "standard"
    assert "own records" in advise(facts, [mine]).reason
    undecided = Evidence("own records", "standard", "attn_copy", None)
    assert advise(facts, [undecided]).student == "native"


@pytest.mark.parametrize(
    "model", ["micro/dinov2", "vit_small_patch14_dinov2.lvd142m", "transformers:ViTModel"]
)
def test_the_suite_that_is_written_can_be_read(model: str, tmp_path: Path) -> None:
    """It checks; and the contract beside it is a teacher that builds as the kit wants, but for its facts."""
    facts = describe(model)
    written = write_suite(facts, advise(facts), tmp_path / "try.yaml")
    suite = read_suite(str(written[0])).suite
    assert "attn_copy" in [method.name for method in suite.methods]
    if facts.teacher is None:
        load_extension(tmp_path / suite.extensions[0])
        teacher = TEACHERS.get(suite.teachers[0].name)
        assert teacher.architecture == facts.architecture
        checks = {check.name: check.status for check in conformance(teacher)}
        assert checks.pop("facts") == "refuse"  # paper, licence and objective are for a person to fill in
        assert set(checks.values()) == {"pass"}
    with pytest.raises(BadInputError, match="is there already"):
        write_suite(facts, advise(facts), tmp_path / "try.yaml")
