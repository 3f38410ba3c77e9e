"""The strict YAML reader."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from vitkd_bench.spec import BadInputError, parse_yaml, read_yaml

HERE = Path("suite.yaml")
PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**9), 10**9)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(alphabet="abcxyz 019-_:.", max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("abcxyz", min_size=1), inner, max_size=3)
    ),
    max_leaves=8,
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3),
        ("3", 3),
        ("true", True),
        ("on", "on"),
        ("10:30", "10:30"),
        ("2026-01-01", "2026-01-01"),
        ("~", None),
        ("0o7", "0o7"),
        ("1_000", "1_000"),
        ("yes", "yes"),
        (".5", 0.5),
        ("-2.", -2.0),
    ],
)
def test_scalars_mean_what_they_look_like(text: str, value: object) -> None:
    """YAML 1.1's surprises (10:30 as 630, `on` as true, 1e-3 as text) do not happen."""
    assert parse_yaml(f"x: {text}", HERE).data == {"x": value}
    assert type(parse_yaml(f"x: {text}", HERE).data["x"]) is type(value)


@given(PLAIN)
def test_what_is_written_is_read(value: object) -> None:
    """Any plain data written as JSON-like YAML comes back equal."""
    text = (
        yaml.safe_dump({"x": value}, default_flow_style=True, default_style='"')
        if isinstance(value, str)
        else None
    )
    if text is None:
        import json

        text = json.dumps({"x": value})
    assert parse_yaml(text, HERE).data == {"x": value}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1\nb: 2\na: 3", "suite.yaml:3: not valid YAML: key 'a' stands twice"),
        ("a: [1, 2", "suite.yaml:1"),
        ("a: !!python/object:os.system x", "suite.yaml:1"),
        ("1: x", "a key must be text"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(text: str, said: str) -> None:
    """A duplicate key, broken syntax, a tag and a key that is no text are refused by line."""
    with pytest.raises(BadInputError, match=said.replace("[", r"\[")):
        parse_yaml(text, HERE)


def test_lines_are_those_of_the_file() -> None:
    """Every value knows its line."""
    lines = parse_yaml("a: 1\nb:\n  - x\n  - c: 2\n", HERE).lines
    assert lines[("b", 1, "c")] == 4
    assert lines[("a",)] == 1


def test_a_missing_file_is_bad_input(tmp_path: Path) -> None:
    """A file that is not there is named."""
    with pytest.raises(BadInputError, match=r"nowhere\.yaml: cannot be read"):
        read_yaml(tmp_path / "nowhere.yaml")
