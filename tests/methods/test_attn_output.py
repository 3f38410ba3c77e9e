from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.methods.attention_calls import PACKED, Pair, calls_of, drawn, on_tensors
from tests.methods.conftest import MakeCell, MakeMethod
from tests.methods.laws import LossLaws, laws_of
from vitkd_bench.contracts import Batch
from vitkd_bench.methods.attn_output import attn_output_loss
from vitkd_bench.spec import ResolvedDataset

STUDENT, TEACHER = drawn(*PACKED), drawn(*PACKED, seed=1)
LONG = (1, 1, 3, 1, 65, 2)  # so many tokens that fused attention takes over

test_the_laws_hold = laws_of(
    {
        "two blocks": LossLaws(on_tensors(attn_output_loss), STUDENT, TEACHER),
        "mean over blocks": LossLaws(on_tensors(partial(attn_output_loss, over="mean")), STUDENT, TEACHER),
        "many tokens": LossLaws(on_tensors(attn_output_loss), drawn(*LONG), drawn(*LONG, seed=1)),
    }
)


def test_it_is_the_mean_of_squares_of_outputs() -> None:
    """Written out number by number: softmax rows times values, squared differences, mean, sum over blocks."""
    expected = 0.0
    for block in range(PACKED[1]):
        outputs = []
        for side in (STUDENT, TEACHER):
            q, k, v = (side[:, block, part].tolist() for part in range(3))
            numbers = []
            for image in range(PACKED[0]):
                for head in range(PACKED[3]):
                    for query in q[image][head]:
                        dots = [
                            math.fsum(a * b for a, b in zip(query, key, strict=True))
                            for key in k[image][head]
                        ]
                        powers = [math.exp(dot / math.sqrt(PACKED[-1])) for dot in dots]
                        shares = [power / math.fsum(powers) for power in powers]
                        columns = zip(*v[image][head], strict=True)
                        numbers += [math.fsum(s * x for s, x in zip(shares, c, strict=True)) for c in columns]
            outputs.append(numbers)
        squares = [(a - b) ** 2 for a, b in zip(*outputs, strict=True)]
        expected += math.fsum(squares) / len(squares)
    assert attn_output_loss(calls_of(STUDENT), calls_of(TEACHER)).item() == pytest.approx(expected)


@given(st.integers(0, 99), st.floats(-3, 3))
@settings(max_examples=20, deadline=None, derandomize=True)
def test_values_are_transferred_too(seed: int, shift: float) -> None:
    """With equal maps the loss is that of the values; a constant added to all of them costs its square."""
    moved = STUDENT.clone()
    moved[:, :, 2] += shift
    found = attn_output_loss(calls_of(moved), calls_of(STUDENT)).item()
    assert found == pytest.approx(PACKED[1] * shift**2, abs=1e-9)
    order = torch.randperm(PACKED[-2], generator=torch.Generator().manual_seed(seed))
    turned = STUDENT.clone()
    turned[:, :, 1:] = STUDENT[:, :, 1:, :, order]
    assert attn_output_loss(calls_of(turned), calls_of(STUDENT)).item() == pytest.approx(0, abs=1e-12)


def test_outputs_of_another_shape_are_refused() -> None:
    """Values of other width are named, and never broadcast."""
    with pytest.raises(ValueError, match=r"the output differs in shape: student .*3\), teacher .*1\)"):
        attn_output_loss(calls_of(STUDENT), calls_of(drawn(2, 2, 3, 2, 4, 1)))


def test_it_reaches_queries_keys_and_values(
    make_cell: MakeCell, make_method: MakeMethod, digits: ResolvedDataset, batch: Batch
) -> None:
    """All three of the named head of the last block get a gradient, and the projection behind it none."""
    method = make_method("attn_output", make_cell(), heads=[2], layers=[3])
    pair = Pair(method, digits, batch)
    parts = pair.parts()
    parts["attn_output"].backward()
    gradient = pair.gradient(3).abs().amax(dim=(2, 3))
    assert gradient[:, 2].min() > 0
    assert gradient[:, :2].max() == 0
    assert pair.student.blocks[3].get_parameter("attn.proj.weight").grad is None
