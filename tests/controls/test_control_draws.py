"""Who meets whom: permutations that leave nobody alone with what is its own."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from vitkd_bench.controls._draws import cycle, of_step, partners, stream

labellings = st.lists(st.integers(0, 4), min_size=2, max_size=24).map(torch.tensor)
seeds = st.integers(0, 2**63)


def drawn(labels: Tensor | None, among: str, seed: int, count: int = 0) -> Tensor:
    """Partners from the stream of a seed."""
    size = len(labels) if labels is not None else count
    return partners(size, labels, among, stream(seed, "test"))  # type: ignore[arg-type]


@given(labellings, st.sampled_from(["any", "same_class", "other_class"]), seeds)
def test_every_reading_is_used_once_and_by_another_image(labels: Tensor, among: str, seed: int) -> None:
    """In training partners are a permutation that leaves no image its own, whatever the classes are."""
    found = drawn(labels, among, seed)
    assert sorted(found.tolist()) == list(range(len(labels)))
    assert (found != torch.arange(len(labels))).all()


@given(labellings, seeds)
def test_same_class_leaves_the_class_for_those_alone_in_it(labels: Tensor, seed: int) -> None:
    """Whoever has a class mate meets one, but for the class that a single lonely image joins."""
    found = drawn(labels, "same_class", seed)
    sizes = torch.bincount(labels)[labels]
    strangers = int((labels[found] != labels).sum())
    alone = int((sizes == 1).sum())
    assert strangers == (2 if alone == 1 else alone)


@given(labellings, seeds)
def test_other_class_meets_no_class_mate_where_that_can_be(labels: Tensor, seed: int) -> None:
    """If no class fills more than half of the batch, all partners are of another class."""
    found = drawn(labels, "other_class", seed)
    if 2 * int(torch.bincount(labels).max()) <= len(labels):
        assert (labels[found] != labels).all()


@given(st.integers(2, 30), seeds)
def test_without_labels_the_class_decides_nothing(count: int, seed: int) -> None:
    """At test any other image is met, and under `same_class` the image itself."""
    assert (drawn(None, "same_class", seed, count) == torch.arange(count)).all()
    for among in ("any", "other_class"):
        assert (drawn(None, among, seed, count) != torch.arange(count)).all()
    assert drawn(None, "any", seed, 1).tolist() == [0]


@given(st.integers(1, 40), seeds)
def test_a_cycle_comes_home_after_all_places_only(count: int, seed: int) -> None:
    """One cycle through all places: nothing stays, and nothing returns early."""
    order = cycle(count, stream(seed, "test"))
    place, visited = 0, []
    for _ in range(count):
        place = int(order[place])
        visited.append(place)
    assert sorted(visited) == list(range(count))
    assert visited[-1] == 0


def test_all_cycles_are_drawn() -> None:
    """Over many seeds the two cycles of three places come out about equally often."""
    drawn_cycles = [tuple(cycle(3, stream(seed, "test")).tolist()) for seed in range(300)]
    counts = {order: drawn_cycles.count(order) for order in set(drawn_cycles)}
    assert set(counts) == {(1, 2, 0), (2, 0, 1)}
    assert min(counts.values()) > 110


@pytest.mark.parametrize("change", [{"seed": 1}, {"epoch": 1}, {"ids": torch.tensor([7, 3])}])
def test_draws_follow_seed_epoch_and_images(change: dict[str, object]) -> None:
    """Another run, epoch or batch draws anew; the same step draws the same, whatever was drawn before."""
    step: dict[str, object] = {"seed": 0, "ids": torch.tensor([3, 7]), "labels": torch.zeros(2), "epoch": 0}

    def order(**given: object) -> list[int]:
        return cycle(50, of_step(**given)).tolist()  # type: ignore[arg-type]

    assert order(**step) == order(**step)
    torch.manual_seed(5)
    assert order(**step) != order(**{**step, **change})
    assert order(**step) != order(**{**step, "labels": None})
