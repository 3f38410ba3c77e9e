"""The lock file of weights: what is written is read, and nothing else is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitkd_bench.fetch.lockfile import Pin, WeightLock
from vitkd_bench.spec import DamagedFileError

SOUND: dict[str, Any] = {
    "revision": "main",
    "sha256": "0" * 64,
    "size": 1,
    "date": "2026-11-01T00:00:00+00:00",
    "path": "/weights",
    "changed_ns": 1,
}
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
PINS = st.builds(
    Pin,
    revision=st.none() | TEXTS,
    sha256=st.text("0123456789abcdef", min_size=64, max_size=64),
    size=st.integers(min_value=0),
    date=TEXTS,
    path=TEXTS,
    changed_ns=st.integers(),
)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where every example is written."""
    return tmp_path_factory.mktemp("lock") / "weights.lock.json"


@given(weights=st.dictionaries(TEXTS, PINS, max_size=4))
def test_what_is_written_is_read(file: Path, weights: dict[str, Pin]) -> None:
    """Any pins, in any order; the file does not depend on the order."""
    lock = WeightLock(weights)
    file.write_bytes(lock.content())
    assert WeightLock.read(file) == lock
    assert WeightLock(dict(reversed(weights.items()))).content() == lock.content()


@given(field=st.sampled_from(sorted(SOUND)), value=PLAIN)
def test_a_field_of_another_kind_is_damage(file: Path, field: str, value: object) -> None:
    """A pin with any value in any field is read as it stands, or named as damage; nothing is converted."""
    file.write_text(json.dumps({"schema": 1, "weights": {"here": {**SOUND, field: value}}}))
    try:
        read = getattr(WeightLock.read(file).weights["here"], field)
    except DamagedFileError as error:
        assert f"weights.here.{field}: " in str(error)  # noqa: PT017 - either may happen
    else:
        assert read == value
        assert type(read) in {type(SOUND[field]), type(None)}
        assert value is not None or field == "revision"


@given(data=PLAIN)
def test_anything_else_is_damage(file: Path, data: object) -> None:
    """No plain data that is not a lock file is taken for one."""
    file.write_text(json.dumps(data))
    if data in ({}, {"schema": 1}, {"weights": {}}):
        assert WeightLock.read(file) == WeightLock()
        return
    with pytest.raises(DamagedFileError, match=r"weights\.lock\.json: "):
        WeightLock.read(file)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"sha256": "0" * 63}, r"weights\.here\.sha256: 64 hexadecimal digits"),
        ({"size": -1}, r"weights\.here\.size: "),
        ({"size": True}, r"weights\.here\.size: "),
        ({"more": 1}, r"weights\.here: .* are wanted"),
    ],
)
def test_damage_is_named(file: Path, change: dict[str, Any], said: str) -> None:
    """The message says which field of which location, and what to do."""
    file.write_text(json.dumps({"schema": 1, "weights": {"here": {**SOUND, **change}}}))
    with pytest.raises(DamagedFileError, match=f"{said}.*remove it and fetch again"):
        WeightLock.read(file)
