"""Every data set on the shelf that has files, and the forms in which they come."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from tests.pipeline.layouts import imagenet, inaturalist, own_sets, small_sets
from tests.pipeline.layouts.pictures import Written
from vitkd_bench.datasets.imagenet_v2 import SAMPLINGS

Write = Callable[[Path], Written]

LAYOUTS: dict[str, dict[str, Write]] = {
    "imagenet1k": {
        "folders": imagenet.imagenet_folders,
        "tars": imagenet.imagenet_tars,
        "flat val": imagenet.imagenet_flat_val,
    },
    "tiny_imagenet": {"folder": small_sets.tiny_folder, "zip": small_sets.tiny_zip},
    "flowers102": {"folder": small_sets.flowers_folder, "archive": small_sets.flowers_archive},
    "pets": {"folder": small_sets.pets_folder, "archives": small_sets.pets_archives},
    "inaturalist2021_mini": {"folder": inaturalist.mini_folder, "archives": inaturalist.mini_archives},
    "annotated": {
        "folder": inaturalist.annotated_folder,
        "archive": inaturalist.annotated_archive,
        "apart": inaturalist.annotated_apart,
    },
    "folder": {
        "folders": own_sets.class_folders,
        "archives": own_sets.class_archives,
        "domains": own_sets.domains,
    },
    "shift_folder": {"folders": own_sets.shift_folders, "archive": own_sets.shift_archive},
    "webdataset": {"numbers": own_sets.shards_of_numbers, "json": own_sets.shards_of_json},
    "hf_image_set": {"parquet": own_sets.parquet_set, "saved": own_sets.saved_set},
}
for _name in ("cifar10", "cifar100"):
    LAYOUTS[_name] = {
        "folder": partial(small_sets.cifar_folder, name=_name),
        "archive": partial(small_sets.cifar_archive, name=_name),
    }
for _year, _folder in (("2017", "train_val_images"), ("2018", "train_val2018"), ("2019", "train_val2019")):
    LAYOUTS[f"inaturalist{_year}"] = {
        "folder": partial(inaturalist.yearly_folder, year=_year, folder=_folder),
        "archive": partial(inaturalist.yearly_archive, year=_year, folder=_folder),
    }
for _name, _mark, _folder, _archive in (
    ("imagenet_a", "a", "imagenet-a", "imagenet-a.tar"),
    ("imagenet_r", "r", "imagenet-r", "imagenet-r.tar"),
    ("imagenet_sketch", "", "sketch", "ImageNet-Sketch.zip"),
):
    LAYOUTS[_name] = {
        "folder": partial(imagenet.wnid_folders, mark=_mark, folder=_folder),
        "archive": partial(imagenet.wnid_archive, mark=_mark, folder=_folder, archive=_archive),
    }
for _name, (_archive, _) in SAMPLINGS.items():
    LAYOUTS[_name] = {
        "folder": partial(imagenet.v2_folders, archive=_archive),
        "archive": partial(imagenet.v2_archive, archive=_archive),
    }

FORMS = [(name, form) for name in sorted(LAYOUTS) for form in LAYOUTS[name]]
"""Name of the data set and form of its files."""


def write(name: str, form: str, root: Path) -> Written:
    """Write a small set in one of its layouts."""
    return LAYOUTS[name][form](root)
