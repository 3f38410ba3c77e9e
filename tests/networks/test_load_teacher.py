"""A teacher is loaded whole or not at all, and is what its contract says."""

import argparse
import hashlib
import json
import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor

from vitkd_bench.contracts.taps import LOGITS, POOLED, attention
from vitkd_bench.networks import build_teacher, create_student, load_teacher, weights_sha256
from vitkd_bench.networks.sources import _renamed
from vitkd_bench.registry import TEACHERS
from vitkd_bench.spec import (
    Architecture,
    BadInputError,
    Components,
    DamagedFileError,
    Head,
    PixelStats,
    Size,
    Teacher,
    VitkdError,
    WeightSource,
    WorldError,
)

GREY = PixelStats(mean=(0.4,) * 3, std=(0.2,) * 3)
SMALL = Architecture(image_size=32, patch=16, size=Size(width=192, depth=12, heads=3))


def contract(**changes: object) -> Teacher:
    """A timm teacher of three heads and seven classes at 32 px."""
    facts: dict[str, object] = {
        "name": "test/ti",
        "title": "test",
        "family": "test",
        "group": "reserve",
        "paper": "none",
        "licence": "none",
        "objective": "none",
        "architecture": SMALL,
        "pixels": GREY,
        "head": Head(kind="labels", label_space="digits", num_classes=7),
        "sources": (WeightSource(backend="timm", model="deit_tiny_patch16_224"),),
    }
    return Teacher.model_validate({**facts, **changes})


def timm_state(image_size: int = 32, **arguments: object) -> dict[str, Tensor]:
    """Weights of such a teacher."""
    torch.manual_seed(0)
    model = timm.create_model("deit_tiny_patch16_224", img_size=image_size, **{"num_classes": 7, **arguments})
    state: dict[str, Tensor] = model.state_dict()
    return state


def stored(folder: Path, state: dict[str, Tensor], dtype: torch.dtype = torch.float32) -> Path:
    """Write weights as a file."""
    path = folder / "weights.safetensors"
    save_file({name: tensor.to(dtype).contiguous() for name, tensor in state.items()}, path)
    return path


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_weights_come_out_as_they_went_in(tmp_path: Path, dtype: torch.dtype) -> None:
    """A file of any floating type gives a float32 network with these very values, and timm's output."""
    state = timm_state()
    network = load_teacher(contract(), SMALL, stored(tmp_path, state, dtype))
    for name, tensor in network.module.state_dict().items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, state[name].to(dtype).float())
    reference = timm.create_model("deit_tiny_patch16_224", img_size=32, num_classes=7).eval()
    reference.load_state_dict(network.module.state_dict())
    pixels = torch.rand(2, 3, 32, 32)
    features = network(pixels, frozenset({LOGITS, POOLED, attention(11)}))
    torch.testing.assert_close(features.logits, reference((pixels - 0.4) / 0.2))
    assert features.attention[11].q.shape == (2, 3, 5, 64)


@pytest.mark.parametrize("key", [None, "model", "module", "state_dict", "teacher"])
def test_torch_checkpoints_load(tmp_path: Path, key: str | None) -> None:
    """A torch file holds the weights at its top or where official releases put them, settings beside them."""
    state, path = timm_state(), tmp_path / "weights.pth"
    beside = {"epoch": 3, "args": argparse.Namespace(lr=0.1), "student": {"x": torch.zeros(1)}}
    torch.save({key: state, **beside} if key else state, path)
    network = load_teacher(contract(), SMALL, path)
    assert all(torch.equal(tensor, state[name]) for name, tensor in network.module.state_dict().items())


def test_arrays_load_through_the_layout_of_their_release(tmp_path: Path) -> None:
    """An .npz archive goes through the layout that its source names; what it calls unused is left aside."""
    state = timm_state(num_classes=0)
    state["patch_embed.proj.weight"] = state["patch_embed.proj.weight"].half().float()
    arrays = {f"net/{name}": tensor.numpy() for name, tensor in state.items()}
    arrays["net/patch_embed.proj.weight"] = (
        arrays["net/patch_embed.proj.weight"].transpose(2, 3, 1, 0).astype("f2")
    )
    np.savez(tmp_path / "weights.npz", **arrays, **{"opt/step": np.zeros(3)})  # type: ignore[arg-type]

    @TEACHERS.register_layout("test_arrays")
    def from_arrays(tensors: Mapping[str, Tensor], _: Architecture) -> dict[str, Tensor]:
        named = {name.removeprefix("net/"): tensor for name, tensor in tensors.items()}
        named["patch_embed.proj.weight"] = named["patch_embed.proj.weight"].permute(3, 2, 0, 1)
        return named

    released = WeightSource(
        backend="official", model="deit_tiny_patch16_224", layout="test_arrays", unused=("opt/*",)
    )
    timm_first = WeightSource(backend="timm", model="deit_tiny_patch16_224")
    teacher = contract(head=None, sources=(timm_first, released))
    network = load_teacher(teacher, SMALL, tmp_path / "weights.npz")
    assert network.source == released
    assert network.backend == "official"
    for name, tensor in network.module.state_dict().items():
        assert torch.equal(tensor, state[name])
        assert tensor.is_contiguous()
    wide = released.model_copy(update={"unused": ()})
    with pytest.raises(BadInputError, match=r"1 unexpected \(opt/step\)"):
        load_teacher(contract(head=None, sources=(wide,)), SMALL, tmp_path / "weights.npz")


def sharded(folder: Path, state: dict[str, Tensor]) -> Path:
    """Write weights as two shards and their index."""
    half = len(state) // 2
    names = {name: f"part-{int(i >= half)}.safetensors" for i, name in enumerate(state)}
    for shard in set(names.values()):
        save_file({name: state[name].contiguous() for name in state if names[name] == shard}, folder / shard)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": names}))
    return index


def test_folders_load_as_hubs_lay_them_out(tmp_path: Path) -> None:
    """One file under a usual name, or shards with an index; a folder or an index with less says so."""
    state = timm_state()
    index = sharded(tmp_path, state)
    for path in (tmp_path, index):
        network = load_teacher(contract(), SMALL, path)
        assert all(torch.equal(tensor, state[name]) for name, tensor in network.module.state_dict().items())
    assert weights_sha256(tmp_path) == weights_sha256(index)
    digests = [weights_sha256(tmp_path / f"part-{i}.safetensors") for i in (0, 1)]
    assert weights_sha256(index) == hashlib.sha256("".join(digests).encode()).hexdigest()
    (tmp_path / "whole").mkdir()
    save_file(state, tmp_path / "whole" / "model.safetensors")
    load_teacher(contract(), SMALL, tmp_path / "whole")
    (tmp_path / "part-1.safetensors").unlink()
    with pytest.raises(WorldError, match=r"its shard part-1\.safetensors is missing"):
        load_teacher(contract(), SMALL, tmp_path)
    index.write_text("[]")
    with pytest.raises(DamagedFileError, match="no index of shards"):
        load_teacher(contract(), SMALL, tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInputError, match=r"the folder has none of model\.safetensors, "):
        load_teacher(contract(), SMALL, tmp_path / "empty")


def test_buffers_outside_the_file_are_right(tmp_path: Path) -> None:
    """BEiT's relative index is in no file: after loading it is that of a network which was built as ever."""
    architecture = Architecture(
        image_size=64,
        patch=16,
        size=Size(width=768, depth=12, heads=12),
        components=Components(layer_scale=0.1, relative_position_bias=True, position="none", qkv_bias="qv"),
    )
    source = WeightSource(backend="timm", model="beitv2_base_patch16_224", arguments={"init_values": 0.1})
    teacher = contract(architecture=architecture, head=None, sources=(source,))
    torch.manual_seed(0)
    plain = timm.create_model("beitv2_base_patch16_224", img_size=64, num_classes=0, init_values=0.1).eval()
    network = load_teacher(teacher, architecture, stored(tmp_path, plain.state_dict()))
    pixels = torch.rand(2, 3, 64, 64)
    pooled = network(pixels, frozenset({POOLED})).pooled
    torch.testing.assert_close(pooled, plain((pixels - 0.4) / 0.2))
    assert not any(t.is_meta for t in (*network.parameters(), *network.buffers()))


def test_keys_that_do_not_fit_are_counted_and_named(tmp_path: Path) -> None:
    """Missing, unexpected and misshapen keys are told apart; the first five of each are named."""
    state = timm_state()
    for i in range(7):
        del state[f"blocks.{i}.norm1.weight"]
    state["mask_token"] = torch.zeros(1)
    state["cls_token"] = torch.zeros(1, 1, 5)
    with pytest.raises(BadInputError) as caught:
        load_teacher(contract(), SMALL, stored(tmp_path, state))
    text = str(caught.value)
    assert text.startswith("teacher 'test/ti': weights ")
    assert "7 missing (blocks.0.norm1.weight, " in text
    assert "blocks.4.norm1.weight, ...)" in text
    assert "blocks.5.norm1.weight" not in text
    assert "1 unexpected (mask_token)" in text
    assert "1 misshapen (cls_token (1, 1, 5) for (1, 1, 192))" in text
    assert "\n" not in text


@pytest.mark.parametrize("dtype", [torch.int32, torch.bool, torch.complex64, torch.float8_e4m3fn])
@pytest.mark.parametrize("kind", ["safetensors", "pth", "npz"])
def test_numbers_of_no_floating_type_are_named(tmp_path: Path, dtype: torch.dtype, kind: str) -> None:
    """Counts, flags, complex numbers and those that need a scale are no weights in any kind of file."""
    state = {name: tensor.contiguous() for name, tensor in timm_state().items()}
    state["cls_token"] = torch.ones_like(state["cls_token"]).to(dtype)
    path = tmp_path / f"weights.{kind}"
    if kind == "safetensors":
        save_file(state, path)
    elif kind == "pth":
        torch.save(state, path)
    elif dtype != torch.float8_e4m3fn:  # numpy has no such type
        np.savez(path, **{name: tensor.numpy() for name, tensor in state.items()})  # type: ignore[arg-type]
    else:
        return
    said = rf"1 mistyped \(cls_token {str(dtype).removeprefix('torch.')} for float32\)$"
    with pytest.raises(BadInputError, match=said):
        load_teacher(contract(), SMALL, path)


def test_a_position_table_of_integers_at_another_grid_is_named(tmp_path: Path) -> None:
    """It is not resampled but refused by name; what is unused may be of any type."""
    state = {**timm_state(image_size=64), "steps": torch.ones(3, dtype=torch.int64)}
    source = WeightSource(backend="timm", model="deit_tiny_patch16_224", unused=("steps",))
    torch.save(state, tmp_path / "weights.pth")
    load_teacher(contract(sources=(source,)), SMALL, tmp_path / "weights.pth")
    torch.save({**state, "pos_embed": state["pos_embed"].int()}, tmp_path / "weights.pth")
    with pytest.raises(BadInputError, match=r"1 mistyped \(pos_embed int32 for float32\)"):
        load_teacher(contract(sources=(source,)), SMALL, tmp_path / "weights.pth")


def test_a_key_in_two_shards_is_refused(tmp_path: Path) -> None:
    """Neither shard wins."""
    state = timm_state()
    index = sharded(tmp_path, state)
    save_file(
        {"cls_token": state["cls_token"], "head.bias": state["head.bias"]}, tmp_path / "part-0.safetensors"
    )
    with pytest.raises(BadInputError, match=r"part-1\.safetensors and another shard both hold head\.bias"):
        load_teacher(contract(), SMALL, index)


@pytest.mark.parametrize(
    ("source", "names"),
    [
        (WeightSource(backend="transformers", model="ViTModel"), ("vit.layernorm.bias", "layernorm.bias")),
        (WeightSource(backend="open_clip", model="ViT-B-32"), ("visual.ln_pre.bias", "ln_pre.bias")),
    ],
)
def test_a_library_s_two_names_for_one_place_are_refused(
    tmp_path: Path, source: WeightSource, names: tuple[str, str]
) -> None:
    """A model's prefix is optional in a file, so a file may hold a place under both names: which is meant?"""
    module = torch.nn.Module()
    if source.backend == "transformers":
        module = build_teacher(contract(head=None, sources=(source,)), SMALL, unfilled=True)
    tensors = {name: torch.zeros(192) for name in names}
    with pytest.raises(BadInputError, match=rf"two tensors for .*{names[0]} and {names[1]}"):
        _renamed(module, tensors, source, SMALL, str(tmp_path))


def test_a_head_is_there_when_it_is_claimed_and_only_then(tmp_path: Path) -> None:
    """A claimed head that the file lacks is an error; one that nobody claims is left aside."""
    headless = timm_state(num_classes=0)
    with pytest.raises(BadInputError, match=r"no head\.weight in the file.*one of 7 classes \(digits\)"):
        load_teacher(contract(), SMALL, stored(tmp_path, headless))
    network = load_teacher(contract(head=None), SMALL, stored(tmp_path, timm_state()))
    assert not network.has_head
    other = contract(head=Head(kind="labels", label_space="digits", num_classes=9))
    with pytest.raises(BadInputError, match=r"2 misshapen \(head\.bias \(7,\) for \(9,\)"):
        load_teacher(other, SMALL, stored(tmp_path, timm_state()))


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"size": Size(width=192, depth=12, heads=6)}, "size.heads: 6 claimed, 3 found"),
        ({"size": Size(width=192, depth=6, heads=3)}, "size.depth: 6 claimed, 12 found"),
        (
            {"components": Components(layer_scale=0.1)},
            "components.layer_scale: present claimed, absent found",
        ),
        ({"components": Components(position="none")}, "components.position: absent claimed, present found"),
        ({"components": Components(norm_pre=True)}, "components.norm_pre: True claimed, False found"),
        ({"components": Components(norm_eps=1e-5)}, "components.norm_eps: 1e-05 claimed"),
        ({"components": Components(activation="quick_gelu")}, "components.activation: quick_gelu claimed"),
        ({"registers": 4}, "registers: 4 claimed, 0 found"),
        ({"class_token": False}, "class_token: False claimed, True found"),
    ],
)
def test_a_contract_that_claims_too_much_is_refused(changes: dict[str, object], part: str) -> None:
    """What was built is compared with what is claimed, part by part."""
    claimed = SMALL.with_(**changes)
    with pytest.raises(BadInputError, match="not what its contract says") as caught:
        build_teacher(contract(architecture=claimed), claimed)
    assert part in str(caught.value)


def test_an_unknown_timm_model_is_an_error_of_the_contract() -> None:
    """The field is named, and that it is missing too."""
    with pytest.raises(BadInputError, match=r"model: .*vit_no_such"):
        build_teacher(contract(sources=(WeightSource(backend="timm", model="vit_no_such"),)), SMALL)
    with pytest.raises(BadInputError, match="no weights elsewhere"):
        build_teacher(contract(sources=()), SMALL)


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    """No file, a truncated one, a foreign one, one without tensors, one with NaN: each says which and why."""
    whole = stored(tmp_path, timm_state())
    with pytest.raises(WorldError, match=r"nowhere\.safetensors: no such file"):
        load_teacher(contract(), SMALL, tmp_path / "nowhere.safetensors")
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(whole.read_bytes()[:-1000])
    text = tmp_path / "text.pth"
    text.write_text("not weights")
    listing = tmp_path / "list.pth"
    torch.save({"epoch": 3}, listing)
    broken = timm_state()
    broken["cls_token"][0, 0, 0] = torch.nan
    (tmp_path / "nan").mkdir()
    nan = stored(tmp_path / "nan", broken)
    zipped = tmp_path / "cut.npz"
    zipped.write_bytes(whole.read_bytes()[:1000])
    short = tmp_path / "short.pth"
    torch.save(timm_state(), short)
    short.write_bytes(short.read_bytes()[:-5000])
    for path, reason in (
        (cut, "cannot be read"),
        (zipped, "cannot be read"),
        (short, "cannot be read"),
        (text, "cannot be read"),
        (nan, "cls_token"),
    ):
        with pytest.raises(DamagedFileError, match=rf"{path.name}.*{reason}") as caught:
            load_teacher(contract(), SMALL, path)
        assert "\n" not in str(caught.value)
    with pytest.raises(BadInputError, match="no tensors by name"):
        load_teacher(contract(), SMALL, listing)


def test_what_holds_code_is_not_run(tmp_path: Path) -> None:
    """A pickle with code, objects among arrays, a TorchScript archive: one line each, and nothing ran."""

    class Hostile:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (tmp_path / "touched",))  # type: ignore[return-value]

    torch.save({"model": Hostile()}, tmp_path / "hostile.pth")
    with pytest.raises(BadInputError, match=r"hostile\.pth: holds pickled code, which is not run"):
        load_teacher(contract(), SMALL, tmp_path / "hostile.pth")
    np.savez(tmp_path / "hostile.npz", weights=np.array([Hostile()], dtype=object))
    teacher = contract(head=None)
    with pytest.raises(VitkdError, match=r"hostile\.npz"):
        load_teacher(teacher, SMALL, tmp_path / "hostile.npz")
    assert not (tmp_path / "touched").exists()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch announces the end of TorchScript
        torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), tmp_path / "archive.pt")
    with pytest.raises(BadInputError, match=r"archive\.pt: a TorchScript archive") as caught:
        load_teacher(contract(), SMALL, tmp_path / "archive.pt")
    assert "\n" not in str(caught.value)


def test_position_tables_are_brought_to_the_grid(tmp_path: Path) -> None:
    """At another image size the embedding is resampled as timm does it, the class token's slot unchanged."""
    state = timm_state(image_size=64)
    network = load_teacher(contract(), SMALL, stored(tmp_path, state))
    position = network.module.state_dict()["pos_embed"]
    expected = timm.layers.resample_abs_pos_embed(state["pos_embed"], [2, 2], [4, 4], num_prefix_tokens=1)
    assert torch.equal(position, expected)
    assert torch.equal(position[:, 0], state["pos_embed"][:, 0])


@pytest.mark.parametrize("name", [name for name in TEACHERS.names() if name.startswith("micro/")])
@pytest.mark.parametrize("image_size", [8, 12])
def test_micro_teachers_load_what_the_engine_stores(tmp_path: Path, name: str, image_size: int) -> None:
    """A stored student of a micro teacher's architecture is that teacher, also at another image size."""
    teacher = TEACHERS.get(name)
    classes = teacher.head.num_classes if teacher.head else 0
    student = create_student(teacher.architecture, classes, teacher.pixels, seed=5)
    path = stored(tmp_path, student.module.state_dict())
    architecture = teacher.architecture.with_(image_size=image_size)
    network = load_teacher(teacher, architecture, path)
    pixels = torch.rand(4, 1, image_size, image_size)
    pooled = network(pixels, frozenset({POOLED})).pooled
    assert pooled is not None
    assert bool(pooled.isfinite().all())
    assert network.has_head == (teacher.head is not None)
    if image_size == teacher.architecture.image_size:
        with torch.no_grad():  # with gradients, torch attends by another kernel where there is a bias
            assert torch.equal(pooled, student.eval()(pixels).pooled)  # type: ignore[arg-type]


def test_a_file_is_known_by_its_sha256(tmp_path: Path) -> None:
    """The digest is that of the bytes; a file that is not there is said to be so."""
    path = tmp_path / "weights"
    path.write_bytes(b"abc")
    assert weights_sha256(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    with pytest.raises(WorldError, match="gone"):
        weights_sha256(tmp_path / "gone")
