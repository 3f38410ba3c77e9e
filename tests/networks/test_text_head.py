"""Zero-shot heads: logits of class names are those of the library that the weights come from."""

import json
from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.fixtures.narrow_texts import (
    clip,
    siglip2,
    stored,
    stored_tensors,
    whole_model,
    write_tokenizer,
)
from vitkd_bench.networks import (
    ViTNetwork,
    load_teacher,
    text_head,
    tokenizer_sha256,
    why_textless,
)
from vitkd_bench.networks.text_head import TextHead
from vitkd_bench.networks.text_tower import read_text_side
from vitkd_bench.registry import TEACHERS
from vitkd_bench.spec import (
    Architecture,
    BadInputError,
    Components,
    DamagedFileError,
    Size,
    Teacher,
    WorldError,
)

NAMES = ("red square", "green square", "blue square")
TEMPLATES = ("a photo of a {}.", "a bad photo of the {}.")
LOGITS = frozenset({"logits"})


def with_texts(teacher: Teacher, weights: Path, backend: Any = None) -> ViTNetwork:
    """The teacher as it is loaded, with a head of `NAMES`."""
    network = load_teacher(teacher, teacher.architecture, weights, backend)
    network.attach_head(text_head(teacher, weights, NAMES, TEMPLATES))
    return network


def pictures(teacher: Teacher) -> Tensor:
    """Three random images for a teacher, in [0, 1]."""
    side = teacher.architecture.image_size
    return torch.rand(3, 3, side, side, generator=torch.Generator().manual_seed(5))


def seen(network: ViTNetwork, images: Tensor) -> Tensor:
    """Logits of images."""
    logits = network(images, LOGITS).logits
    assert logits is not None
    return logits.detach()


@pytest.mark.parametrize("make", [clip, siglip2])
@torch.no_grad()
def test_logits_are_those_of_the_whole_model_in_open_clip(
    make: Callable[[], Teacher], tmp_path: Path
) -> None:
    """One template: the model's own logits of image and text; several: those of its zero-shot classifier."""
    teacher = make()
    model = whole_model(teacher)
    weights = stored(model, tmp_path)
    write_tokenizer(tmp_path)
    if make is clip:
        tokenize = open_clip.get_tokenizer("narrow-clip")
    else:
        tokenize = open_clip.tokenizer.HFTokenizer(str(tmp_path), context_length=16, clean="canonicalize")
    network, images = with_texts(teacher, weights), pictures(teacher)
    pixels = network.normalise(images)
    several = open_clip.build_zero_shot_classifier(model, tokenize, NAMES, TEMPLATES)
    scaled = model.logit_scale.exp() * model.encode_image(pixels, normalize=True) @ several
    expected = scaled if model.logit_bias is None else scaled + model.logit_bias
    torch.testing.assert_close(seen(network, images), expected, atol=1e-4, rtol=0)
    assert expected.std() > 0.01  # or two equal constants would pass

    one = "a photo of a {}."
    network.attach_head(text_head(teacher, weights, NAMES, [one]))
    own, _ = model.get_logits(pixels, tokenize([one.format(name) for name in NAMES]))
    torch.testing.assert_close(seen(network, images), own, atol=1e-4, rtol=0)
    assert not any(parameter.requires_grad for parameter in network.parameters())
    assert not network.attached_head or not network.attached_head.training


def of_transformers(teacher: Teacher, model: str, shape: dict[str, Any]) -> Teacher:
    """The same teacher in transformers' form: without what its classes lack."""
    size = Size(width=96, depth=2, heads=3)
    architecture = Architecture(**{**dict(teacher.architecture), "size": size, **shape})
    (source,) = (s for s in teacher.sources if s.backend == "transformers")
    return teacher.model_copy(
        update={"architecture": architecture, "sources": (source.model_copy(update={"model": model}),)}
    )


@torch.no_grad()
def test_logits_are_those_of_clip_in_transformers(tmp_path: Path) -> None:
    """Its q, k and v stand apart and its projections are transposed; the text tower is the same."""
    import transformers

    text = {"vocab_size": 49408, "max_position_embeddings": 24, "eos_token_id": 49407, "bos_token_id": 49406}
    tower = {"num_hidden_layers": 2, "hidden_act": "quick_gelu", "attn_implementation": "eager"}
    torch.manual_seed(4)
    config = transformers.CLIPConfig(
        text_config={**text, **tower, "hidden_size": 32, "intermediate_size": 128, "num_attention_heads": 2},
        vision_config={
            **tower,
            "hidden_size": 48,
            "intermediate_size": 192,
            "num_attention_heads": 3,
            "image_size": 32,
            "patch_size": 8,
        },
        projection_dim=24,
    )
    model = transformers.CLIPModel(config).eval()
    disturb(model)
    model.save_pretrained(tmp_path)
    teacher = clip()
    network, images = with_texts(teacher, tmp_path / "model.safetensors", "transformers"), pictures(teacher)
    network.attach_head(text_head(teacher, tmp_path, NAMES, TEMPLATES[:1]))
    ids = open_clip.get_tokenizer("narrow-clip")([TEMPLATES[0].format(name) for name in NAMES])
    expected = model(input_ids=ids, pixel_values=network.normalise(images)).logits_per_image
    torch.testing.assert_close(seen(network, images), expected, atol=1e-4, rtol=0)


@torch.no_grad()
def test_logits_are_those_of_siglip_in_transformers(tmp_path: Path) -> None:
    """With its bias; the tanh form of GELU is the contract's in both towers."""
    import transformers

    tower = {"num_hidden_layers": 2, "hidden_act": "gelu_pytorch_tanh", "attn_implementation": "eager"}
    torch.manual_seed(4)
    config = transformers.SiglipConfig(
        text_config={
            **tower,
            "vocab_size": 64,
            "max_position_embeddings": 16,
            "hidden_size": 32,
            "intermediate_size": 128,
            "num_attention_heads": 2,
            "projection_size": 96,
            "layer_norm_eps": 1e-6,
        },
        vision_config={
            **tower,
            "hidden_size": 96,
            "intermediate_size": 384,
            "num_attention_heads": 3,
            "image_size": 32,
            "patch_size": 8,
            "layer_norm_eps": 1e-6,
        },
    )
    model = transformers.SiglipModel(config).eval()
    disturb(model)
    model.save_pretrained(tmp_path)
    write_tokenizer(tmp_path)
    parts = Components(activation="gelu_tanh")
    shape = {"image_size": 32, "patch": 8, "registers": 0, "components": parts}
    teacher = of_transformers(siglip2(), "SiglipVisionModel", shape)
    network, images = with_texts(teacher, tmp_path / "model.safetensors"), pictures(teacher)
    network.attach_head(text_head(teacher, tmp_path, NAMES, TEMPLATES[:1]))
    tokenize = open_clip.tokenizer.HFTokenizer(str(tmp_path), context_length=16, clean="canonicalize")
    ids = tokenize([TEMPLATES[0].format(name) for name in NAMES])
    expected = model(input_ids=ids, pixel_values=network.normalise(images)).logits_per_image
    torch.testing.assert_close(seen(network, images), expected, atol=1e-4, rtol=0)
    assert expected.std() > 0.01


def disturb(model: torch.nn.Module) -> None:
    """Move every weight off its initial value; tensors of no dimension are scale and bias."""
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)


@pytest.mark.parametrize("name", sorted(t.name for t in TEACHERS if t.text_encoder))
def test_the_text_side_reads_what_the_image_tower_leaves_aside(name: str) -> None:
    """Of open_clip's whole model, the keys that a contract calls unused are those of which a head is made."""
    teacher = TEACHERS.get(name)
    source = teacher.source("open_clip")
    config = open_clip.get_model_config(source.model)
    kind = open_clip.CustomTextCLIP if config.pop("custom_text", False) else open_clip.CLIP
    with torch.device("meta"):
        whole = kind(**config).state_dict()
    from vitkd_bench.networks.text_tower import _missing, _named, _unfilled

    read: set[str] = set()

    class Watched(dict[str, Tensor]):
        def __getitem__(self, key: str) -> Tensor:
            read.add(key)
            return super().__getitem__(key)

    named = _named(Watched(whole))
    unused = {key for key in whole if any(fnmatchcase(key, pattern) for pattern in source.unused)}
    assert read == unused
    assert named.keys() == _unfilled(teacher).state_dict().keys()
    assert _missing(_unfilled(teacher), whole, teacher) is None


def test_the_text_tower_has_the_contract_s_activation(tmp_path: Path) -> None:
    """SigLIP's text tower is exact in open_clip's configuration, and in tanh form in the release."""
    teacher = siglip2()
    tanh = teacher.model_copy(
        update={"architecture": teacher.architecture.with_(components=Components(activation="gelu_tanh"))}
    )
    side = read_text_side(tanh, stored(whole_model(teacher), tmp_path))
    activations = [m for m in side.modules() if isinstance(m, torch.nn.GELU)]
    assert {m.approximate for m in activations} == {"tanh"}
    assert len(activations) == 2


@given(
    scale=st.floats(0.01, 100),
    order=st.permutations(range(4)),
    seed=st.integers(0, 2**31),
)
def test_a_head_sees_directions_and_treats_classes_alike(scale: float, order: list[int], seed: int) -> None:
    """Longer features change no logit, and classes in another order give logits in that order."""
    random = torch.Generator().manual_seed(seed)
    side: Any = torch.nn.Module()
    side.projection = torch.nn.Parameter(torch.randn(6, 5, generator=random))
    side.logit_scale = torch.nn.Parameter(torch.tensor(2.0))
    side.logit_bias = torch.nn.Parameter(torch.tensor(-1.0))
    texts = torch.nn.functional.normalize(torch.randn(4, 5, generator=random), dim=-1)
    pooled = torch.randn(3, 6, generator=random)
    logits = TextHead(side, texts)(pooled)
    torch.testing.assert_close(TextHead(side, texts)(scale * pooled), logits, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(TextHead(side, texts[order])(pooled), logits[:, order])
    assert logits.max() <= torch.tensor(2.0).exp() - 1 + 1e-4


def test_a_file_without_a_text_tower_is_said_to_have_none(tmp_path: Path) -> None:
    """A tower stored by itself is a whole teacher, and no head can be made of it."""
    teacher = clip()
    tensors = whole_model(teacher).state_dict()
    tower = {k: t for k, t in tensors.items() if k.startswith("visual.") and k != "visual.proj"}
    weights = stored_tensors(tower, tmp_path)
    load_teacher(teacher, teacher.architecture, weights)
    why = why_textless(teacher, weights)
    assert why is not None
    assert why.startswith("the file holds the image tower alone")
    assert why.endswith("backend: open_clip or transformers")
    with pytest.raises(BadInputError, match="image tower alone"):
        text_head(teacher, weights, NAMES, TEMPLATES)


@pytest.mark.parametrize(
    ("left_out", "named"),
    [
        ("ln_final.bias", r"1 missing \(tower.ln_final.bias\)"),
        ("visual.proj", r"1 missing \(projection\)"),
        ("logit_scale", r"1 missing \(logit_scale\)"),
    ],
)
def test_what_a_text_side_lacks_is_named(left_out: str, named: str, tmp_path: Path) -> None:
    """A scale or a projection that is not there is not made up."""
    teacher = clip()
    tensors = whole_model(teacher).state_dict()
    del tensors[left_out]
    with pytest.raises(BadInputError, match=named):
        text_head(teacher, stored_tensors(tensors, tmp_path), NAMES, TEMPLATES)


def test_another_text_tower_is_refused(tmp_path: Path) -> None:
    """One with a block too many."""
    teacher = clip()
    tensors = whole_model(teacher).state_dict()
    tensors |= {k.replace("resblocks.1", "resblocks.2"): t for k, t in tensors.items() if "resblocks.1" in k}
    with pytest.raises(BadInputError, match="12 unexpected"):
        text_head(teacher, stored_tensors(tensors, tmp_path), NAMES, TEMPLATES)


def test_a_tokenizer_that_is_not_at_hand_is_named(tmp_path: Path) -> None:
    """The message says which files of which repository, and how to get them; CLIP's needs none."""
    teacher = siglip2()
    weights = stored(whole_model(teacher), tmp_path)
    needed = "tokenizer of example/narrow-siglip2, tokenizer.json and tokenizer_config.json"
    with pytest.raises(WorldError, match=needed) as caught:
        text_head(teacher, weights, NAMES, TEMPLATES)
    command = "hf download example/narrow-siglip2 tokenizer.json tokenizer_config.json"
    assert str(caught.value).endswith(command)
    assert tokenizer_sha256(clip(), weights) is None


def test_a_tokenizer_in_the_hub_s_cache_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `hf download` puts it there; what is beside the weights comes first."""
    cache, teacher = tmp_path / "hub", siglip2()
    repository = cache / "models--example--narrow-siglip2"
    snapshot = repository / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")
    write_tokenizer(snapshot)
    monkeypatch.setattr("huggingface_hub.file_download.constants.HF_HUB_CACHE", str(cache))
    weights = stored(whole_model(teacher), tmp_path / "weights")
    cached = tokenizer_sha256(teacher, weights)
    assert text_head(teacher, weights, NAMES, TEMPLATES).get_buffer("texts").shape == (3, 96)
    write_tokenizer(tmp_path / "weights", words=("square",))
    assert tokenizer_sha256(teacher, weights) not in {None, cached}


def test_bad_tokenizers_and_texts_are_refused(tmp_path: Path) -> None:
    """Files that are damaged, ids that the tower does not know, and a text that would be cut."""
    teacher = siglip2()
    weights = stored(whole_model(teacher), tmp_path)
    write_tokenizer(tmp_path)
    with pytest.raises(BadInputError, match="a text of over 16 tokens: 'a photo"):
        text_head(teacher, weights, ["dark " * 16], TEMPLATES)
    other = stored(whole_model(clip()), tmp_path / "clip")
    with pytest.raises(BadInputError, match="a text of over 24 tokens"):
        text_head(clip(), other, ["dark " * 24], TEMPLATES)
    write_tokenizer(tmp_path, words=tuple(f"word{i}" for i in range(80)))
    with pytest.raises(BadInputError, match=r"gives id 72, and the text tower of .* knows 64"):
        text_head(teacher, weights, ["word69"], ["{}"])
    (tmp_path / "tokenizer.json").write_text(json.dumps({"version": "1.0"}))
    with pytest.raises(DamagedFileError, match="tokenizer"):
        text_head(teacher, weights, NAMES, TEMPLATES)
