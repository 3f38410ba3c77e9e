"""Mixed images: every loss on labels is taken against the shares, or the method is refused by plan."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from timm.data.mixup import Mixup
from timm.loss import SoftTargetCrossEntropy
from torch import Tensor

from tests.methods.conftest import MakeCell, network
from vitkd_bench.contracts import Batch, CellFacts, Features, unmet
from vitkd_bench.controls.dark_knowledge import cwtm_loss
from vitkd_bench.diagnose.method_bench import Bench, losses
from vitkd_bench.methods._labels import label_loss, label_loss_of, larger_class
from vitkd_bench.plan import MAKERS
from vitkd_bench.registry import CONTROLS, METHODS, RECIPES, MethodEntry
from vitkd_bench.spec import Augmentation, Recipe

EVERY = [entry for entry in METHODS if entry.kind not in MAKERS]  # before other tests add some of their own
SHARE = 0.3


def logits_and_shares(kind: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Logits (6, 5), the labels of two parts and the shares of the classes, three tenths the second's."""
    first, second = torch.tensor([0, 1, 2, 3, 4, 0]), torch.tensor([1, 1, 0, 4, 2, 3])
    shares = (1 - SHARE) * F.one_hot(first, 5) + SHARE * F.one_hot(second, 5)
    return torch.randn(6, 5, dtype=kind) * 3, first, second, shares


def cell_under(make_cell: MakeCell, **augmentation: Any) -> CellFacts:
    """A cell whose recipe augments as told."""
    recipe = RECIPES.get("micro_short").model_copy(update={"augmentation": Augmentation(**augmentation)})
    return replace(make_cell(), recipe=recipe)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_of_a_mixture_is_the_mixture_of_the_losses(smoothing: float) -> None:
    """Of the losses against either part by their shares, smoothed alike."""
    logits, first, second, shares = logits_and_shares()
    expected = (1 - SHARE) * label_loss(logits, first, smoothing)
    expected = expected + SHARE * label_loss(logits, second, smoothing)
    torch.testing.assert_close(label_loss(logits, shares, smoothing), expected)
    teacher = torch.zeros_like(logits)
    torch.testing.assert_close(cwtm_loss(logits, teacher, shares, smoothing=smoothing), expected)


def test_it_is_what_timm_trains_on() -> None:
    """DeiT's: timm smooths inside Mixup and takes the soft cross-entropy; ours smooths once, in the loss."""
    pixels, labels = torch.rand(6, 3, 4, 4), torch.tensor([0, 1, 2, 3, 4, 0])
    logits = torch.randn(6, 5)
    found = []
    for smoothing in (0.1, 0.0):
        torch.manual_seed(0)
        mixup = Mixup(mixup_alpha=0.8, label_smoothing=smoothing, num_classes=5)
        mixup._params_per_batch = lambda: (0.37, False)
        found.append(mixup(pixels.clone(), labels)[1])
    theirs = SoftTargetCrossEntropy()(logits, found[0])
    torch.testing.assert_close(label_loss(logits, found[1], 0.1), theirs)


def test_shares_of_one_class_are_its_index() -> None:
    """A batch that was not mixed has the same loss either way."""
    logits, first, _, _ = logits_and_shares()
    one_hot = F.one_hot(first, 5).float()
    torch.testing.assert_close(label_loss(logits, one_hot, 0.1), label_loss(logits, first, 0.1))


def test_half_precision_does_not_round_the_shares() -> None:
    """Logits of 8 bits meet shares of 24: the loss is that of the rounded logits."""
    logits, _, _, shares = logits_and_shares()
    coarse = logits.bfloat16()
    found = label_loss(coarse, shares.float())
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, label_loss(coarse.float(), shares.float()), rtol=1e-6, atol=0)


def test_a_batch_says_what_to_learn() -> None:
    """`targets` are the shares where there are some, else the labels; the larger part is one class."""
    logits, first, _, shares = logits_and_shares(torch.float32)
    plain = Batch(torch.zeros(6, 1, 2, 2), first, torch.arange(6), label_smoothing=0.1)
    mixed = replace(plain, mixed=shares)
    assert plain.targets is first
    assert mixed.targets is shares
    assert torch.equal(larger_class(mixed), first)
    assert torch.equal(larger_class(replace(plain, mixed=shares.flip(0))), first.flip(0))
    found = label_loss_of(Features(logits=logits), mixed)
    torch.testing.assert_close(found, label_loss(logits, shares, 0.1))


def test_whoever_needs_one_class_is_refused_by_plan(make_cell: MakeCell) -> None:
    """In one sentence that says what to set; a recipe that mixes nothing refuses nobody."""
    plain, mixing = cell_under(make_cell), cell_under(make_cell, cutmix=1.0)
    assert unmet("dkd", ["plain_labels", "one_view"], plain) is None
    assert unmet("dkd", ["plain_labels"], mixing) == (
        "dkd takes one class for each image, and recipe micro_short mixes images of two; set "
        "augmentation.mixup and augmentation.cutmix to 0"
    )
    for name in ("dkd", "tfkd_reg", "pskd", "crd"):
        entry = METHODS.get(name)
        assert entry.refuses(entry.method.Config(), plain) is None
        assert "mixes images of two" in str(entry.refuses(entry.method.Config(), mixing))


def test_label_smoothing_on_the_others_alone_needs_one_class(make_cell: MakeCell) -> None:
    """Spread over all classes it takes shares; over the others there would be no telling who they are."""
    entry, mixing = METHODS.get("label_smoothing"), cell_under(make_cell, mixup=0.8)
    assert entry.refuses(entry.method.Config(), mixing) is None
    others = entry.method.Config.parse({"spread": "others"}, "test")
    assert "mixes images of two" in str(entry.refuses(others, mixing))


@pytest.mark.parametrize("name", ["pskd", "crd", "sparse_kd"])
def test_a_row_for_each_image_wants_it_once_a_batch(name: str, make_cell: MakeCell) -> None:
    """Repeated augmentation would write one row twice in a step."""
    entry, cell = METHODS.get(name), cell_under(make_cell, repeated=3)
    assert "shows one 3 times in a batch" in str(entry.refuses(entry.method.Config(), cell))


@pytest.mark.parametrize(
    ("name", "settings", "refused"),
    [
        ("dkpp", {}, False),
        ("dkpp", {"kept": "label"}, True),
        ("virtual_teacher", {}, True),
        ("virtual_teacher", {"soft_labels": "uniform"}, False),
        ("shuffled_outputs", {}, False),
        ("shuffled_outputs", {"among": "other_class"}, True),
        ("shuffled_outputs", {"among": "same_class"}, True),
        ("cwtm", {}, False),
    ],
)
def test_a_control_that_looks_up_a_label_is_refused(
    name: str, settings: dict[str, str], *, refused: bool, make_cell: MakeCell
) -> None:
    """So is each setting of a control for itself."""
    control, kd = CONTROLS.get(name), METHODS.get("kd")
    config = control.control.Config.parse(settings, "test")
    for mixing, cell in ((False, cell_under(make_cell)), (True, cell_under(make_cell, mixup=0.8))):
        why = control.refuses(config, kd, kd.method(kd.method.Config(), cell), cell)
        assert ("mixes images of two" in str(why)) is (refused and mixing), why


def mixed_batch(bench: Bench) -> Batch:
    """The bench's first batch with shares that have little to do with its labels."""
    batch, classes = bench.batch(0), len(bench.run.dataset.classes)
    shares = torch.rand(len(batch.labels), classes, generator=torch.Generator().manual_seed(3))
    return replace(batch, mixed=shares / shares.sum(dim=1, keepdim=True))


def total(bench: Bench, batch: Batch) -> Tensor:
    """The loss of the first step on a batch."""
    trainee = bench.begun()
    return torch.stack(
        [part.detach() for part in losses(trainee, bench.read(trainee, batch), batch).values()]
    )


@pytest.mark.parametrize("entry", EVERY, ids=lambda entry: entry.name)
def test_a_method_learns_from_shares_or_says_that_it_cannot(entry: MethodEntry, tmp_path: Path) -> None:
    """On mixed images no loss changes with the labels of before; where one does, plan refuses the method."""
    bench = Bench(entry, tmp_path)
    batch = mixed_batch(bench)
    other = replace(batch, labels=(batch.labels + 1) % 10)
    reads_labels = not torch.equal(total(bench, batch), total(bench, other))
    assert reads_labels is ("plain_labels" in bench.needs)


def test_a_student_learns_a_mixture(make_cell: MakeCell, batch: Batch) -> None:
    """Trained on shares alone, its probabilities become the shares."""
    cell = make_cell(None, "standard")
    student = network(cell.student, cell.dataset)
    few = replace(batch, pixels=batch.pixels[:4], labels=batch.labels[:4], ids=batch.ids[:4], views=())
    shares = torch.full((4, 10), 0.0)
    shares[torch.arange(4), [1, 2, 3, 4]], shares[torch.arange(4), [5, 6, 7, 8]] = 0.7, 0.3
    few = replace(few, mixed=shares, label_smoothing=0.0)
    method = METHODS.get("none").method(METHODS.get("none").method.Config(), cell)
    optimiser = torch.optim.AdamW(student.parameters(), lr=2e-3, foreach=False)
    for _ in range(150):
        optimiser.zero_grad()
        method.step(student, None, few)["labels"].backward()
        optimiser.step()
    logits = student(few.pixels).logits
    assert logits is not None
    assert (logits.softmax(dim=1) - shares).abs().max() < 0.05


def test_recipes_that_mix_name_it() -> None:
    """The property that plan asks is on for mixup, for cutmix, and for nothing else."""
    assert Augmentation(mixup=0.2).mixes
    assert Augmentation(cutmix=1.0).mixes
    assert not Augmentation(rand_augment="rand", repeated=2, flip=True).mixes
    assert not Recipe(epochs=1, batch_size=2, lr=1.0).augmentation.mixes
