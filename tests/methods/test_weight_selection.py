"""Weight selection against a plain form of the published rule, and in whole networks."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.methods.conftest import MakeCell, MakeMethod, as_teacher, network
from vitkd_bench.methods.weight_selection import uniform_indices, weight_selection
from vitkd_bench.networks import ViTNetwork
from vitkd_bench.registry import METHODS, TEACHERS
from vitkd_bench.spec import Components, ResolvedDataset, resolve_student
from vitkd_bench.spec.student import parse_student

sizes = st.integers(1, 40).flatmap(lambda of: st.tuples(st.just(of), st.integers(1, of)))


@given(sizes)
def test_uniform_positions_are_as_published(pair: tuple[int, int]) -> None:
    """Every k-th where that divides, else rounded points from first to last; ascending, none twice."""
    of, count = pair
    found = uniform_indices(of, count).tolist()
    if of % count == 0:
        assert found == list(range(0, of, of // count))
    else:
        step = (of - 1) / max(1, count - 1)
        near = [abs(index - i * step) for i, index in enumerate(found)]
        assert max(near) <= 0.5 + 1e-4
        assert found[0] == 0
        assert count == 1 or found[-1] == of - 1
    assert len(set(found)) == count
    assert found == sorted(found)


def test_golden_positions() -> None:
    """Of six every second, of five the ends and the middle."""
    assert uniform_indices(6, 3).tolist() == [0, 2, 4]
    assert uniform_indices(5, 3).tolist() == [0, 2, 4]
    assert uniform_indices(8, 3).tolist() == [0, 4, 7]


@given(st.integers(1, 3), sizes, sizes)
def test_elements_are_selected_along_every_dimension(
    groups: int, rows: tuple[int, int], columns: tuple[int, int]
) -> None:
    """Element (g, i, j) is the teacher's element of the i-th row of that part and the j-th column."""
    weight = torch.arange(groups * rows[0] * columns[0]).reshape(groups * rows[0], columns[0])
    found = weight_selection(weight, (groups * rows[1], columns[1]), groups)
    own, theirs = uniform_indices(*rows).tolist(), uniform_indices(*columns).tolist()
    for g in range(groups):
        for i, row in enumerate(own):
            for j, column in enumerate(theirs):
                assert found[g * rows[1] + i, j] == weight[g * rows[0] + row, column]


@given(st.integers(1, 6), st.integers(1, 5))
def test_query_key_and_value_apart_is_the_published_rule_where_widths_divide(width: int, factor: int) -> None:
    """Over one matrix of all three the published rule takes the same rows; where it does not divide, not."""
    weight = torch.arange(3 * width * factor)
    assert torch.equal(weight_selection(weight, (3 * width,), 3), weight_selection(weight, (3 * width,)))


def test_where_widths_do_not_divide_the_published_rule_may_part_values_from_their_readers() -> None:
    """From 1024 to 768 it keeps other value channels than columns of the projection that reads them."""
    values = weight_selection(torch.arange(3072), (2304,)).reshape(3, 768)[2] - 2048
    columns = weight_selection(torch.arange(1024), (768,))
    assert not torch.equal(values, columns)
    ours = weight_selection(torch.arange(3072), (2304,), 3).reshape(3, 768)
    for part, third in enumerate(ours):
        assert torch.equal(third - 1024 * part, columns)


@pytest.mark.parametrize(("shape", "of"), [((5,), (4,)), ((2, 2), (4,)), ((3, 5), (3, 4))])
def test_a_larger_student_is_refused(shape: tuple[int, ...], of: tuple[int, ...]) -> None:
    """Nothing can be selected that is not there."""
    with pytest.raises(ValueError, match="cannot be selected from"):
        weight_selection(torch.zeros(of), shape)


def pair(
    make_cell: MakeCell, make_method: MakeMethod, digits: ResolvedDataset, **settings: object
) -> tuple[ViTNetwork, ViTNetwork, tuple[str, ...]]:
    """A student of 3 blocks, 32 channels and 2 heads that started from a teacher of 4 blocks, 48 and 3."""
    cell = make_cell("micro/beitv2", "native@micro_small")
    assert cell.teacher_architecture is not None
    teacher = network(cell.teacher_architecture, digits, 10, seed=9)
    with torch.no_grad():
        for parameter in teacher.parameters():
            parameter.add_(torch.randn_like(parameter))
    student = network(cell.student, digits)
    method = make_method("weight_selection", cell, **settings)
    method.fit(student, as_teacher(teacher), [])
    return student, teacher, method.notes()


def test_a_smaller_student_starts_from_the_first_blocks(
    make_cell: MakeCell, make_method: MakeMethod, digits: ResolvedDataset
) -> None:
    """All but the head is selected, from the first blocks, by the same channels in every tensor."""
    student, teacher, notes = pair(make_cell, make_method, digits)
    channels = uniform_indices(48, 32)
    for i in range(3):
        fc1 = teacher.module.get_parameter(f"blocks.{i}.mlp.fc1.weight")
        expected = fc1[uniform_indices(192, 128)][:, channels]
        assert torch.equal(student.module.get_parameter(f"blocks.{i}.mlp.fc1.weight"), expected)
        qkv = teacher.module.get_parameter(f"blocks.{i}.attn.qkv.weight").reshape(3, 48, 48)
        expected = qkv[:, channels][:, :, channels].reshape(96, 32)
        assert torch.equal(student.module.get_parameter(f"blocks.{i}.attn.qkv.weight"), expected)
        table = teacher.module.get_parameter(f"blocks.{i}.attn.relative_position_bias_table")
        own = student.module.get_parameter(f"blocks.{i}.attn.relative_position_bias_table")
        assert torch.equal(own, table[:, uniform_indices(3, 2)])
    token = teacher.module.get_parameter("cls_token")[..., channels]
    assert torch.equal(student.module.get_parameter("cls_token"), token)
    assert notes[1:] == ("drawn at random: head", "its blocks are selected from the teacher's blocks 0, 1, 2")


def test_channels_are_the_same_for_values_and_their_readers(
    make_cell: MakeCell, make_method: MakeMethod, digits: ResolvedDataset
) -> None:
    """From 64 to 48 channels, which do not divide: query, key, value and columns of the projection agree."""
    cell = make_cell("micro/deit_large", "standard@micro")
    assert cell.teacher_architecture is not None
    teacher, student = network(cell.teacher_architecture, digits, seed=9), network(cell.student, digits)
    make_method("weight_selection", cell).fit(student, as_teacher(teacher), [])
    channels = uniform_indices(64, 48)
    theirs = teacher.module.get_parameter("blocks.1.attn.qkv.weight").reshape(3, 64, 64)
    expected = theirs[:, channels][:, :, channels].reshape(144, 48)
    assert torch.equal(student.module.get_parameter("blocks.1.attn.qkv.weight"), expected)
    expected = teacher.module.get_parameter("blocks.1.attn.proj.weight")[channels][:, channels]
    assert torch.equal(student.module.get_parameter("blocks.1.attn.proj.weight"), expected)


def test_blocks_may_be_spread_and_channels_be_others(
    make_cell: MakeCell, make_method: MakeMethod, digits: ResolvedDataset
) -> None:
    """Evenly spaced blocks end with the last; consecutive channels are the first, drawn ones are one set."""
    student, teacher, notes = pair(make_cell, make_method, digits, blocks="even", elements="consecutive")
    theirs = teacher.module.get_parameter("blocks.3.norm2.weight")
    assert torch.equal(student.module.get_parameter("blocks.2.norm2.weight"), theirs[:32])
    assert notes[2].endswith("blocks 0, 1, 3")
    student, teacher, _ = pair(make_cell, make_method, digits, elements="random")
    norm = teacher.module.get_parameter("blocks.0.norm1.weight").tolist()
    drawn = [norm.index(value) for value in student.module.get_parameter("blocks.0.norm1.weight").tolist()]
    assert drawn == sorted(set(drawn))
    assert drawn not in (list(range(32)), uniform_indices(48, 32).tolist())
    for name in ("blocks.2.norm2.bias", "fc_norm.weight", "blocks.1.ls1.gamma", "cls_token"):
        assert torch.equal(student.module.get_parameter(name), teacher.module.get_parameter(name)[..., drawn])


def test_a_student_of_the_same_size_starts_as_its_teacher(
    make_cell: MakeCell, make_method: MakeMethod, digits: ResolvedDataset
) -> None:
    """Nothing is left to select: it is fine-tuning with a head that is drawn."""
    cell = make_cell("micro/deit")
    teacher, student = network(cell.student, digits, seed=9), network(cell.student, digits)
    make_method("weight_selection", cell).fit(student, as_teacher(teacher), [])
    for name, parameter in student.module.named_parameters():
        if not name.startswith("head."):
            assert torch.equal(parameter, teacher.module.get_parameter(name))
    assert not torch.equal(
        student.module.get_parameter("head.weight"), teacher.module.get_parameter("head.weight")
    )


def test_students_that_are_not_smaller_are_refused(make_cell: MakeCell) -> None:
    """Larger in one number, another MLP, another grid: one sentence each."""
    entry = METHODS.get("weight_selection")
    teacher = TEACHERS.get("micro/deit").architecture
    for student, because in (
        (resolve_student(parse_student("standard@micro_large"), teacher), "width 64, teacher 48"),
        (teacher.with_(size=teacher.size.model_copy(update={"depth": 5})), "depth 5, teacher 4"),
        (teacher.with_(size=teacher.size.model_copy(update={"heads": 4})), "heads 4, teacher 3"),
        (teacher.with_(size=teacher.size.model_copy(update={"mlp_ratio": 5.0})), "MLP 240, teacher 192"),
        (teacher.with_(components=Components(mlp="glu")), "student glu, teacher plain"),
        (teacher.with_(patch=4), "grids of patches differ"),
    ):
        assert because in str(entry.refuses(entry.method.Config(), make_cell("micro/deit", student)))
    smaller = make_cell("micro/deit", "standard@micro_small")
    assert entry.refuses(entry.method.Config(), smaller) is None
