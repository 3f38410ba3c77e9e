"""iNaturalist of the yearly competitions (Van Horn et al., arXiv:1707.06642; visipedia/inat_comp)."""

from __future__ import annotations

from pydantic import Field

from vitkd_bench.datasets._settings import RootSettings
from vitkd_bench.registry import DATASETS
from vitkd_bench.spec import IMAGENET_PIXELS, Carved, Dataset, Validation

STORE = "https://ml-inat-competition-datasets.s3.amazonaws.com"
"""Where the competitions' files lie (AWS Open Data)."""

LICENCE = (
    "one of Creative Commons' an image, named in the annotations; the competition's terms: non-commercial "
    "research and education, images must not be passed on"
)
RULE = (
    "test: the official validation set, as the test labels are not public; val: a tenth of each class of "
    "train, by a hash of the image's name"
)
LARGE = "The images' .tar.gz is too large to be read as it is: unpack it, or gunzip it to a .tar."
HIDDEN = (
    "The competition hid the species' names: class names are numbers, unless `names: categories.json` gives "
    "the later published ones (categories.json.tar.gz beside the other files)."
)


class InaturalistSettings(RootSettings):
    """Settings of iNaturalist: `val` is carved from train, a tenth of each class unless told otherwise."""

    val: Carved = Validation(share=0.1)
    names: str | None = Field(
        default=None,
        min_length=1,
        description='file of categories, [{"id": 0, "name": ...}], whose names stand for the hidden ones of '
        "2018 and 2019",
    )


def _register(name: str, year: int, sizes: tuple[int, int, int], lines: tuple[str, ...], notes: str) -> None:
    classes, train, test = sizes
    DATASETS.register(
        Dataset(
            name=name,
            title=f"iNaturalist {year}" + (" mini" if name.endswith("mini") else ""),
            source=f"https://github.com/visipedia/inat_comp, {year} (arXiv:1707.06642)",
            licence=LICENCE,
            reader="inaturalist",
            channels=3,
            pixels=IMAGENET_PIXELS,
            num_classes=classes,
            counts={"train": train, "test": test},
            label_space=name,
            split_rule=RULE,
            decode="anew",
            files=(f"{name} | inat{name.removeprefix('inaturalist')}", *lines),
            fetch=tuple(dict.fromkeys(f"{STORE}/{year}/{line.rpartition(' | ')[2]}" for line in lines)),
            augmentation="flip, crop",
            notes=f"{notes} {LARGE} Classes are in the order of their category ids: torchvision's reader has "
            "another order and no split, so ours reads the annotations.",
        ),
        InaturalistSettings,
    )


def _images(folder: str) -> str:
    return f"{folder} | {folder}.tar | {folder}.tar.gz"


def _packed(annotations: str) -> str:
    return f"{annotations} | {annotations}.tar.gz"


_register(
    "inaturalist2017",
    2017,
    (5_089, 579_184, 95_986),
    (
        _images("train_val_images"),
        "train2017.json | train_val2017.zip",
        "val2017.json | train_val2017.zip",
    ),
    "Long-tailed.",
)
_register(
    "inaturalist2018",
    2018,
    (8_142, 437_513, 24_426),
    (_images("train_val2018"), _packed("train2018.json"), _packed("val2018.json")),
    f"Long-tailed. {HIDDEN}",
)
_register(
    "inaturalist2019",
    2019,
    (1_010, 265_213, 3_030),
    (_images("train_val2019"), _packed("train2019.json"), _packed("val2019.json")),
    HIDDEN,
)
_register(
    "inaturalist2021_mini",
    2021,
    (10_000, 500_000, 100_000),
    (_images("train_mini"), _images("val"), _packed("train_mini.json"), _packed("val.json")),
    "50 training and 10 validation images of each class.",
)
