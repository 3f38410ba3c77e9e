"""The contract of a teacher: what is claimed of it, to be checked and not believed."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from vitkd_bench.spec.architecture import Architecture
from vitkd_bench.spec.base import Frozen


class PixelStats(Frozen):
    """Mean and standard deviation of pixel values in [0, 1], one number a channel."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


IMAGENET_PIXELS = PixelStats(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
HALF_PIXELS = PixelStats(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))


class Head(Frozen):
    """A classification head: which label space its logits are in, and how many there are."""

    kind: Literal["labels", "text"]
    label_space: str
    num_classes: int = Field(gt=1)


class Teacher(Frozen):
    """One teacher: facts of its network, its training and its sources.

    `backend` says who builds it: `native` is this package's own ViT (micro teachers), `timm` a timm model
    named by `timm_name`. `training` names the method of kind `pretraining` and the recipe and data set
    that make a micro teacher; a teacher of another group has weights from outside.
    """

    name: str
    title: str
    family: str
    group: Literal["micro", "published", "reserve"]
    outcome: Literal["transfers", "fails"] | None = None
    paper: str
    licence: str
    architecture: Architecture
    pixels: PixelStats
    head: Head | None = None
    backend: Literal["native", "timm"] = "timm"
    timm_name: str | None = None
    training: Training | None = None
    objective: str
    seen: tuple[str, ...] = ()
    notes: str = ""
    version: int = Field(default=1, ge=1)

    @property
    def native_components(self) -> tuple[str, ...]:
        """Names of the components that a standard student lacks."""
        return self.architecture.components.present()


class Training(Frozen):
    """How a micro teacher is made: a run like any other. `teacher` is one that the objective itself reads."""

    method: str
    recipe: str
    dataset: str
    teacher: str | None = None
    seed: int = 0


Teacher.model_rebuild()
