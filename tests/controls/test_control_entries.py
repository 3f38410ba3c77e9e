"""Every registered control says what it is, and is refused where it would say nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.controls.conftest import Refusal
from vitkd_bench.contracts import CellFacts, Control
from vitkd_bench.registry import CONTROLS, RECIPES, ControlEntry
from vitkd_bench.spec import Augmentation, BadInputError, Recipe

ENTRIES = [pytest.param(entry, id=entry.name) for entry in CONTROLS]


@pytest.mark.parametrize("entry", ENTRIES)
def test_an_entry_says_what_it_is(entry: ControlEntry) -> None:
    """Title, claim, source and documentation are there, and settings work as defaults and are described."""
    assert entry.name.replace("_", "").isalpha()
    assert entry.title
    assert entry.claim.startswith("that ")
    assert entry.version >= 1
    assert issubclass(entry.control, Control)
    assert (entry.control.__doc__ or "").strip()
    config = entry.control.Config
    assert config().declared() == {}
    assert all(field.description for field in config.model_fields.values())


def test_the_controls_that_papers_lack_are_there() -> None:
    """One for each claim that the field makes without it."""
    assert set(CONTROLS.names()) >= {
        "shuffled_maps",
        "shuffled_outputs",
        "random_teacher",
        "other_teacher",
        "uniform_map",
        "mean_map",
        "grid_shuffle",
        "permuted_channels",
        "virtual_teacher",
        "dkpp",
        "cwtm",
        "frozen_projector",
        "wrong_layers",
        "independent_view",
        "random_head",
    }


@pytest.mark.parametrize(
    ("control", "method", "why"),
    [
        ("shuffled_maps", "kd", "acts on the teacher's attention, and kd reads logits"),
        ("dkpp", "attn_copy", "acts on the teacher's logits, and attn_copy reads attention"),
        ("grid_shuffle", "finetune", "finetune reads nothing of its teacher at a step"),
        ("random_teacher", "none", "none reads none"),
        ("frozen_projector", "label_smoothing", "label_smoothing reads none"),
        ("cwtm", "attn_distill", "kind logit, and attn_distill is attention"),
        ("frozen_projector", "kd", "kind feature or relation, and kd is logit"),
        ("frozen_projector", "at", "no parameters of its own"),
        ("random_teacher", "ban", "ban makes its own"),
        ("independent_view", "finetune", "sees no view"),
    ],
)
def test_it_is_refused_where_it_would_change_nothing(
    control: str, method: str, why: str, refusal: Refusal
) -> None:
    """What a method does not read, or does not have, cannot be taken from it."""
    assert why in str(refusal(control, method))


@pytest.mark.parametrize(
    ("control", "method"),
    [
        ("shuffled_maps", "attn_copy"),
        ("shuffled_outputs", "kd"),
        ("mean_map", "attn_distill"),
        ("grid_shuffle", "projector"),
        ("permuted_channels", "spectral"),
        ("dkpp", "ban"),
        ("cwtm", "kd"),
        ("frozen_projector", "projector"),
        ("wrong_layers", "attn_copy"),
        ("random_teacher", "finetune"),
        ("random_head", "kd"),
    ],
)
def test_it_applies_where_a_claim_rests_on_it(control: str, method: str, refusal: Refusal) -> None:
    """The pairs that it is made for go through."""
    assert refusal(control, method) is None


def test_a_recipe_can_take_a_control_its_meaning(cell: CellFacts, refusal: Refusal) -> None:
    """Batches in parts, no augmentation, or classes too many for a batch: each is refused with its reason."""
    assert cell.recipe is not None

    def under(**changes: object) -> CellFacts:
        return replace(cell, recipe=Recipe(**{**dict(cell.recipe or {}), **changes}))

    parts = under(accumulate=2)
    assert "2 parts" in str(refusal("shuffled_maps", "attn_copy", parts))
    assert "2 parts" in str(refusal("mean_map", "attn_copy", parts))
    assert refusal("uniform_map", "attn_copy", parts) is None
    assert "augments nothing" in str(refusal("independent_view", "attn_copy", under()))
    augmented = under(augmentation=Augmentation(shift=1))
    assert refusal("independent_view", "attn_copy", augmented) is None
    small = under(batch_size=8)
    assert "48% of the images" in str(refusal("shuffled_maps", "attn_copy", small, among="same_class"))
    assert refusal("shuffled_maps", "attn_copy", small, among="other_class") is None


def test_a_block_that_reversal_leaves_in_place_is_no_control(cell: CellFacts, refusal: Refusal) -> None:
    """The middle block of three is the middle one backwards too."""
    teacher = cell.teacher_architecture
    assert teacher is not None
    three = teacher.with_(size=teacher.size.model_copy(update={"depth": 3}))
    odd = replace(cell, student=three, teacher_architecture=three)
    middle = {"of_method": {"layers": [1]}}
    assert "block 1 of 3 keeps its place" in str(refusal("wrong_layers", "attn_copy", odd, **middle))
    assert refusal("wrong_layers", "attn_copy", odd, order="random", **middle) is None
    assert refusal("wrong_layers", "attn_copy", odd) is None


def test_a_slip_in_a_registration_is_refused() -> None:
    """An unknown reading, kind or need is an error that names the nearest word."""
    assert RECIPES.names()
    for slip, near in (({"acts_on": ("logit",)}, "logits"), ({"kinds": ("logits",)}, "logit")):
        with pytest.raises(BadInputError, match=rf"control 'x': unknown .*{near}"):
            ControlEntry("x", "X", "that", Control, **slip)  # type: ignore[arg-type]
    with pytest.raises(BadInputError, match=r"unknown need 'batches'.*batch"):
        ControlEntry("x", "X", "that", Control, needs=("batches",))
