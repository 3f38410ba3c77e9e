"""One set of random weights, in the names of every library that offers a teacher, is one network."""

from functools import partial
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from tests.networks.library_names import State, as_stored
from tests.teachers.official_files import filled, shallow
from vitkd_bench.contracts import Features
from vitkd_bench.contracts.taps import LOGITS, POOLED, attention, tokens
from vitkd_bench.networks import ViTNetwork, build_teacher, load_teacher, read_architecture
from vitkd_bench.registry import TEACHERS
from vitkd_bench.spec import BadInputError, Teacher, WeightSource

DEPTH = 2
TAPS = frozenset({POOLED, *map(attention, range(DEPTH)), *map(tokens, range(DEPTH))})
OFFERED = [  # every way that is not timm's to a teacher that timm has, files of releases apart
    (teacher.name, source.backend)
    for teacher in TEACHERS
    for source in teacher.sources
    if teacher.source().backend == "timm" and source.backend in {"open_clip", "transformers"}
]


def small(name: str) -> Teacher:
    """A registered teacher, its sources and its contract, with two blocks and four patches a side."""
    teacher = shallow(TEACHERS.get(name), DEPTH)
    architecture = teacher.architecture.with_(image_size=4 * teacher.architecture.patch)
    return teacher.model_copy(update={"architecture": architecture})


def random_state(of: Teacher) -> State:
    """Weights of a teacher in timm's names, none of them at its initial value."""
    with torch.device("meta"):
        shapes = build_teacher(of, of.architecture, "timm", unfilled=True).state_dict()
    random = torch.Generator().manual_seed(1)
    return {name: filled(name, "float32", tuple(t.shape), random) for name, t in shapes.items()}


def stored(folder: Path, state: State) -> Path:
    """Write weights as a file."""
    folder.mkdir(exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, folder / "model.safetensors")
    return folder


def see(network: ViTNetwork) -> Features:
    """What a network sees in two images."""
    side = network.architecture.image_size
    return network(torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(2)), TAPS)


def distance(one: Features, other: Features) -> dict[str, float]:
    """The largest difference in tokens, maps and pooled features, over the largest value of each."""
    assert one.pooled is not None
    assert other.pooled is not None
    pairs = {
        "tokens": [(one.tokens[i], other.tokens[i]) for i in range(DEPTH)],
        "attention": [(one.attention[i].maps(), other.attention[i].maps()) for i in range(DEPTH)],
        "pooled": [(one.pooled, other.pooled)],
    }
    return {
        kind: max(float((a - b).abs().max() / a.abs().max()) for a, b in both) for kind, both in pairs.items()
    }


@pytest.mark.parametrize(("name", "backend"), OFFERED)
def test_backends_agree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, backend: str) -> None:
    """Tokens, maps and pooled features of two libraries agree to 1e-4; each file is known by its names."""
    monkeypatch.setattr(timm, "create_model", partial(timm.create_model, depth=DEPTH))  # open_clip's towers
    contract = small(name)
    state = random_state(contract)
    ours = load_teacher(contract, contract.architecture, stored(tmp_path / "timm", state))
    file = stored(tmp_path / backend, as_stored(contract, backend, state))
    theirs = load_teacher(contract, contract.architecture, file)
    assert (ours.backend, theirs.backend) == ("timm", backend)
    claimed = contract.architecture.components.activation
    for network in (ours, theirs):
        assert read_architecture(network.module).components.activation == claimed
    one, other = see(ours), see(theirs)
    assert one.tokens[1].std() > 0.1  # networks that say nothing would agree on anything
    assert max(distance(one, other).values()) < 1e-4
    if contract.head:
        side = contract.architecture.image_size
        pixels = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(3))
        logits = [network(pixels, frozenset({LOGITS})).logits for network in (ours, theirs)]
        torch.testing.assert_close(*logits, atol=1e-4, rtol=1e-4)


def test_a_file_that_fits_no_source_says_what_was_tried(tmp_path: Path) -> None:
    """The first source's complaint, the others by name; with a backend given, that one alone."""
    contract = small("clip/b16")
    path = stored(tmp_path, random_state(small("dino/b")))
    with pytest.raises(
        BadInputError, match=r"missing \(norm_pre\.bias.*; nor those of open_clip \(ViT-B-16-q"
    ):
        load_teacher(contract, contract.architecture, path)
    with pytest.raises(BadInputError, match=r"missing \(class_embedding") as caught:
        load_teacher(contract, contract.architecture, path, "open_clip")
    assert "nor those" not in str(caught.value)
    dino = small("dino/b")
    with pytest.raises(BadInputError, match="backend 'open_clip' does not offer it"):
        load_teacher(dino, dino.architecture, path, "open_clip")


def from_transformers(model: str, **arguments: object) -> WeightSource:
    """A class of transformers; its size is the contract's."""
    return WeightSource(backend="transformers", model=model, arguments=arguments)


@pytest.mark.parametrize("model", ["CLIPVisionModle", "torch", "AutoConfig"])
def test_unknown_classes_and_fields_are_named(model: str) -> None:
    """A class that transformers lacks, and a field that a class lacks: one line with the nearest name."""
    contract = small("clip/b16")
    wrong = contract.model_copy(update={"sources": (from_transformers(model),)})
    with pytest.raises(BadInputError, match=f"transformers '{model}': no such model"):
        build_teacher(wrong, wrong.architecture)
    wrong = contract.model_copy(update={"sources": (from_transformers("CLIPVisionModel", hiden_size=3),)})
    with pytest.raises(BadInputError, match="no field 'hiden_size'; did you mean 'hidden_size'"):
        build_teacher(wrong, wrong.architecture)


@pytest.mark.parametrize(
    ("name", "source", "component"),
    [
        # timm builds OpenAI's CLIP with exact GELU unless asked by another name, and SigLIP unless told
        ("clip/b16", WeightSource(backend="timm", model="vit_base_patch16_clip_224"), "activation"),
        ("siglip2/b16", WeightSource(backend="timm", model="vit_base_patch16_siglip_224"), "activation"),
        # transformers' configuration of ViT says 1e-12
        ("dino/s", from_transformers("ViTModel", layer_norm_eps=1e-12), "norm_eps"),
    ],
)
def test_a_default_of_a_library_is_another_network(name: str, source: WeightSource, component: str) -> None:
    """What a library builds without being told otherwise is refused, by the part in which it differs."""
    contract = TEACHERS.get(name).model_copy(update={"sources": (source,)})
    with pytest.raises(BadInputError, match=f"components.{component}: "):
        build_teacher(contract, contract.architecture, unfilled=True)
