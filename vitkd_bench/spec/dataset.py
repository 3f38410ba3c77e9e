"""Facts of a data set, its settings in a suite, and its list of classes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from vitkd_bench.spec.base import Frozen, Settings
from vitkd_bench.spec.canonical import content_hash
from vitkd_bench.spec.teacher import PixelStats

Template = Annotated[str, Field(pattern=r"\{\}")]
"""A sentence in which `{}` stands for the name of a class."""

TEMPLATES = ("a photo of a {}.",)
"""The one that stands for any picture (CLIP, arXiv:2103.00020, section 3.1.4)."""


class Subset(Frozen):
    """A part of a data set: the first `classes` (or those named), `per_class` training images of each.

    `long_tail` is the imbalance factor of an exponential long tail: of K classes the first keeps n images and
    class k keeps n x factor^(-k / (K - 1)), where n is `per_class`, or what all classes have (Cui et al.,
    arXiv:1901.05555, section 5.1). Images are drawn by `seed`, once, for all runs: a subset is a data set,
    not a source of noise.
    """

    classes: int | tuple[str, ...] | None = None
    per_class: int | None = Field(default=None, gt=0)
    long_tail: float | None = Field(default=None, gt=1)
    seed: int = Field(default=0, ge=0)


class Validation(Frozen):
    """How val is carved from train: stratified, by `seed`.

    `per_class` images of each class, or a `share` of each class's images, rounded, at least one of them where
    a class has two; a class with a single image stays in train.
    """

    per_class: int | None = Field(default=None, gt=0)
    share: float | None = Field(default=None, gt=0, lt=1)
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _one_of_them(self) -> Validation:
        if (self.per_class is None) == (self.share is None):
            raise ValueError("val takes per_class or share, one of the two")
        return self


CARVED = Field(description="how val is carved from train: `per_class` images or a `share`, by `seed`")
Carved = Annotated[Validation, CARVED]

Decoding = Literal["once", "anew"]
"""When images are decoded: `once`, kept in memory at the size at which they are shown, crops cut from that;
or `anew` each time, crops cut from the whole image."""


class DatasetSettings(Settings):
    """Settings that every data set takes; `pictures_of` stands in no id, as it changes no number."""

    pictures_of: tuple[str, ...] = Field(
        default=(),
        description="public collections of which the images are, so that a board can mark the teachers that "
        "have seen them",
    )
    templates: tuple[Template, ...] | None = Field(
        default=None,
        min_length=1,
        description="sentences of which a text head is made, {} for the class's name",
    )
    subset: Subset | None = Field(
        default=None,
        description="part of it: `classes` (how many, or names), `per_class` training images, `long_tail` by "
        "this factor, drawn by `seed`",
    )
    val: Annotated[Validation | None, CARVED] = None
    decode: Decoding | None = Field(
        default=None,
        description="when images are decoded: once, kept in memory at the size shown, or anew each time, "
        "crops cut from the whole image; the data set's own way unless given",
    )
    jpeg: Literal["full", "scaled"] = Field(
        default="full",
        description="scaled: libjpeg decodes large files at 1/2, 1/4 or 1/8 where no crop is enlarged by it",
    )
    skip: str | None = Field(
        default=None,
        min_length=1,
        description="text file with the id of an image a line: left out of train, val and test, and counted",
    )


class ClassInfo(Frozen):
    """One class: its name, and its index in other label spaces, e.g. `{"imagenet1k": 207}`.

    A class of a shift set may be several classes elsewhere: `{"imagenet1k": (151, 152)}`.
    """

    name: str
    indices: dict[str, int | tuple[int, ...]] = {}

    def places(self, space: str) -> tuple[int, ...]:
        """Give its indices in a label space, none if it has no place there."""
        found = self.indices.get(space, ())
        return found if isinstance(found, tuple) else (found,)

    @property
    def spoken(self) -> str:
        """The name as it stands in a sentence: underscores are spaces."""
        return " ".join(self.name.replace("_", " ").split())


class Dataset(Frozen):
    """Facts of a data set, as published.

    `image_size` is the native one in pixels (None where images differ); `reader` names the reader in
    `pipeline.readers` that finds it; `shifts` are the named shift splits, `name/shift` in a suite.
    `classes` is None where they are read from the files, `num_classes` and `counts` (images by part, as
    `train`, `val`, `test`) are None and empty where they are any. `templates` are the sentences of which a
    text head is made. A shift set (`role: shift`) has a test part alone and is named under `evaluate`.
    `files` are the names that it has under a data root, any one of a line's alternatives; `fetch` are the
    places from which its files may be had, each `URL` or `URL -> name`; `manual` says what a person has to do
    where they may not.
    """

    name: str
    title: str
    source: str
    licence: str
    reader: str
    channels: int = Field(gt=0)
    image_size: int | None = Field(default=None, gt=0)
    pixels: PixelStats
    role: Literal["trained", "shift"] = "trained"
    classes: tuple[ClassInfo, ...] | None = None
    num_classes: int | None = Field(default=None, gt=1)
    counts: dict[str, int] = {}
    label_space: str | None = None
    split_rule: str
    decode: Decoding = "once"
    files: tuple[str, ...] = ()
    fetch: tuple[str, ...] = ()
    manual: str = ""
    templates: tuple[Template, ...] = Field(default=TEMPLATES, min_length=1)
    shifts: tuple[str, ...] = ()
    augmentation: str = "none"
    notes: str = ""
    version: int = Field(default=1, ge=1)


def alternatives(line: str) -> tuple[str, ...]:
    """Split a line of `Dataset.files`: names of which any one will do, the preferred one first."""
    return tuple(name.strip() for name in line.split("|"))


class ResolvedDataset(Frozen):
    """A data set as one suite uses it: facts that can change a number, settings, and the classes in order.

    `settings` are plain JSON; file names stand in them as the suite wrote them, never as found on one
    machine. `pictures` are the names under which a teacher's contract would list these images as seen.
    `templates` are the sentences of which a text head is made. `skipped` is the hash of the ids that are left
    out, where a list names some. `pool` makes one probability of several where a class of a shift set is
    several of those trained on.
    """

    name: str
    version: int
    settings: dict[str, object] = {}
    channels: int
    image_size: int | None = None
    pixels: PixelStats
    classes: tuple[ClassInfo, ...]
    label_space: str
    shifts: tuple[str, ...] = ()
    pictures: tuple[str, ...] = ()
    templates: tuple[Template, ...] = Field(default=TEMPLATES, min_length=1)
    decode: Decoding = "once"
    skipped: str = ""
    pool: Literal["sum", "mean"] = "sum"

    @property
    def class_hash(self) -> str:
        """Hash of the classes in their order."""
        return content_hash([c.plain() for c in self.classes])

    def identity(self) -> dict[str, object]:
        """What of the data set stands in a run's id. Which shift splits are evaluated changes no number.

        Nor does the folder in which it lies (`root`): the hash of its ids stands in the record. Of a list of
        images to skip its content counts, not its name.
        """
        settings = {name: value for name, value in self.settings.items() if name not in {"root", "skip"}}
        if self.skipped:
            settings["skip"] = self.skipped
        return {"name": self.name, "settings": settings, "classes": self.class_hash}
