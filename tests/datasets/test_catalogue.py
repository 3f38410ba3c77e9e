"""The catalogue: counts of official sources, and settings that cannot mean what they say."""

import pytest

from vitkd_bench.datasets.folder import FolderSettings
from vitkd_bench.registry import DATASETS
from vitkd_bench.spec import BadInputError

COUNTS = {
    "cifar10": (10, {"train": 50_000, "test": 10_000}),
    "cifar100": (100, {"train": 50_000, "test": 10_000}),
    "flowers102": (102, {"train": 1_020, "val": 1_020, "test": 6_149}),
    "imagenet1k": (1_000, {"train": 1_281_167, "test": 50_000}),
    "imagenet_a": (200, {"test": 7_500}),
    "imagenet_r": (200, {"test": 30_000}),
    "imagenet_sketch": (1_000, {"test": 50_889}),
    "imagenet_v2": (1_000, {"test": 10_000}),
    "imagenet_v2_threshold": (1_000, {"test": 10_000}),
    "imagenet_v2_top": (1_000, {"test": 10_000}),
    "inaturalist2017": (5_089, {"train": 579_184, "test": 95_986}),
    "inaturalist2018": (8_142, {"train": 437_513, "test": 24_426}),
    "inaturalist2019": (1_010, {"train": 265_213, "test": 3_030}),
    "inaturalist2021_mini": (10_000, {"train": 500_000, "test": 100_000}),
    "pets": (37, {"train": 3_680, "test": 3_669}),
    "tiny_imagenet": (200, {"train": 100_000, "test": 10_000}),
}


@pytest.mark.parametrize("name", COUNTS)
def test_counts_are_the_published_ones(name: str) -> None:
    """Classes and images by part are those of the official pages."""
    facts = DATASETS.get(name).facts
    assert (facts.num_classes, facts.counts) == COUNTS[name]


@pytest.mark.parametrize("name", [e.name for e in DATASETS if e.facts.role == "shift"])
@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"val": {"per_class": 2}}, "val: nothing is trained on a shift set"),
        ({"subset": {"per_class": 2}}, "subset: of a shift set only `classes` can be chosen"),
        ({"subset": {"long_tail": 10.0}}, "subset: of a shift set only `classes` can be chosen"),
    ],
)
def test_shift_sets_are_not_trained_on(name: str, settings: dict[str, object], said: str) -> None:
    """What says how to train is refused, whichever the set."""
    own = DATASETS.get(name).settings
    needed = {"test": "x"} if "test" in own.model_fields else {}
    with pytest.raises(BadInputError, match=said):
        own.parse({**needed, **settings})


def folder(**settings: object) -> FolderSettings:
    """Settings of a folder whose train and test are domains of one archive."""
    return FolderSettings.parse({"train": "a.tar", "test": "a.tar", "val": {"per_class": 2}, **settings})


def test_train_is_never_test() -> None:
    """The same files as train and as test are refused, one folder of both as well, with the way out."""
    for within in ({}, {"within": "photo"}, {"within": {"train": "photo", "test": "photo"}}):
        with pytest.raises(BadInputError, match=r"the same files as train; carve it instead, \{share: 0.2\}"):
            folder(**within)
    assert folder(within={"train": "photo", "test": "sketch"}).folder("test") == "sketch"
    with pytest.raises(BadInputError, match="within: test is carved from train, so name one folder"):
        folder(test={"share": 0.2}, within={"train": "photo", "test": "sketch"})


def test_new_settings_rename_no_run() -> None:
    """What a suite wrote before these settings came is declared as it was."""
    old = {"train": "train", "test": "test", "val": {"per_class": 3}}
    assert FolderSettings.parse(old).declared() == old
