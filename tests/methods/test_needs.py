import pytest

from tests.methods.conftest import MakeCell
from vitkd_bench.contracts import NEEDS, Method, unmet
from vitkd_bench.registry import TEACHERS, MethodEntry
from vitkd_bench.spec import SIZES, BadInputError


def test_an_unequal_size_is_refused_with_its_numbers(make_cell: MakeCell) -> None:
    """Width, depth, heads and grid are compared where they are needed, and only there."""
    teacher = TEACHERS.get("micro/deit").architecture
    wider = teacher.with_(size=SIZES["micro"].model_copy(update={"width": 96, "heads": 6, "depth": 2}))
    cell = make_cell("micro/deit", wider)
    assert unmet("m", ["width"], cell) == (
        "widths differ: student 96, teacher micro/deit 48; m pairs channel by channel"
    )
    assert "heads differ: student 6, teacher micro/deit 3" in str(unmet("m", ["logits", "heads"], cell))
    assert "depths differ: student 2, teacher micro/deit 4" in str(unmet("m", ["depth"], cell))
    assert "grids of patches differ" in str(
        unmet("m", ["grid"], make_cell("micro/deit", teacher.with_(patch=4)))
    )
    assert unmet("m", [], cell) is None
    assert unmet("m", NEEDS, make_cell("micro/deit", teacher)) is None


def test_an_unknown_need_or_kind_is_refused_when_it_is_registered() -> None:
    """A slip in a registration is an error that names the nearest word."""
    with pytest.raises(BadInputError, match=r"unknown need 'logit'.*logits"):
        MethodEntry("m", "M", "logit", "arXiv:1503.02531", Method, needs=("logit",))
    with pytest.raises(BadInputError, match=r"unknown kind 'logits'.*logit"):
        MethodEntry("m", "M", "logits", "arXiv:1503.02531", Method)
