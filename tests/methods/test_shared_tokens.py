import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vitkd_bench.methods._shared_tokens import common_tokens, keep, uncommon
from vitkd_bench.spec import SIZES, Architecture


def shape(*, class_token: bool, registers: int, image_size: int = 4) -> Architecture:
    """A network with these tokens before its patches of two pixels."""
    return Architecture(
        image_size=image_size, patch=2, size=SIZES["micro"], class_token=class_token, registers=registers
    )


@given(ours=st.booleans(), theirs=st.booleans(), some=st.integers(0, 3), others=st.integers(0, 3))
@settings(max_examples=64, deadline=None)
def test_both_sides_keep_the_same_tokens(*, ours: bool, theirs: bool, some: int, others: int) -> None:
    """Named by what they are, the kept tokens of both sides are equal, and the record says what is not."""
    sides = shape(class_token=ours, registers=some), shape(class_token=theirs, registers=others)
    named = []
    for own, other in (sides, sides[::-1]):
        names = [*["class"] * own.class_token, *[f"register {i}" for i in range(own.registers)]]
        names += [f"patch {i}" for i in range(own.grid**2)]
        named.append([names[i] for i in common_tokens(own, other)])
    assert named[0] == named[1]
    assert len(named[0]) == 4 + (ours and theirs) + min(some, others)
    assert bool(uncommon(*sides)) == (ours != theirs or some != others)


def test_other_grids_have_nothing_in_common() -> None:
    """Patches of another grid are none of the same places."""
    with pytest.raises(ValueError, match="grids differ: 2 and 4"):
        common_tokens(
            shape(class_token=True, registers=0), shape(class_token=True, registers=0, image_size=8)
        )


def test_keeping_cuts_rows_and_columns() -> None:
    """Chosen rows and columns stay, and keeping all of them copies nothing."""
    scores = torch.arange(16).reshape(1, 1, 4, 4)
    assert keep(scores, (0, 2), 2, 3).tolist() == [[[[0, 2], [8, 10]]]]
    assert keep(scores, (0, 1, 2, 3), 2, 3) is scores
