"""What a method reads of its teacher is all that is run of it, counted module by module."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
from torch import nn

from vitkd_bench.contracts import CellFacts
from vitkd_bench.contracts.taps import LOGITS, POOLED, attention, tokens
from vitkd_bench.networks import ViTNetwork, create_student, read_architecture
from vitkd_bench.pipeline import resolve_dataset
from vitkd_bench.registry import DATASETS, METHODS
from vitkd_bench.spec import Architecture, Head, PixelStats, Size, Teacher

DEPTH, CLASSES = 4, 10
STATS = PixelStats(mean=(0.4,), std=(0.2,))
OURS = Architecture(channels=1, image_size=8, patch=2, size=Size(width=16, depth=DEPTH, heads=2))


def ours() -> ViTNetwork:
    """A teacher built of our own blocks."""
    module = create_student(OURS, CLASSES, STATS, 0).module
    return ViTNetwork(module, OURS, STATS, frozen=True)


def timms() -> ViTNetwork:
    """A teacher of timm, which normalises all tokens before it takes the class token."""
    torch.manual_seed(0)
    module = timm.models.VisionTransformer(
        img_size=8, patch_size=2, in_chans=1, num_classes=CLASSES, embed_dim=16, depth=DEPTH, num_heads=2
    )
    return ViTNetwork(module, read_architecture(module), STATS, frozen=True)


every_teacher = pytest.mark.parametrize("build", [ours, timms])


def parts_run(network: ViTNetwork, taps: frozenset[str]) -> Counter[str]:
    """Run a teacher and count how often each attention, MLP and head is entered, by `<part>/<block>`."""
    entered: Counter[str] = Counter()

    def count(name: str) -> Callable[..., None]:
        return lambda *_: entered.update([name])

    watched: dict[str, nn.Module] = {"head": network.module.get_submodule("head")}
    for index, block in enumerate(network.blocks):
        watched[f"block/{index}"] = block
        watched[f"attention/{index}"] = block.get_submodule("attn")
        watched[f"mlp/{index}"] = block.get_submodule("mlp")
    handles = [part.register_forward_pre_hook(count(name)) for name, part in watched.items()]
    network(torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0)), taps)
    network.clear()
    for handle in handles:
        handle.remove()
    return entered


def up_to(attended: int, *, mlps: int, head: bool = False) -> Counter[str]:
    """Name the parts of a forward that enters so many blocks, so many of their MLPs, and the head or not."""
    blocks = [f"{part}/{i}" for part in ("block", "attention") for i in range(attended)]
    return Counter([*blocks, *(f"mlp/{i}" for i in range(mlps)), *(["head"] if head else [])])


@every_teacher
@pytest.mark.parametrize("block", range(DEPTH))
def test_attention_alone_ends_the_forward_there(build: Callable[[], ViTNetwork], block: int) -> None:
    """With the attention of one block read, its MLP, all later blocks and the head are not run."""
    assert up_to(block + 1, mlps=block) == parts_run(build(), frozenset({attention(block)}))


@every_teacher
@pytest.mark.parametrize("block", range(DEPTH))
def test_tokens_end_the_forward_behind_their_block(build: Callable[[], ViTNetwork], block: int) -> None:
    """Tokens need their block's MLP and nothing after it, also where an earlier attention is read too."""
    taps = frozenset({tokens(block), attention(0)})
    assert up_to(block + 1, mlps=block + 1) == parts_run(build(), taps)


@every_teacher
def test_only_the_end_needs_the_end(build: Callable[[], ViTNetwork]) -> None:
    """Pooled features and logits take every block; whoever asks for logits reads the head's output."""
    whole = up_to(DEPTH, mlps=DEPTH, head=True)
    assert whole == parts_run(build(), frozenset({LOGITS}))
    assert whole == parts_run(build(), frozenset({LOGITS, attention(1), tokens(0)}))
    pooled = parts_run(build(), frozenset({POOLED}))
    assert up_to(DEPTH, mlps=DEPTH) == pooled - Counter({"head": 1})
    assert not parts_run(build(), frozenset())


def cell(network: ViTNetwork) -> CellFacts:
    """A student of our own on the digits, beside a teacher that knows their classes."""
    data = resolve_dataset(DATASETS.get("digits"), {}, ())
    teacher = Teacher(
        name="four_blocks",
        title="",
        family="none",
        group="reserve",
        paper="",
        licence="",
        architecture=network.architecture,
        pixels=STATS,
        head=Head(kind="labels", label_space=data.label_space, num_classes=CLASSES),
        objective="",
    )
    return CellFacts(OURS, data, teacher, network.architecture, train_size=100)


ATTENTION_ONLY = up_to(DEPTH, mlps=DEPTH - 1)
OF_METHODS = [
    ("none", {}, Counter()),
    ("attn_copy", {}, ATTENTION_ONLY),
    ("attn_copy", {"layers": "first:2"}, up_to(2, mlps=1)),
    ("attn_distill", {}, ATTENTION_ONLY),
    ("attn_distill", {"layers": [0]}, up_to(1, mlps=0)),
    ("projector", {}, up_to(DEPTH, mlps=DEPTH)),
    ("projector", {"layers": "first:1"}, up_to(1, mlps=1)),
    ("projector", {"layers": "first:1", "kd": 0.5}, up_to(DEPTH, mlps=DEPTH, head=True)),
    ("kd", {}, up_to(DEPTH, mlps=DEPTH, head=True)),
]


@every_teacher
@pytest.mark.parametrize(("name", "settings", "expected"), OF_METHODS)
def test_a_method_runs_no_more_than_it_reads(
    build: Callable[[], ViTNetwork], name: str, settings: dict[str, Any], expected: Counter[str]
) -> None:
    """The taps that a method names under its settings run these parts of the teacher, each once."""
    network = build()
    entry = METHODS.get(name)
    method = entry.method(entry.method.Config.parse(settings, name), cell(network))
    assert expected == parts_run(network, method.teacher_taps())


@every_teacher
def test_methods_that_share_a_forward_run_the_deepest_of_them(build: Callable[[], ViTNetwork]) -> None:
    """The union of the taps of two methods costs one forward, as deep as the deeper of the two."""
    network = build()
    facts = cell(network)
    asked = frozenset[str]()
    for name, settings in (("attn_distill", {"layers": "first:3"}), ("projector", {"layers": "first:2"})):
        entry = METHODS.get(name)
        asked |= entry.method(entry.method.Config.parse(settings, name), facts).teacher_taps()
    assert up_to(3, mlps=2) == parts_run(network, asked)
