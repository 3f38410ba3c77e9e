"""One set of random weights, in the names of every library that offers a teacher, is one network."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor

from vitkd_bench.contracts import Features
from vitkd_bench.contracts.taps import POOLED, attention, tokens
from vitkd_bench.networks import ViTNetwork, load_teacher
from vitkd_bench.spec import (
    HALF_PIXELS,
    IMAGENET_PIXELS,
    OPENAI_PIXELS,
    Architecture,
    BadInputError,
    Components,
    Head,
    PixelStats,
    PositionInterpolation,
    Size,
    Teacher,
    WeightSource,
)

Names = Callable[[str], str]
State = dict[str, Tensor]

WIDTH, HEADS, DEPTH = 48, 3, 2
TIMM_SIZE = {"embed_dim": WIDTH, "num_heads": HEADS, "depth": DEPTH}
SIZE = Size(width=WIDTH, depth=DEPTH, heads=HEADS)
TAPS = frozenset({POOLED, *map(attention, range(DEPTH)), *map(tokens, range(DEPTH))})
TEXT = (
    "text_model.*",
    "text_projection*",
    "visual_projection*",
    "logit_scale",
    "logit_bias",
    "*.position_ids",
)
CLIP_TEXT = (
    "transformer.*",
    "token_embedding.*",
    "positional_embedding",
    "ln_final.*",
    "text_projection",
    "logit_scale",
    "visual.proj",
)
LAYER_SCALE = Components(layer_scale=1e-5)


def teacher(
    name: str,
    architecture: Architecture,
    pixels: PixelStats,
    *sources: WeightSource,
    interpolation: PositionInterpolation = "timm",
    head: Head | None = None,
) -> Teacher:
    """A contract with the fields that loading reads."""
    return Teacher(
        name=name,
        title=name,
        family="test",
        group="reserve",
        paper="none",
        licence="none",
        objective="none",
        architecture=architecture,
        pixels=pixels,
        sources=sources,
        head=head,
        position_interpolation=interpolation,
    )


def from_timm(model: str, **arguments: object) -> WeightSource:
    """A small model of timm."""
    return WeightSource(backend="timm", model=model, arguments={**TIMM_SIZE, **arguments})


def from_transformers(model: str, *unused: str, **arguments: object) -> WeightSource:
    """A class of transformers; its size is the contract's."""
    return WeightSource(backend="transformers", model=model, arguments=arguments, unused=unused)


def small(patch: int = 16, **changes: object) -> Architecture:
    """Four patches a side."""
    return Architecture(image_size=4 * patch, patch=patch, size=SIZE).with_(**changes)


PLAIN = small()
TEACHERS = {
    "dino": teacher(
        "dino",
        PLAIN,
        IMAGENET_PIXELS,
        from_timm("vit_small_patch16_224"),
        from_transformers("ViTModel", "pooler.*"),
    ),
    "deit": teacher(
        "deit",
        PLAIN,
        IMAGENET_PIXELS,
        from_timm("deit_small_patch16_224"),
        from_transformers("ViTForImageClassification"),
        head=Head(kind="labels", label_space="digits", num_classes=10),
    ),
    "clip": teacher(
        "clip",
        small(components=Components(norm_pre=True, activation="quick_gelu", patch_bias=False, norm_eps=1e-5)),
        OPENAI_PIXELS,
        from_timm("vit_base_patch16_clip_quickgelu_224"),
        WeightSource(
            backend="open_clip",
            model="ViT-B-16-quickgelu",
            unused=CLIP_TEXT,
            arguments={"width": WIDTH, "layers": DEPTH, "head_width": WIDTH // HEADS},
        ),
        from_transformers("CLIPVisionModel", *TEXT),
    ),
    "siglip2": teacher(
        "siglip2",
        small(class_token=False, components=Components(activation="gelu_tanh")),
        HALF_PIXELS,
        from_timm("vit_base_patch16_siglip_224", act_layer="gelu_tanh"),
        from_transformers("SiglipVisionModel", *TEXT),
    ),
    "dinov2": teacher(
        "dinov2",
        small(14, components=LAYER_SCALE),
        IMAGENET_PIXELS,
        from_timm("vit_small_patch14_dinov2"),
        from_transformers("Dinov2Model", "embeddings.mask_token"),
    ),
    "dinov2_reg": teacher(
        "dinov2_reg",
        small(14, registers=4, components=Components(layer_scale=1e-5, position_on_prefix=False)),
        IMAGENET_PIXELS,
        from_timm("vit_small_patch14_reg4_dinov2"),
        from_transformers("Dinov2WithRegistersModel", "embeddings.mask_token"),
    ),
    "beit": teacher(
        "beit",
        small(
            components=Components(
                layer_scale=0.1, relative_position_bias=True, position="none", qkv_bias="qv"
            )
        ),
        HALF_PIXELS,
        from_timm("beit_base_patch16_224", init_values=0.1),
        from_transformers("BeitModel"),
    ),
}

QKV = re.compile(r"(.*\.attn)\.qkv\.(weight|bias)")


def renamed(state: Mapping[str, Tensor], rules: Mapping[str, str]) -> State:
    """Split packed projections, then rename by regular expressions, the first that matches at each place."""
    split: State = {}
    for name, tensor in state.items():
        packed = QKV.fullmatch(name)
        if packed:
            for letter, third in zip("qkv", tensor.chunk(3), strict=True):
                split[f"{packed[1]}.{letter}.{packed[2]}"] = third
        else:
            split[name] = tensor
    for pattern, new in rules.items():
        split = {re.sub(pattern, new, name): tensor for name, tensor in split.items()}
    return split


HUB_VIT = {  # google/vit-base-patch16-224, facebook/dino-vits16: names as they are stored
    r"^(cls_token|reg_token)": r"embeddings.\1",
    r"^pos_embed": "embeddings.position_embeddings",
    r"patch_embed\.proj": "embeddings.patch_embeddings.projection",
    r"\.attn\.q\b": ".attention.attention.query",
    r"\.attn\.k\b": ".attention.attention.key",
    r"\.attn\.v\b": ".attention.attention.value",
    r"\.attn\.proj": ".attention.output.dense",
    r"^blocks": "encoder.layer",
    r"^norm": "layernorm",
    r"reg_token": "register_tokens",
}
VIT_MLP = {
    r"\.norm1": ".layernorm_before",
    r"\.norm2": ".layernorm_after",
    r"\.mlp\.fc1": ".intermediate.dense",
    r"\.mlp\.fc2": ".output.dense",
}
DINOV2_SCALE = {r"ls1\.gamma": "layer_scale1.lambda1", r"ls2\.gamma": "layer_scale2.lambda1"}
HUB_CLIP = {  # openai/clip-vit-base-patch16, google/siglip2-base-patch16-224
    r"^cls_token": "vision_model.embeddings.class_embedding",
    r"^pos_embed": "vision_model.embeddings.position_embedding.weight",
    r"patch_embed\.proj": "vision_model.embeddings.patch_embedding",
    r"\.attn\.([qkv])\b": r".self_attn.\1_proj",
    r"\.attn\.proj": ".self_attn.out_proj",
    r"\.norm([12])": r".layer_norm\1",
    r"^blocks": "vision_model.encoder.layers",
    r"^norm_pre": "vision_model.pre_layrnorm",
    r"^norm\b": "vision_model.post_layernorm",
}


def vit(state: State) -> State:
    """As ViTModel's checkpoints: an untrained pooler beside the weights."""
    return renamed(state, HUB_VIT | VIT_MLP) | {"pooler.dense.weight": torch.zeros(3, 3)}


def vit_with_head(state: State) -> State:
    """As checkpoints of ViTForImageClassification."""
    named = renamed(state, HUB_VIT | VIT_MLP | {r"^head": "classifier", r"^(?!classifier)": "vit."})
    return {re.sub(r"^vit\.classifier", "classifier", name): tensor for name, tensor in named.items()}


def dinov2(state: State) -> State:
    """As DINOv2's checkpoints, a mask token among them; with registers, the class token's slot apart."""
    named = renamed(state, HUB_VIT | DINOV2_SCALE)
    named["embeddings.mask_token"] = torch.zeros(1, WIDTH)
    if "embeddings.register_tokens" in named:  # timm has added that slot to the class token
        slot = torch.full((1, 1, WIDTH), 0.25)
        named["embeddings.cls_token"] = named["embeddings.cls_token"] - slot
        table = named["embeddings.position_embeddings"]
        named["embeddings.position_embeddings"] = torch.cat([slot, table], dim=1)
    return named


def clip(state: State) -> State:
    """As a whole CLIPModel: text tower, projections and a buffer of indices beside the vision model."""
    named = renamed(state, HUB_CLIP)
    named["vision_model.embeddings.class_embedding"] = state["cls_token"][0, 0]
    named["vision_model.embeddings.position_embedding.weight"] = state["pos_embed"][0]
    named["vision_model.embeddings.position_ids"] = torch.arange(17)[None]
    return named | {
        "logit_scale": torch.zeros(()),
        "text_model.final_layer_norm.weight": torch.zeros(3),
        "visual_projection.weight": torch.zeros(3, WIDTH),
    }


def siglip(state: State) -> State:
    """As a whole SiglipModel; its pooling head packs query, key and value."""
    pool = {name: tensor for name, tensor in state.items() if name.startswith("attn_pool")}
    named = renamed({k: v for k, v in state.items() if k not in pool}, HUB_CLIP)
    named["vision_model.embeddings.position_embedding.weight"] = state["pos_embed"][0]
    head = "vision_model.head."
    for kind in ("weight", "bias"):
        packed = torch.cat([pool[f"attn_pool.q.{kind}"], pool[f"attn_pool.kv.{kind}"]])
        named[f"{head}attention.in_proj_{kind}"] = packed
        named[f"{head}attention.out_proj.{kind}"] = pool[f"attn_pool.proj.{kind}"]
        named[f"{head}layernorm.{kind}"] = pool[f"attn_pool.norm.{kind}"]
        for layer in ("fc1", "fc2"):
            named[f"{head}mlp.{layer}.{kind}"] = pool[f"attn_pool.mlp.{layer}.{kind}"]
    return {**named, f"{head}probe": pool["attn_pool.latent"], "logit_bias": torch.zeros(())}


def beit(state: State) -> State:
    """As BEiT's checkpoints, whose mean of patches is normed in the pooler."""
    rules = {
        r"gamma_([12])": r"lambda_\1",
        r"attn\.relative": "attention.attention.relative_position_bias.relative",
        r"attn\.([qv])_bias": r"attn.\1.bias",
        r"^fc_norm": "pooler.layernorm",
    }
    return renamed(state, rules | HUB_VIT | VIT_MLP)


def open_clip_visual(state: State) -> State:
    """As a whole CLIP of open_clip, OpenAI's names: packed projections, no batch dimension on the tables."""
    rules = {
        r"^patch_embed\.proj": "visual.conv1",
        r"^norm_pre": "visual.ln_pre",
        r"^norm\b": "visual.ln_post",
        r"^blocks": "visual.transformer.resblocks",
        r"\.norm([12])": r".ln_\1",
        r"attn\.qkv\.(weight|bias)": r"attn.in_proj_\1",
        r"attn\.proj": "attn.out_proj",
        r"mlp\.fc1": "mlp.c_fc",
        r"mlp\.fc2": "mlp.c_proj",
    }
    named = dict(state)
    for pattern, new in rules.items():
        named = {re.sub(pattern, new, name): tensor for name, tensor in named.items()}
    named["visual.class_embedding"] = named.pop("cls_token")[0, 0]
    named["visual.positional_embedding"] = named.pop("pos_embed")[0]
    return named | {
        "visual.proj": torch.zeros(WIDTH, 5),
        "positional_embedding": torch.zeros(7, 5),
        "ln_final.weight": torch.zeros(5),
    }


CONVERTED = {
    ("dino", "transformers"): vit,
    ("deit", "transformers"): vit_with_head,
    ("clip", "transformers"): clip,
    ("clip", "open_clip"): open_clip_visual,
    ("siglip2", "transformers"): siglip,
    ("dinov2", "transformers"): dinov2,
    ("dinov2_reg", "transformers"): dinov2,
    ("beit", "transformers"): beit,
}


def random_state(of: Teacher, image_size: int | None = None) -> State:
    """Weights of a teacher in timm's names, none of them at its initial value."""
    source = of.sources[0]
    classes = of.head.num_classes if of.head else 0
    torch.manual_seed(0)
    side = image_size or of.architecture.image_size
    model = timm.create_model(source.model, img_size=side, num_classes=classes, **source.arguments)
    random = torch.Generator().manual_seed(1)
    return {name: 0.3 * torch.randn(t.shape, generator=random) for name, t in model.state_dict().items()}


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


@pytest.mark.parametrize(("name", "backend"), CONVERTED)
def test_backends_agree(tmp_path: Path, name: str, backend: str) -> None:
    """Tokens, maps and pooled features of two libraries agree to 1e-4; each file is known by its names."""
    contract, state = TEACHERS[name], random_state(TEACHERS[name])
    ours = load_teacher(contract, contract.architecture, stored(tmp_path / "timm", state))
    converted = stored(tmp_path / backend, CONVERTED[name, backend](state))
    theirs = load_teacher(contract, contract.architecture, converted)
    assert (ours.backend, theirs.backend) == ("timm", backend)
    assert max(distance(see(ours), see(theirs)).values()) < 1e-4
    if contract.head:
        pixels = torch.rand(2, 3, 64, 64)
        one, other = (network(pixels, frozenset({"logits"})).logits for network in (ours, theirs))
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


def test_siglip_in_a_tower_of_open_clip(tmp_path: Path) -> None:
    """open_clip wraps timm's network under `visual.trunk`; the contract's activation is put into it."""
    architecture = small(
        class_token=False,
        components=Components(activation="gelu_tanh"),
        size=Size(width=768, depth=12, heads=12),
    )
    contract = teacher(
        "siglip2",
        architecture,
        HALF_PIXELS,
        WeightSource(
            backend="timm", model="vit_base_patch16_siglip_224", arguments={"act_layer": "gelu_tanh"}
        ),
        WeightSource(backend="open_clip", model="ViT-B-16-SigLIP2", unused=("text.*", "logit_*")),
    )
    state = {name: tensor * 0.1 for name, tensor in random_state(contract).items()}
    ours = load_teacher(contract, architecture, stored(tmp_path / "timm", state))
    whole = {f"visual.trunk.{name}": tensor for name, tensor in state.items()} | {
        "logit_scale": torch.ones(1)
    }
    theirs = load_teacher(contract, architecture, stored(tmp_path / "open_clip", whole))
    assert theirs.backend == "open_clip"
    assert max(distance(see(ours), see(theirs)).values()) < 1e-4


def test_a_file_that_fits_no_source_says_what_was_tried(tmp_path: Path) -> None:
    """The first source's complaint, the others by name; with a backend given, that one alone."""
    contract, state = TEACHERS["clip"], random_state(TEACHERS["dino"])
    path = stored(tmp_path, state)
    with pytest.raises(
        BadInputError, match=r"missing \(norm_pre\.bias.*; nor those of open_clip \(ViT-B-16-q"
    ):
        load_teacher(contract, contract.architecture, path)
    with pytest.raises(BadInputError, match=r"missing \(class_embedding") as caught:
        load_teacher(contract, contract.architecture, path, "open_clip")
    assert "nor those" not in str(caught.value)
    with pytest.raises(BadInputError, match="backend 'official' does not offer it"):
        load_teacher(contract, contract.architecture, path, "official")


@pytest.mark.parametrize("model", ["CLIPVisionModle", "torch", "AutoConfig"])
def test_unknown_classes_and_fields_are_named(model: str) -> None:
    """A class that transformers lacks, and a field that a class lacks: one line with the nearest name."""
    from vitkd_bench.networks import build_teacher

    contract = TEACHERS["clip"]
    wrong = contract.model_copy(update={"sources": (from_transformers(model),)})
    with pytest.raises(BadInputError, match=f"transformers '{model}': no such model"):
        build_teacher(wrong, wrong.architecture)
    wrong = contract.model_copy(update={"sources": (from_transformers("CLIPVisionModel", hiden_size=3),)})
    with pytest.raises(BadInputError, match="no field 'hiden_size'; did you mean 'hidden_size'"):
        build_teacher(wrong, wrong.architecture)


@pytest.mark.parametrize(
    ("name", "source", "default", "least", "most"),
    [
        # timm builds OpenAI's CLIP with exact GELU unless asked by another name
        ("clip", from_timm("vit_base_patch16_clip_224"), {"activation": "gelu"}, 1e-3, 0.3),
        # timm's SigLIP, and open_clip's towers of timm, compute GELU exactly, the release in its tanh form
        ("siglip2", from_timm("vit_base_patch16_siglip_224"), {"activation": "gelu"}, 1e-5, 1e-2),
        # transformers' configuration of ViT says 1e-12
        (
            "dino",
            from_transformers("ViTModel", "pooler.*", layer_norm_eps=1e-12),
            {"norm_eps": 1e-12},
            1e-8,
            1e-3,
        ),
    ],
)
def test_what_defaults_differ_by(
    tmp_path: Path, name: str, source: WeightSource, default: dict[str, object], least: float, most: float
) -> None:
    """A library's own default is refused as another network, and so much would tokens have changed."""
    contract = TEACHERS[name]
    state = random_state(contract)
    named = state if source.backend == "timm" else CONVERTED[name, source.backend](state)
    claimed = load_teacher(contract, contract.architecture, stored(tmp_path / "timm", state))
    path = stored(tmp_path / "other", named)
    with pytest.raises(BadInputError, match=f"components.{next(iter(default))}: "):
        load_teacher(contract.model_copy(update={"sources": (source,)}), contract.architecture, path)
    components = contract.architecture.components.model_copy(update=default)
    architecture = contract.architecture.with_(components=components)
    other = contract.model_copy(update={"sources": (source,), "architecture": architecture})
    changed = distance(see(claimed), see(load_teacher(other, architecture, path)))["tokens"]
    assert least < changed < most
