"""Facts of data sets, as `datasets list` shows them."""

import pytest

from vitkd_bench.datasets.folder import FolderSettings
from vitkd_bench.registry import DATASETS
from vitkd_bench.spec import BadInputError


def test_both_data_sets_are_on_the_shelf() -> None:
    """The embedded digits and any folder of images are found by name."""
    assert {"digits", "folder"} <= set(DATASETS.names())
    with pytest.raises(BadInputError, match="did you mean 'digits'"):
        DATASETS.get("digit")


def test_digits_are_named_in_order() -> None:
    """Class k of the digits is the digit k."""
    classes = DATASETS.get("digits").facts.classes
    assert classes is not None
    assert [c.name for c in classes][:3] == ["zero", "one", "two"]
    assert len(classes) == 10


def test_settings_equal_to_their_default_are_left_out() -> None:
    """A run's id does not change when a default is written out, or when a new setting is added."""
    short = FolderSettings.parse({"train": "a", "test": "b", "val": {"per_class": 3}})
    long = FolderSettings.parse(
        {"train": "a", "test": "b", "val": {"per_class": 3, "seed": 0}, "subset": None, "classes": None}
    )
    assert short.declared() == long.declared()
