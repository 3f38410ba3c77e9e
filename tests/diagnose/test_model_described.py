"""Any ViT of the three libraries is described from its configuration, and gets advice and a suite."""

import json
from pathlib import Path

import pytest
import torch

from vitkd_bench.diagnose import advise, conformance, describe, write_suite
from vitkd_bench.diagnose.library import OnRecord, _encoder, build_from_timm
from vitkd_bench.diagnose.likeness import families_of
from vitkd_bench.diagnose.recommendation import Evidence
from vitkd_bench.diagnose.suite import registered_name
from vitkd_bench.networks import read_architecture
from vitkd_bench.plan import read_suite
from vitkd_bench.registry import TEACHERS, load_extension
from vitkd_bench.spec import HALF_PIXELS, OPENAI_PIXELS, BadInputError, PixelStats, Teacher, WorldError

pytestmark = pytest.mark.usefixtures("own_shelf")

FAMILIES = {
    "deit/ti": "deit",
    "vit_small_patch14_dinov2.lvd142m": "dinov2",
    "vit_small_patch14_reg4_dinov2.lvd142m": "dinov2_reg",
    "vit_small_patch16_224.dino": "dino",
    "beitv2_base_patch16_224": "beitv2",
    "open_clip:ViT-B-32-quickgelu": "clip",
    "open_clip:ViT-B-16/laion2b_s34b_b88k": "clip",  # by its repository, since this name says nothing
    "vit_base_patch16_clip_224.laion2b": "clip",
    "transformers:Dinov2Model": "dinov2",
    "transformers:ViTModel": None,  # a class of several families
    "transformers:DeiTModel": None,  # its distillation token is no part of the family
    "vit_small_patch16_224": None,  # the source of four families
    "vit_giant_patch14_dinov2.lvd142m": "dinov2",  # not registered, and no registers
    "vit_base_patch16_siglip_384.webli": "siglip",
    "vit_base_patch16_siglip_384.v2_webli": "siglip2",
    "vit_base_patch16_siglip_gap_224.v2_webli": "siglip2",  # pooled otherwise, and no I-JEPA
    "vit_base_patch16_224.augreg_in21k": "augreg",
    "transformers:ViTMAEForPreTraining": "mae",
    "transformers:CLIPModel": "clip",  # its vision tower
}
FOREIGN = (  # of another training, whatever words of its name the families' sources have too
    "vit_base_patch16_224_miil",
    "vit_base_patch16_224.orig_in21k",
    "vit_base_patch16_224.augreg2_in21k_ft_in1k",  # tuned anew, not the release
    "flexivit_base",
    "eva_giant_patch14_224.clip_ft_in1k",  # BEiT's blocks, CLIP's word
    "eva_large_patch14_196.in22k_ft_in1k",
    "vit_medium_patch16_reg1_gap_256",
    "vit_wee_patch16_reg1_gap_256.sbb_in1k",
    "vit_base_patch16_clip_224.openai_ft_in1k",  # tuned by others
    "vit_base_patch32_224",  # timm has weights of SAM under it
    "transformers:ViTMSNModel",
)
SHARED = {
    "transformers:SiglipVisionModel": ("siglip", "siglip2"),
    "transformers:ViTModel": ("dino", "mae"),
    "vit_base_patch16_siglip_224": ("siglip", "siglip2"),
    "vit_base_patch16_siglip_384": ("siglip", "siglip2"),  # by the tags that timm has of it
    "vit_small_patch16_224": ("augreg", "dino", "ibot", "mocov3"),
}
THE_SAME = {
    "vit_small_patch14_dinov2": "dinov2/s14",
    "vit_small_patch14_dinov2.lvd142m": "dinov2/s14",
    "vit_small_patch16_224.dino": "dino/s",
    "vit_tiny_patch16_224": "augreg/ti",
    "open_clip:ViT-B-16-quickgelu": "clip/b16",
    "open_clip:ViT-B-16-quickgelu/openai": "clip/b16",
    "facebook/dinov2-base": "dinov2/b14",  # the repository of a source
    "transformers:facebook/dinov2-base": "dinov2/b14",
}
NOT_THE_SAME = (
    "open_clip:ViT-B-16-quickgelu/metaclip_400m",
    "vit_small_patch16_224.augreg_in1k",
    "vit_base_patch16_clip_quickgelu_224",  # timm takes another tag by default
    "beitv2_base_patch16_224",  # the teacher is the release before fine-tuning
)
PREPROCESSOR = {
    "image_mean": [0.5, 0.4, 0.3],
    "image_std": [0.2, 0.2, 0.1],
    "resample": 3,
    "size": {"shortest_edge": 256},
    "crop_size": {"height": 224, "width": 224},
    "do_center_crop": True,
}


@pytest.mark.parametrize(("model", "family"), FAMILIES.items())
def test_the_family_is_read_off_names_and_parts(model: str, family: str | None) -> None:
    """Names of the libraries' own are told apart, registers and version numbers too."""
    assert describe(model).family == family


@pytest.mark.parametrize(("model", "families"), SHARED.items())
def test_a_shared_name_is_a_tie(model: str, families: tuple[str, ...]) -> None:
    """Both are named, neither is taken, and nothing published is claimed."""
    facts = describe(model)
    assert (facts.teacher, facts.family, facts.families) == (None, None, families)
    advice = advise(facts)
    assert advice.evidence == ()
    assert all(family in advice.reason for family in families)


@pytest.mark.parametrize("model", FOREIGN)
def test_nothing_published_is_claimed_of_a_foreign_training(model: str) -> None:
    """Words of data sets and of pooling are no family; what it is like in components is said as that."""
    facts = describe(model)
    advice = advise(facts)
    assert (facts.family, facts.families, advice.evidence) == (None, (), ())
    assert "it is of no family that is known here" in advice.reason
    alike = [like.family for like in facts.likenesses if like.parts]
    assert (" in components only" in advice.reason) == bool(alike)
    assert all(family in advice.reason for family in alike)


@pytest.mark.parametrize(
    "teacher", [t for t in TEACHERS if t.outcome and t.group != "micro"], ids=lambda t: t.name
)
def test_a_release_under_timms_name_is_of_its_family(teacher: Teacher) -> None:
    """Without the registry's own names: tag and parts of each source of timm say the family."""
    for source in teacher.sources:
        if source.backend == "timm" and "." in source.model:
            built = build_from_timm(source.model)
            assert families_of(built, read_architecture(built.module)) == (teacher.family,)


def test_where_a_configuration_was_loaded_from_is_no_family(tmp_path: Path) -> None:
    """Weights that were tuned from a release keep its name in their `config.json`."""
    path = tmp_path / "config.json"
    path.write_text(
        json.dumps({**CONFIG, "intermediate_size": 768, "_name_or_path": "facebook/vit-mae-base"})
    )
    assert describe(f"transformers:{path}").families == ("dino", "mae")


@pytest.mark.parametrize(
    ("model", "tower"),
    [
        ("CLIPModel", "CLIPVisionModel"),
        ("SiglipModel", "SiglipVisionModel"),
        ("SiglipForImageClassification", "SiglipVisionModel"),
    ],
)
def test_of_images_and_texts_the_vision_tower_is_taken(model: str, tower: str) -> None:
    """By the class as by a `config.json`; what is built is the tower's class."""
    whole, alone = describe(f"transformers:{model}"), describe(f"transformers:{tower}")
    assert (whole.built, whole.architecture) == (tower, alone.architecture)


def test_an_encoder_that_leaves_patches_out_is_read_as_one_that_does_not() -> None:
    """ViTModel with ViTMAE's configuration computes what ViTMAE does where it masks nothing."""
    from transformers import ViTMAEConfig, ViTMAEModel

    masked = ViTMAEModel(
        ViTMAEConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, mask_ratio=0.0)
    )
    plain, config = _encoder(__import__("transformers"), masked.config)
    encoder = plain(config, add_pooling_layer=False)
    encoder.load_state_dict(masked.state_dict())
    images = torch.rand(2, 3, 224, 224)
    with torch.no_grad():
        ours, theirs = (net.eval()(images).last_hidden_state[:, 0] for net in (encoder, masked))
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("model", "name"), THE_SAME.items())
def test_the_source_of_a_teacher_is_that_teacher(model: str, name: str) -> None:
    """Its contract stands for it: image size, pixels, and what is published of its family."""
    facts, teacher = describe(model), TEACHERS.get(name)
    assert facts.teacher == teacher
    assert facts.architecture is not None
    assert facts.architecture.image_size == teacher.architecture.image_size
    assert facts.record.pixels == teacher.pixels
    assert facts.name == model


@pytest.mark.parametrize("model", NOT_THE_SAME)
def test_other_weights_of_its_network_are_not(model: str) -> None:
    """Another tag is another training."""
    assert describe(model).teacher is None


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


@pytest.mark.parametrize("model", ["vit_base_patch16_rope_224", "vit_small_patch16_rope_mixed_224"])
def test_a_part_without_a_word_is_told(model: str) -> None:
    """A ViT with a part that no component describes is described as far as it goes, and cannot be native."""
    odd = describe(model)
    assert odd.architecture is None
    assert odd.unnamed
    advice = advise(odd)
    assert advice.student == "standard"
    assert odd.unnamed in advice.reason
    assert "nor can a contract or a suite be written of it" in advice.reason


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("vit_tinny_patch16_224", "did you mean 'vit_tiny_patch16_224'"),
        ("resnet18", "ResNet is no Vision Transformer"),
        ("vit_small_patch16_224.dinno", "did you mean 'dino'"),
        ("open_clip:ViT-B-17", "did you mean 'ViT-B-16'"),
        ("open_clip:ViT-B-16-quickgelu/openia", "did you mean 'openai'"),
        ("transformers:Dinov2Mode", "did you mean 'Dinov2Model'"),
        ("facebook/dinov2-bas", "did you mean 'facebook/dinov2-base'"),
        ("vit_tiny_r_s16_p8_224", "a hybrid"),
        ("transformers:BlipModel", "BlipVisionConfig has no model of its own"),
        ("transformers:EncoderDecoderModel", "EncoderDecoderModel"),
        ("swin_tiny_patch4_window7_224", "SwinTransformer is no Vision Transformer that is known here"),
    ],
)
def test_what_is_no_model_is_refused(model: str, said: str) -> None:
    """With the nearest name, or with what it is instead."""
    with pytest.raises(BadInputError, match=said):
        describe(model)


def test_a_missing_configuration_is_the_worlds_fault(tmp_path: Path) -> None:
    """A path that ends in .json is meant as a file."""
    with pytest.raises(WorldError, match=r"no such file.*; give a config.json, its folder, or a class name"):
        describe(f"transformers:{tmp_path / 'config.json'}")
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(WorldError, match=r"cannot be read as JSON .*: mend config.json or get it again"):
        describe(f"transformers:{tmp_path / 'config.json'}")
    with pytest.raises(WorldError, match=r"did you mean 'config\.json'") as caught:
        describe(f"transformers:{tmp_path / 'configg.json'}")
    assert "Errno" not in str(caught.value)


CONFIG = {"model_type": "vit", "hidden_size": 192, "num_attention_heads": 3, "num_hidden_layers": 12}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"hidden_size": "wide"}, "refuses its configuration: .*hidden_size"),
        ({"model_type": None}, "has no model_type"),
        ({"model_type": "vitt"}, "did you mean 'vit'"),
    ],
)
def test_a_bad_configuration_is_one_line(tmp_path: Path, changes: dict[str, object], said: str) -> None:
    """Which value is wrong, and no name guessed for one that is not there."""
    (tmp_path / "config.json").write_text(json.dumps({**CONFIG, **changes}))
    with pytest.raises(BadInputError, match=said) as caught:
        describe(f"transformers:{tmp_path}")
    assert "\n" not in str(caught.value)


def test_a_librarys_epsilon_is_no_reason_for_a_native_student(tmp_path: Path) -> None:
    """ViT of transformers computes with 1e-12; a suite compares no native student, and is named by size."""
    folder = tmp_path / "s"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({**CONFIG, "intermediate_size": 768}))
    facts = describe(f"transformers:{folder}")
    advice = advise(facts)
    assert facts.lacking == {"norm_eps": 1e-12}
    assert (advice.student, advice.students) == ("standard", ("standard",))
    assert "norm_eps=1e-12" in advice.reason
    assert registered_name(facts) == "own/ti"


def test_a_folders_name_is_no_family(tmp_path: Path) -> None:
    """A configuration is known by its class; BEiT's serves BEiT v2 too, and where it lies says nothing."""
    folder = tmp_path / "my_clip"
    folder.mkdir()
    config = {"model_type": "beit", "hidden_size": 32, "num_attention_heads": 2, "num_hidden_layers": 2}
    more = {"intermediate_size": 64, "use_relative_position_bias": True, "layer_norm_eps": 1e-6}
    (folder / "config.json").write_text(json.dumps({**config, **more}))
    assert describe(f"transformers:{folder}").families == ("beit", "beitv2")


def test_what_libraries_have_on_record_is_taken(tmp_path: Path) -> None:
    """Pixels, interpolation and crop of a tag, of all tags, and of a file beside a configuration."""
    tagged = describe("vit_small_patch16_224.augreg_in1k").record
    assert tagged == OnRecord(
        HALF_PIXELS,
        "bicubic",
        0.9,
        location="hf://timm/vit_small_patch16_224.augreg_in1k/model.safetensors",
        licence="apache-2.0",
    )
    shared = describe("vit_small_patch16_224").record
    assert (shared.pixels, shared.location) == (None, None)  # DINO's pixels are not AugReg's
    tower = describe("open_clip:ViT-B-16-quickgelu/metaclip_400m").record
    assert (tower.pixels, tower.crop) == (OPENAI_PIXELS, 1.0)
    assert tower.location == "hf://timm/vit_base_patch16_clip_224.metaclip_400m/open_clip_model.safetensors"
    config = {"model_type": "vit", "hidden_size": 32, "num_attention_heads": 2, "num_hidden_layers": 2}
    (tmp_path / "config.json").write_text(json.dumps({**config, "intermediate_size": 64}))
    assert describe(f"transformers:{tmp_path}").record.missing() == ("pixels", "interpolation", "crop")
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(PREPROCESSOR))
    found = describe(f"transformers:{tmp_path}").record
    assert found.pixels == PixelStats(mean=(0.5, 0.4, 0.3), std=(0.2, 0.2, 0.1))
    assert (found.interpolation, found.crop) == ("bicubic", 224 / 256)


def test_a_teachers_source_is_written_by_its_registered_name(tmp_path: Path) -> None:
    """No contract beside the suite; a backend that is not the first one is named."""
    for model, said in (
        ("vit_small_patch14_dinov2.lvd142m", "  - dinov2/s14 # with a file of your own: {name: dinov2/s14"),
        ("open_clip:ViT-B-16-quickgelu", "  - {name: clip/b16, backend: open_clip}\n"),
    ):
        facts = describe(model)
        path = tmp_path / f"{facts.backend}.yaml"
        assert write_suite(facts, advise(facts), path) == (path,)
        assert said in path.read_text()
        assert read_suite(str(path)).suite.teachers[0].backend in {None, facts.backend}


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
    "model",
    [
        "micro/dinov2",
        "vit_small_patch16_224.augreg_in1k",
        "open_clip:ViT-B-16-quickgelu/metaclip_400m",
        "transformers:ViTModel",
        "transformers:ViTMSNModel",
        "transformers:ViTMAEForPreTraining",
        "transformers:CLIPModel",
    ],
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
        assert teacher.source().location == facts.record.location
        checks = {check.name: check for check in conformance(teacher)}
        facts_told = checks.pop("facts")  # paper, objective and what was seen are for a person to fill in
        assert facts_told.status == "refuse"
        assert all(
            word in facts_told.finding for word in ("paper", "objective", "seen", *facts.record.missing())
        )
        gaps = {name: check.finding for name, check in checks.items() if check.status == "refuse"}
        pixels = {"contract": "pixels: to be filled in, 3 means and 3 deviations"}
        assert gaps == ({} if facts.record.pixels else pixels)
    with pytest.raises(BadInputError, match="is there already"):
        write_suite(facts, advise(facts), tmp_path / "try.yaml")
