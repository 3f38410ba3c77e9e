import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from vitkd_bench.methods._layers import Layers, blocks_of
from vitkd_bench.spec import BadInputError, Settings


class Holder(Settings):
    """Any settings with layers."""

    layers: Layers = "all"


depths = st.integers(1, 30)


@given(depths)
def test_all_names_every_block(depth: int) -> None:
    """`all` is every block, in order."""
    assert blocks_of("all", depth) == tuple(range(depth))


@given(depths, st.data())
def test_first_and_rest_make_the_whole(depth: int, data: st.DataObject) -> None:
    """The first k blocks and the last depth - k are all blocks, none twice."""
    k = data.draw(st.integers(0, depth))
    first = blocks_of(f"first:{k}", depth) if k else ()
    last = blocks_of(f"last:{depth - k}", depth) if k < depth else ()
    assert first + last == blocks_of("all", depth)


@given(st.lists(st.integers(0, 20), min_size=1, unique=True))
def test_a_list_means_its_blocks(blocks: list[int]) -> None:
    """A list names its blocks, ascending, whatever the order in which it was written."""
    assert blocks_of(tuple(blocks), 21) == tuple(sorted(blocks))


@given(depths, st.integers(1, 40))
def test_what_does_not_exist_is_refused(depth: int, beyond: int) -> None:
    """Every form that reaches beyond the depth is refused, and the message says how deep the network is."""
    for layers in (f"first:{depth + beyond}", f"last:{depth + beyond}", (0, depth + beyond - 1)):
        with pytest.raises(BadInputError, match=f"beyond the network's {depth} blocks"):
            blocks_of(layers, depth)


@pytest.mark.parametrize(
    "value",
    ["", "ALL", "first", "first:0", "first:-1", "last:1.5", "first:01", " all", "1", 3,
     None, [], [1, 1], [-1], [1.0], [True], ["1"], {"first": 3}],
)  # fmt: skip
def test_a_bad_form_is_refused_by_field(value: object) -> None:
    """A value of no known form is refused when read, in one line that names the field and the grammar."""
    with pytest.raises(BadInputError, match=r"^suite\.yaml: layers: ") as caught:
        Holder.parse({"layers": value}, "suite.yaml")
    assert "\n" not in str(caught.value)


@given(
    st.one_of(
        st.just("all"),
        st.builds("first:{}".format, st.integers(1, 99)),
        st.lists(st.integers(0, 99), min_size=1, unique=True),
    )
)
def test_settings_survive_json(value: object) -> None:
    """What was read is written so that it reads the same again."""
    once = Holder.parse({"layers": value})
    assert Holder.parse(once.plain()) == once


def test_settings_in_python_take_tuples() -> None:
    """The class can be made in Python as well as read."""
    assert Holder(layers=(2, 0)).layers == (2, 0)
    with pytest.raises(ValidationError):
        Holder(layers="top:3")
