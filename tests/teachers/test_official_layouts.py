"""Files of official releases load whole, and mean what the release's own code means by them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
from timm.models.vision_transformer import checkpoint_filter_fn
from torch import Tensor, nn

from tests.teachers.official_files import LISTS, Listed, read_list, sin_cos, write_file
from tests.teachers.plain_forward import plain_tokens
from vitkd_bench.networks import load_teacher
from vitkd_bench.networks.sources import named_for
from vitkd_bench.networks.teachers import build_teacher
from vitkd_bench.registry import TEACHERS
from vitkd_bench.spec import BadInputError, Components, Teacher

NAMES = sorted(path.stem for path in LISTS.glob("*.json"))
every_list = pytest.mark.parametrize("name", NAMES)


def written(listed: Listed, folder: Path, tensors: dict[str, Tensor] | None = None) -> Path:
    """The listed file with random values, in the form of its release."""
    suffix = ".npz" if listed.name == "augreg" else ".pth"
    return write_file(folder / f"{listed.name}{suffix}", listed.container, tensors or listed.tensors())


def loaded(listed: Listed, path: Path) -> nn.Module:
    """The network that the registry makes of a file."""
    return load_teacher(listed.teacher, listed.teacher.architecture, path, "official").module


def plain(listed: Listed) -> Callable[[Tensor], Tensor]:
    """The release's forward, written plainly on the release's names."""
    tensors = {name: tensor.float() for name, tensor in listed.tensors().items()}
    for prefix in ("module.base_encoder.", "backbone.", "module."):
        if any(name.startswith(prefix) for name in tensors):
            tensors = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
    registers = listed.name == "dinov2_reg"
    return lambda pixels: plain_tokens(tensors, pixels, listed.teacher.architecture, antialias=registers)


def by_timm(listed: Listed) -> Callable[[Tensor], Tensor]:
    """Give timm's own converter of the same tensors, into timm's own model."""
    model = timm.create_model(
        listed.teacher.source("official").model, num_classes=0, **listed.teacher.source("official").arguments
    )
    dropped = ("input_resolution", "context_length", "vocab_size")
    tensors = {name: tensor.float() for name, tensor in listed.tensors().items() if name not in dropped}
    found = {k: t for k, t in checkpoint_filter_fn(tensors, model).items() if not k.startswith("head.")}
    model.load_state_dict(found)
    return model.eval().forward_features


def by_timm_from_arrays(listed: Listed, path: Path) -> Callable[[Tensor], Tensor]:
    """Give timm's own reader of the .npz files."""
    model = timm.create_model(
        listed.teacher.source("official").model, **listed.teacher.source("official").arguments
    )
    model.load_pretrained(str(path))
    return model.eval().forward_features


@every_list
@torch.inference_mode()
def test_a_file_means_what_its_release_means(name: str, tmp_path: Path) -> None:
    """Tokens after the last norm are those of the release's forward, or of timm's converter, to 1e-4."""
    listed = read_list(name)
    path = written(listed, tmp_path)
    if name == "augreg":
        other = by_timm_from_arrays(listed, path)
    else:
        other = by_timm(listed) if name == "clip" else plain(listed)
    side = listed.teacher.architecture.image_size
    pixels = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(1))
    tokens = loaded(listed, path).forward_features(pixels)  # type: ignore[operator]
    assert tokens.std() > 0.1  # a network that says nothing would agree with anything
    torch.testing.assert_close(tokens, other(pixels), atol=1e-4, rtol=1e-4)


@every_list
def test_all_names_of_a_release_find_their_place(name: str) -> None:
    """At full depth and on the meta device, names and shapes are those of the network, and no others."""
    listed = read_list(name, depth=None)
    teacher = TEACHERS.get(listed.teacher.name)
    with torch.device("meta"):
        module = build_teacher(teacher, teacher.architecture, "official")
        tensors = {key: torch.empty(shape) for key, (_, shape) in listed.keys.items()}
    found = named_for(module, tensors, teacher, teacher.source("official"), teacher.architecture, "test")
    expected = {key: tuple(tensor.shape) for key, tensor in module.state_dict().items()}
    assert {key: tuple(tensor.shape) for key, tensor in found.items()} == expected


SPOILED = {  # a key of each list that every network needs, and what it is called in the message
    "augreg": ("Transformer/encoder_norm/scale", "norm.weight"),
    "clip": ("visual.ln_post.weight", "norm.weight"),
    "mocov3": ("module.base_encoder.norm.weight", "norm.weight"),
    "ibot_full": ("backbone.norm.weight", "norm.weight"),
    "ijepa": ("module.norm.weight", "norm.weight"),
}


@every_list
def test_a_missing_an_extra_and_a_misshapen_key_are_named(name: str, tmp_path: Path) -> None:
    """Whatever the layout, a file that is not the release's is refused with the names."""
    listed = read_list(name)
    key, called = SPOILED.get(name, ("norm.weight", "norm.weight"))
    whole = listed.tensors()
    for spoiled, words in (
        ({k: t for k, t in whole.items() if k != key}, f"1 missing ({called})"),
        ({**whole, "surprise": torch.zeros(2)}, "1 unexpected (surprise)"),
        ({**whole, key: torch.ones(7)}, f"1 misshapen ({called} (7,) for"),
    ):
        with pytest.raises(BadInputError) as error:
            loaded(listed, written(listed, tmp_path, spoiled))
        assert words in str(error.value)


TWICE = {  # a name of the release, and another in the same file for the same place
    "ibot_full": ("backbone.norm.weight", "norm.weight"),
    "mocov3": ("module.base_encoder.norm.weight", "norm.weight"),
    "ijepa": ("module.norm.weight", "norm.weight"),
    "dinov2_reg": ("register_tokens", "reg_token"),
    "clip": ("visual.ln_post.weight", "norm.weight"),
    "augreg": ("Transformer/encoder_norm/scale", "norm.weight"),
    "beitv2": ("rel_pos_bias.relative_position_bias_table", "blocks.1.attn.relative_position_bias_table"),
}


@pytest.mark.parametrize("name", TWICE)
def test_two_tensors_for_one_place_are_named(name: str, tmp_path: Path) -> None:
    """Neither is lost without a word: a file that holds a place twice is refused, with a name of the file."""
    listed = read_list(name)
    released, other = TWICE[name]
    whole = listed.tensors()
    spoiled = {**whole, other: whole[released].clone()}
    with pytest.raises(BadInputError, match="two tensors for") as error:
        loaded(listed, written(listed, tmp_path, spoiled))
    assert other in str(error.value)
    assert name == "augreg" or released in str(error.value)


def test_packed_and_apart_are_two_tensors_for_one_place(tmp_path: Path) -> None:
    """An .npz with query, key and value, and with the three packed under timm's name."""
    listed = read_list("augreg")
    packed = {**listed.tensors(), "blocks.1.attn.qkv.bias": torch.ones(3 * 192)}
    with pytest.raises(
        BadInputError, match=r"two tensors for blocks\.1\.attn\.qkv\.bias: that one, and its parts"
    ):
        loaded(listed, written(listed, tmp_path, packed))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("clip", r"fixed claimed, but pos_embed is up to [\d.]+ from the 2D sin-cos table: give"),
        ("mae", "it is that table with rows and columns exchanged"),
    ],
)
def test_a_fixed_table_that_is_claimed_is_looked_for(name: str, said: str, tmp_path: Path) -> None:
    """CLIP's is learned, MAE's the sin-cos one column before row: a contract that says fixed is refused."""
    listed = read_list(name)
    at, tensors = listed.teacher.architecture, listed.tensors()
    if name == "mae":
        tensors["pos_embed"] = sin_cos(tensors["pos_embed"].shape, column_first=True)
    claimed = Components.model_validate({**dict(at.components), "position": "fixed"})
    wrong = listed.teacher.model_copy(update={"architecture": at.with_(components=claimed)})
    path = written(listed, tmp_path, tensors)
    loaded(listed, path)
    with pytest.raises(BadInputError, match=said) as error:
        load_teacher(wrong, wrong.architecture, path, "official")
    assert "\n" not in str(error.value)


def test_moco_v3_with_other_positions_is_refused(tmp_path: Path) -> None:
    """Also at another image size, since it is looked at before it is resampled; float16 is near enough."""
    listed = read_list("mocov3")
    key, tensors = "module.base_encoder.pos_embed", listed.tensors()
    smaller = listed.teacher.architecture.with_(image_size=112)
    halved = {**tensors, key: tensors[key].half()}
    load_teacher(listed.teacher, smaller, written(listed, tmp_path, halved), "official")
    wrong = {**tensors, key: tensors[key] + 0.01}
    with pytest.raises(BadInputError, match=r"pos_embed is up to 0\.01 from"):
        load_teacher(listed.teacher, smaller, written(listed, tmp_path, wrong), "official")


def test_every_layout_has_its_list() -> None:
    """Each official source of a published teacher has names that come from the official class."""
    known = {read_list(name).teacher.source("official").layout for name in NAMES}
    for teacher in TEACHERS:
        for source in teacher.sources:
            if source.backend == "official":
                assert source.layout in known, teacher.name


@pytest.mark.parametrize("name", ["augreg", "clip", "dinov2_reg", "beitv2", "mocov3"])
def test_parts_that_a_layout_puts_together_may_be_missing(name: str, tmp_path: Path) -> None:
    """A file without the pieces that a layout rearranges is refused by name, not with a traceback."""
    listed = read_list(name)
    part = {
        "augreg": "Transformer/encoderblock_1/MultiHeadDotProductAttention_1/key/kernel",
        "clip": "visual.class_embedding",
        "dinov2_reg": "cls_token",
        "beitv2": "rel_pos_bias.relative_position_bias_table",
        "mocov3": "module.base_encoder.blocks.1.attn.qkv.weight",
    }[name]
    tensors = listed.tensors()
    for spoiled in (
        {k: t for k, t in tensors.items() if k != part},
        {**tensors, part: torch.ones(7, 3)},
    ):
        with pytest.raises(BadInputError, match=r"missing|misshapen|unexpected"):
            loaded(listed, written(listed, tmp_path, spoiled))


def test_moco_v3_small_is_refused_by_six_heads(tmp_path: Path) -> None:
    """All shapes fit a network of 6 heads, which would compute other attention: the layout says no."""
    listed = read_list("mocov3")
    size = listed.teacher.architecture.size.model_copy(update={"heads": 6})
    source = listed.teacher.source("official")
    six = listed.teacher.model_copy(
        update={
            "architecture": listed.teacher.architecture.with_(size=size),
            "sources": (source.model_copy(update={"arguments": {**source.arguments, "num_heads": 6}}),),
        }
    )
    path = written(listed, tmp_path)
    with pytest.raises(BadInputError, match="made for 12 heads at every width, not 6"):
        load_teacher(six, six.architecture, path, "official")
    plain_six = Teacher.model_validate(
        {**dict(six), "sources": (six.sources[0].model_copy(update={"layout": None, "unused": ()}),)}
    )
    stripped = {
        name.removeprefix("module.base_encoder."): tensor
        for name, tensor in listed.tensors().items()
        if name.startswith("module.base_encoder.") and ".head." not in name
    }
    fits = write_file(tmp_path / "stripped.pth", "", stripped)
    load_teacher(plain_six, six.architecture, fits, "official")  # nothing but the layout knows


def test_an_ibot_checkpoint_may_come_from_several_processes(tmp_path: Path) -> None:
    """A student's names, `module.backbone.` and a masked_embed, give the same network as the backbone's."""
    listed = read_list("ibot")
    tensors = listed.tensors()
    wrapped = {f"module.backbone.{name}": tensor for name, tensor in tensors.items()}
    wrapped |= {
        "module.backbone.masked_embed": torch.ones(1, 384),
        "module.head.mlp.0.weight": torch.ones(2, 2),
    }
    one = loaded(listed, written(listed, tmp_path)).state_dict()
    other = loaded(listed, written(listed, tmp_path, wrapped)).state_dict()
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_of_i_jepa_s_two_encoders_the_target_is_taken(tmp_path: Path) -> None:
    """A checkpoint of training holds two networks of the same names, and other things."""
    listed = read_list("ijepa", depth=1)
    target, context = listed.tensors(0), listed.tensors(1)
    whole = {
        "encoder": context,
        "predictor": {},
        "target_encoder": target,
        "opt": {"state": {}},
        "epoch": 300,
    }
    torch.save(whole, tmp_path / "ijepa.pth.tar")
    state = loaded(listed, tmp_path / "ijepa.pth.tar").state_dict()
    assert {f"module.{name}" for name in state} == target.keys()
    assert all(torch.equal(tensor, target[f"module.{name}"]) for name, tensor in state.items())


def test_weights_of_beit_that_were_fine_tuned_keep_their_tables(tmp_path: Path) -> None:
    """A table in every block is left as it is."""
    listed = read_list("beitv2")
    tensors = listed.tensors()
    tensors.pop("rel_pos_bias.relative_position_bias_table")
    for block in range(listed.depth):
        tensors[f"blocks.{block}.attn.relative_position_bias_table"] = torch.full((732, 12), float(block))
    state = loaded(listed, written(listed, tmp_path, tensors)).state_dict()
    for block in range(listed.depth):
        assert (state[f"blocks.{block}.attn.relative_position_bias_table"] == block).all()
