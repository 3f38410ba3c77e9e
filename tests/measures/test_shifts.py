"""Shift sets: two rules, their classes, and what a drop may be measured from."""

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from vitkd_bench.measures import (
    ClassMap,
    answers_over_all,
    classification,
    clean,
    drop,
    mapped,
    predictions,
    restricted,
    shifted,
)
from vitkd_bench.spec import VitkdError

N = 1000
FIRST = ClassMap(tuple((i,) for i in range(0, N, 5)), N)
SECOND = ClassMap(tuple((i,) for i in range(3, N, 5)), N)
"""Two shift sets of 200 classes, in the order of the training classes, without a class in common."""
SETS = ((0, 2), (5,), (1, 3, 4))
"""Three classes made of six of seven."""


def drawn(samples: int, classes: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Random log-probabilities of all training classes that know something, and labels among them."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, classes, (samples,), generator=generator)
    scores = torch.randn(samples, classes, generator=generator, dtype=torch.float64)
    scores[torch.arange(samples), labels] += 2
    return scores.log_softmax(dim=1), labels


def among(class_map: ClassMap, samples: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Scores of all training classes with labels of a shift set, each class at least once."""
    generator = torch.Generator().manual_seed(seed)
    size = len(class_map.members)
    labels = torch.cat([torch.arange(size), torch.randint(0, size, (samples - size,), generator=generator)])
    scores = torch.randn(samples, class_map.classes, generator=generator, dtype=torch.float64)
    for i, label in enumerate(labels.tolist()):
        scores[i, class_map.members[label][0]] += 2
    return scores, labels


@pytest.mark.parametrize("class_map", [FIRST, SECOND])
def test_a_perfect_model_is_perfect_on_both_sets(class_map: ClassMap) -> None:
    """A model that is right among 1000 classes scores 100 % on 200 of them under both rules."""
    labels = torch.arange(200)
    scores = torch.eye(N)[[own[0] for own in class_map.members]] * 50
    found = mapped(scores, labels, class_map).metrics
    names = ("top1", "top5", "mean_per_class", "top1_over_all")
    assert [found[name] for name in names] == [1, 1, 1, 1]
    # whoever forgets the map reads the labels as training classes, and all but one are wrong
    assert classification(scores, labels)["top1"] <= 1 / 200


def test_two_sets_are_told_apart() -> None:
    """The masks have 200 entries in order, differ, and have different hashes."""
    for class_map in (FIRST, SECOND):
        mask = [own[0] for own in class_map.members]
        assert len(mask) == 200
        assert mask == sorted(set(mask))
        assert class_map.rule == "within 200 of 1000 classes"
    assert FIRST.digest != SECOND.digest
    assert FIRST.digest == ClassMap(FIRST.members, N, "mean").digest  # one member each: nothing to pool
    assert ClassMap(SETS, 7).digest != ClassMap(SETS, 7, "mean").digest
    assert ClassMap(SETS, 7).digest != ClassMap(SETS, 8).digest
    assert ClassMap(SETS, 7, "mean").rule == "within 3 of 7 classes; mean of 6"
    assert ClassMap(SETS, 7).facts("test")["clean_split"] == "test"


def test_rules_by_hand() -> None:
    """One image whose set wins together, one whose best class is outside of the map, one that is wrong."""
    probabilities = torch.tensor(
        [
            [0.20, 0.05, 0.25, 0.05, 0.05, 0.30, 0.10],  # set 0 has 0.45, class 5 alone 0.30
            [0.02, 0.02, 0.02, 0.02, 0.02, 0.20, 0.70],  # class 6 is of no set, then set 1
            [0.60, 0.02, 0.02, 0.02, 0.02, 0.30, 0.02],  # set 0, and set 1 is asked for
        ],
        dtype=torch.float64,
    )
    labels = torch.tensor([0, 1, 1])
    found = mapped(probabilities.log(), labels, ClassMap(SETS, 7)).metrics
    assert (found["n"], found["top1"], found["top1_over_all"]) == (3, 2 / 3, 0)
    own = [0.45 / 0.90, 0.20 / 0.30, 0.30 / 0.98]
    assert found["nll"] == pytest.approx(-sum(map(math.log, own)) / 3)
    answers = answers_over_all(probabilities.log(), ClassMap(SETS, 7))
    assert answers.tolist() == [1, -1, 0]


def test_mean_takes_the_advantage_of_many_members() -> None:
    """Of three members with 0.2 each and one with 0.3, the sum chooses the three and the mean the one."""
    scores = torch.tensor([[0.05, 0.2, 0.05, 0.2, 0.2, 0.3, 1e-6]], dtype=torch.float64).log()
    assert restricted(scores, ClassMap(SETS, 7)).argmax().item() == 2
    assert restricted(scores, ClassMap(SETS, 7, "mean")).argmax().item() == 1
    pooled = restricted(scores, ClassMap(SETS, 7, "mean")).exp()[0]
    assert pooled.tolist() == pytest.approx([0.05, 0.3, 0.2])


def test_against_torchmetrics() -> None:
    """Within the classes of the map every number is torchmetrics' on the columns of the map."""
    from torchmetrics.functional.classification import multiclass_accuracy, multiclass_calibration_error

    scores, labels = among(FIRST, 1500)
    found = mapped(scores, labels, FIRST).metrics
    own = scores[:, [index for (index,) in FIRST.members]].softmax(dim=1)
    expected = {
        "top1": multiclass_accuracy(own, labels, 200, average="micro"),
        "top5": multiclass_accuracy(own, labels, 200, average="micro", top_k=5),
        "mean_per_class": multiclass_accuracy(own, labels, 200, average="macro"),
        "ece": multiclass_calibration_error(own, labels, 200, n_bins=15),
        "nll": torch.nn.functional.nll_loss(own.log(), labels),
        "top1_over_all": multiclass_accuracy(scores, labels * 5, N, average="micro"),
    }
    assert {k: found[k] for k in expected} == pytest.approx(
        {k: float(v) for k, v in expected.items()}, abs=1e-6
    )


@given(st.integers(0, 300), st.integers(1, 40), st.sampled_from(["sum", "mean"]))
def test_laws(seed: int, samples: int, pool: Any) -> None:
    """Whole counts, no matter in which order; the map of all classes is no map; logits are as good."""
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randint(-2, 3, (samples, 7), generator=generator).double()
    labels = torch.randint(0, 3, (samples,), generator=generator)
    class_map = ClassMap(SETS, 7, pool)
    found = mapped(scores, labels, class_map).metrics
    for name in ("top1", "top1_over_all"):
        assert 0 <= found[name] <= 1
        assert round(found[name] * samples) / samples == found[name]
    assert "top5" not in found
    order = torch.randperm(samples, generator=generator)
    assert mapped(scores[order], labels[order], class_map).metrics == pytest.approx(found)
    every = ClassMap(tuple((i,) for i in range(7)), 7)
    whole = mapped(scores, labels, every).metrics
    assert whole == {
        **classification(scores, labels),
        **{k: v for k, v in whole.items() if k.startswith("top1_over_all")},
    }
    assert whole["top1_over_all"] == whole["top1"]


@given(st.integers(0, 300))
def test_to_choose_among_more_is_never_easier(seed: int) -> None:
    """Where each class has one member, what is right over all is right within."""
    class_map = ClassMap(((3,), (0,), (5,)), 7)
    scores, labels = drawn(30, 7, seed)
    found = mapped(scores, labels % 3, class_map).metrics
    assert found["top1_over_all"] <= found["top1"]


def test_equal_scores_are_resolved_by_index() -> None:
    """A constant predictor answers the first class of the map within, and training class 0 over all."""
    labels = torch.arange(3)
    found = mapped(torch.zeros(3, 7), labels, ClassMap(((5,), (0,), (3,)), 7)).metrics
    assert found["top1"] == 1 / 3
    assert answers_over_all(torch.zeros(3, 7), ClassMap(((5,), (0,), (3,)), 7)).tolist() == [1, 1, 1]


def test_clean_images_are_those_of_the_same_classes() -> None:
    """Clean accuracy counts images whose class the shift set has, as if they were its images."""
    scores, labels = drawn(3000, N)
    found = clean(scores, labels, FIRST)
    kept = labels % 5 == 0
    assert found.metrics == mapped(scores[kept], labels[kept] // 5, FIRST).metrics
    assert found.metrics["n"] == int(kept.sum())
    assert found.metrics["top1_over_all"] == classification(scores[kept], labels[kept])["top1"]
    assert found.metrics["top1"] > classification(scores, labels)["top1"]
    few = clean(scores, labels, FIRST, frozenset({0, 7}))
    assert few.metrics["n"] == int(((labels == 0) | (labels == 35)).sum())


def test_a_drop_is_from_the_same_classes() -> None:
    """What a record keeps of a shift set: both rules, the clean side, and the difference of each."""
    scores, labels = among(FIRST, 800)
    clean_scores, clean_labels = drawn(20_000, N, 1)
    found = shifted(scores, labels, FIRST, clean_scores=clean_scores, clean_labels=clean_labels)
    there, here = mapped(scores, labels, FIRST).metrics, clean(clean_scores, clean_labels, FIRST).metrics
    assert {name: found[name] for name in there} == there
    assert found["drop"] == here["top1"] - there["top1"] == found["clean_top1"] - found["top1"]
    assert found["drop_over_all"] == here["top1_over_all"] - there["top1_over_all"]
    assert found["drop_se"] == pytest.approx(math.hypot(here["top1_se"], there["top1_se"]))
    assert found["clean_n"] == here["n"]
    assert all(type(value) is float and math.isfinite(value) for value in found.values())


def test_no_shift_is_no_drop() -> None:
    """The same images on both sides fall by nothing."""
    scores, labels = drawn(5000, 7)
    class_map = ClassMap(SETS, 7)
    own = class_map.owners()[labels]
    kept = own >= 0
    found = shifted(scores[kept], own[kept], class_map, clean_scores=scores, clean_labels=labels)
    assert (found["drop"], found["drop_over_all"]) == (0, 0)


def test_a_drop_from_other_classes_is_refused() -> None:
    """Clean accuracy over all 1000 classes, of another set, or under another rule is nothing to fall from."""
    there = mapped(*among(FIRST, 300), FIRST)
    every = ClassMap(tuple((i,) for i in range(N)), N)
    clean_scores, clean_labels = drawn(4000, N)
    with pytest.raises(VitkdError, match="scored within 200 of 1000 classes, clean ones within 1000 of 1000"):
        drop(there, clean(clean_scores, clean_labels, every))
    with pytest.raises(VitkdError, match="of another list"):
        drop(there, clean(clean_scores, clean_labels, SECOND))
    both = [mapped(*among(ClassMap(SETS, 7, pool), 30), ClassMap(SETS, 7, pool)) for pool in ("sum", "mean")]
    for one, two in itertools.permutations(both):
        with pytest.raises(VitkdError, match="of 6, clean ones"):
            drop(one, two)


def test_classes_on_one_side_only_are_refused_or_left_out() -> None:
    """A class without shifted images leaves the clean side; one without clean images allows no drop."""
    scores, labels = among(FIRST, 400)
    few = labels < 50
    clean_scores, clean_labels = drawn(20_000, N)
    found = shifted(scores[few], labels[few], FIRST, clean_scores=clean_scores, clean_labels=clean_labels)
    assert found["clean_n"] == int(((clean_labels % 5 == 0) & (clean_labels < 250)).sum())
    with pytest.raises(VitkdError, match="class 50 and 149 more have images on one side only"):
        drop(mapped(scores[few], labels[few], FIRST), clean(clean_scores, clean_labels, FIRST))
    there = clean_labels != 35
    with pytest.raises(VitkdError, match="class 7 and 0 more have images on one side only"):
        shifted(scores, labels, FIRST, clean_scores=clean_scores[there], clean_labels=clean_labels[there])


def test_predictions_of_a_shift_set_hold_both_rules(tmp_path: Any) -> None:
    """From the stored arrays both accuracies come out exactly, without the map."""
    scores, labels = among(ClassMap(SETS, 7), 200)
    class_map = ClassMap(SETS, 7)
    ids = [f"a/{i}" for i in range(200)]
    packed = predictions(restricted(scores, class_map), labels, ids, answers_over_all(scores, class_map))
    np.savez(tmp_path / "p.npz", **packed)  # type: ignore[arg-type]
    found = mapped(scores, labels, class_map).metrics
    with np.load(tmp_path / "p.npz", allow_pickle=False) as kept:
        assert (kept["top5"][:, 0] == kept["label"]).mean() == found["top1"]
        assert (kept["over_all"] == kept["label"]).mean() == found["top1_over_all"]
        assert kept["log_probs"].shape == (200, 3)
        assert np.exp(kept["log_probs"].astype(np.float64)).sum(axis=1) == pytest.approx(1, abs=5e-3)


@pytest.mark.parametrize(
    ("members", "said"),
    [
        (((0,),), "1 classes; two are the fewest"),
        (((0,), ()), "class 1 is none of the 7"),
        (((0,), (1, 0)), "training class 0 stands 2 times"),
        (((0,), (7,)), "7 is none of the 7"),
        (((0,), (-1,)), "-1 is none of the 7"),
    ],
)
def test_what_is_no_map_is_refused(members: tuple[tuple[int, ...], ...], said: str) -> None:
    """A class without members, one that stands twice and one that is not trained end in one line."""
    with pytest.raises(VitkdError, match=said):
        ClassMap(members, 7)


def test_what_cannot_be_scored_is_refused() -> None:
    """Another number of classes, labels outside of the map, and no clean image at all."""
    class_map = ClassMap(SETS, 7)
    with pytest.raises(VitkdError, match="of 7 training classes, scores of 8"):
        mapped(torch.zeros(2, 8), torch.zeros(2), class_map)
    with pytest.raises(VitkdError, match="labels from 0 to 3 for 3 classes"):
        mapped(torch.zeros(2, 7), torch.tensor([0, 3]), class_map)
    with pytest.raises(VitkdError, match="none of 2 clean images"):
        clean(torch.zeros(2, 7), torch.tensor([6, 6]), class_map)
    with pytest.raises(VitkdError, match="pool is 'max'; sum or mean"):
        ClassMap(SETS, 7, "max")  # type: ignore[arg-type]
