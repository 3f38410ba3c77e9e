"""Settings that several data sets share."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from vitkd_bench.spec import DatasetSettings

LabelSpace = Annotated[
    str | None, Field(min_length=1, description="name of these classes, where a teacher's head is for them")
]


class RootSettings(DatasetSettings):
    """Settings of a data set with files of its own."""

    root: str | None = Field(
        default=None, min_length=1, description="its folder, where that has none of its usual names"
    )


class ShiftSettings(DatasetSettings):
    """Settings of a set that is only evaluated: of a subset its classes, and nothing about training."""

    @model_validator(mode="after")
    def _nothing_is_trained(self) -> ShiftSettings:
        if self.val is not None:
            raise ValueError("val: nothing is trained on a shift set; leave this field out")
        if self.subset is not None and (self.subset.per_class or self.subset.long_tail):
            raise ValueError("subset: of a shift set only `classes` can be chosen")
        return self


class ShiftRootSettings(ShiftSettings, RootSettings):
    """Settings of a shift set with files of its own."""
