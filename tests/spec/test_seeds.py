"""Random streams by name."""

from hypothesis import given
from hypothesis import strategies as st

from vitkd_bench.spec.seeds import seeded

names = st.lists(st.one_of(st.text(max_size=5), st.integers(0, 50)), max_size=4)


def test_seed_is_pinned() -> None:
    """A stream's seed never changes: every published number hangs on it."""
    assert seeded(0, "order", 3) == 13565352001452804549


@given(st.integers(0, 5), names, st.integers(0, 5), names)
def test_different_names_are_different_streams(
    seed: int, path: list[str | int], other_seed: int, other: list[str | int]
) -> None:
    """Two streams share a seed only if seed and names are the same, numbers and their text told apart."""
    same = (seed, path) == (other_seed, other)
    assert (seeded(seed, *path) == seeded(other_seed, *other)) is same
    assert 0 <= seeded(seed, *path) < 2**64


def test_text_and_number_differ() -> None:
    """The stream `3` is not the stream named by the text 3, and joining names makes another stream."""
    assert len({seeded(0, 3), seeded(0, "3"), seeded(0, "a", "b"), seeded(0, "ab")}) == 4
