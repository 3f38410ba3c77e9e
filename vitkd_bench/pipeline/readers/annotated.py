"""The reader of any images with COCO or iNaturalist style annotations."""

from __future__ import annotations

from pathlib import Path

from vitkd_bench.contracts import KnownClass, Part
from vitkd_bench.datasets.annotated import AnnotatedSettings
from vitkd_bench.pipeline.annotations import Annotations, agreeing, parse_annotations, part_of_annotations
from vitkd_bench.pipeline.foreign import read_bytes
from vitkd_bench.pipeline.tree import find, open_files
from vitkd_bench.spec import BadInputError, Dataset, DatasetSettings


class AnnotatedReader:
    """Reads `train` and `test` of `AnnotatedSettings`; an id is the file name that the annotations give.

    Where test's images lie apart, `train/` or `test/` stands before it.
    """

    def classes(
        self, facts: Dataset, settings: DatasetSettings, roots: tuple[Path, ...]
    ) -> tuple[KnownClass, ...]:
        """List the categories in the order of their ids, once the images are there."""
        own = _own(settings)
        for field in ("images", "test_images"):
            if getattr(own, field) is not None:
                find(getattr(own, field), field, roots, facts.name)
        return _annotations(own, roots, facts.name)[0].classes()

    def parts(self, facts: Dataset, settings: DatasetSettings, roots: tuple[Path, ...]) -> dict[str, Part]:
        """Give train and test, in the order of the classes and then of the file names."""
        own = _own(settings)
        train, test = _annotations(own, roots, facts.name)
        files = open_files(find(own.images, "images", roots, facts.name))
        if not _apart(own):
            return {"train": part_of_annotations(train, files), "test": part_of_annotations(test, files)}
        other = open_files(find(str(own.test_images), "test_images", roots, facts.name))
        return {
            "train": part_of_annotations(train, files, "train/"),
            "test": part_of_annotations(test, other, "test/"),
        }


READER = AnnotatedReader()


def _annotations(
    own: AnnotatedSettings, roots: tuple[Path, ...], dataset: str
) -> tuple[Annotations, Annotations]:
    paths = (find(own.train, "train", roots, dataset), find(own.test, "test", roots, dataset))
    train, test = (parse_annotations(read_bytes(path), str(path)) for path in paths)
    agreeing(train, test, apart=_apart(own))
    return train, test


def _apart(own: AnnotatedSettings) -> bool:
    return own.test_images not in {None, own.images}


def _own(settings: DatasetSettings) -> AnnotatedSettings:
    if not isinstance(settings, AnnotatedSettings):
        raise BadInputError("reader 'annotated': register the data set with AnnotatedSettings")
    return settings
