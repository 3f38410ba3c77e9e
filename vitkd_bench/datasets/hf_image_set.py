"""Any image data set of Hugging Face on disk (https://huggingface.co/docs/datasets): parquet, or as saved."""

from __future__ import annotations

from pydantic import Field, model_validator

from vitkd_bench.datasets._settings import LabelSpace
from vitkd_bench.registry import DATASETS
from vitkd_bench.spec import IMAGENET_PIXELS, Dataset, DatasetSettings


class HfImageSetSettings(DatasetSettings):
    """What a suite says of a Hugging Face image set; the names of its classes stand in the files."""

    path: str = Field(
        min_length=1,
        description="its folder, as a clone of its repository has it (parquet files `<split>-*.parquet` in "
        "it or in data), or as save_to_disk writes it (a folder of .arrow files a split)",
    )
    train: str = Field(default="train", min_length=1, description="the split that is trained on")
    test: str = Field(default="test", min_length=1, description="the split that is reported")
    published_val: str | None = Field(
        default=None, min_length=1, description="a split that is val; without it val is carved from train"
    )
    image: str = Field(default="image", min_length=1, description="column of the images")
    label: str = Field(default="label", min_length=1, description="column of the labels")
    label_space: LabelSpace = None

    @model_validator(mode="after")
    def _splits_are_told_apart(self) -> HfImageSetSettings:
        named = [name for name in (self.train, self.test, self.published_val) if name is not None]
        if len(set(named)) < len(named):
            raise ValueError(f"train, test and published_val: two of {', '.join(named)} are the same split")
        if (self.val is None) == (self.published_val is None):
            raise ValueError("val: either how it is carved from train, {per_class: 20}, or published_val")
        return self


DATASETS.register(
    Dataset(
        name="hf_image_set",
        title="Any Hugging Face image set on disk",
        source="files of one's own, or fetched by `hf download --repo-type dataset`",
        licence="that of the files",
        reader="hf_image_set",
        channels=3,
        pixels=IMAGENET_PIXELS,
        split_rule="splits by name; val, unless one is named: of each class of train, by a hash of the row's "
        "number and the seed of val",
        augmentation="flip, crop",
        notes="Read by pyarrow, not by the datasets library, which would copy the files into a cache of its "
        "own. Images that are saved with `save_to_disk` are read in place; parquet packs them by groups of "
        "rows, so a shuffled epoch over parquet unpacks each group many times.",
    ),
    HfImageSetSettings,
)
