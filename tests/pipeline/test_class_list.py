"""Lists of classes: places in other label spaces, one or several, beside each class or beside the list."""

import json
from pathlib import Path

import pytest

from vitkd_bench.pipeline.class_list import read_classes
from vitkd_bench.spec import BadInputError, WorldError


def listed(root: Path, document: object) -> dict[str, dict[str, object]]:
    """Names of the classes and their places."""
    (root / "classes.json").write_text(json.dumps(document))
    return {known.info.name: dict(known.info.indices) for known in read_classes(root / "classes.json")}


def test_places_may_be_several(tmp_path: Path) -> None:
    """A list is several places, an empty one none, a number one."""
    rows = [
        {"name": "dog", "imagenet1k_indices": [151, 152]},
        {"name": "house", "imagenet1k_indices": []},
        {"name": "horse", "imagenet1k_index": 339, "other_indices": [3]},
    ]
    assert listed(tmp_path, rows) == {
        "dog": {"imagenet1k": (151, 152)},
        "house": {},
        "horse": {"imagenet1k": 339, "other": (3,)},
    }


def test_places_may_stand_beside_the_list(tmp_path: Path) -> None:
    """By name, for some of the classes; what else stands there is left alone."""
    document = {"classes": ["dog", "house"], "imagenet1k_indices": {"dog": [151]}, "note": "x"}
    assert listed(tmp_path, document) == {"dog": {"imagenet1k": (151,)}, "house": {}}


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ([{"name": "a", "x_indices": 3}, "b"], "class 0: x_indices: a list of numbers is needed, got 3"),
        ([{"name": "a", "x_indices": [-1]}, "b"], "class 0: x_indices: a number from 0 on, got -1"),
        ([{"name": "a", "x_index": True}, "b"], "class 0: x_index: a number from 0 on, got True"),
        ({"classes": ["a", "b"], "x_indices": {"c": [1]}}, "x_indices: an object is needed"),
        ({"classes": ["a", "b"], "x_indices": [1]}, "x_indices: an object is needed"),
        ({"classes": ["a", 3]}, "class 1: 'name' is needed, got 3"),
    ],
)
def test_wrong_places_are_named(document: object, said: str, tmp_path: Path) -> None:
    """Which class and field it is."""
    with pytest.raises(BadInputError) as caught:
        listed(tmp_path, document)
    assert said in str(caught.value)


def test_absurd_nesting_is_refused(tmp_path: Path) -> None:
    """A file of a hundred thousand brackets is one line."""
    (tmp_path / "classes.json").write_bytes(b"[" * 100_000)
    with pytest.raises(WorldError, match="nested too deeply"):
        read_classes(tmp_path / "classes.json")
