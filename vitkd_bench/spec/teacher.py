"""The contract of a teacher: what is claimed of it, to be checked and not believed."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from vitkd_bench.spec.architecture import Architecture
from vitkd_bench.spec.base import Frozen
from vitkd_bench.spec.errors import BadInputError, nearest

Backend = Literal["timm", "open_clip", "transformers", "official"]
PositionInterpolation = Literal["timm", "official"]


class PixelStats(Frozen):
    """Mean and standard deviation of pixel values in [0, 1], one number a channel; deviations are above 0."""

    mean: tuple[Annotated[float, Field(ge=0, le=1)], ...]
    std: tuple[Annotated[float, Field(gt=0, le=1)], ...]


IMAGENET_PIXELS = PixelStats(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
HALF_PIXELS = PixelStats(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
OPENAI_PIXELS = PixelStats(mean=(0.48145466, 0.4578275, 0.40821073), std=(0.26862954, 0.26130258, 0.27577711))


class Head(Frozen):
    """A classification head: its label space, and how many logits it gives.

    `labels` stand among the weights; `text` is made of class names and stands there too, or a text tower
    makes it for the cell's data; `probe` is fitted on frozen features to the cell's data.
    """

    kind: Literal["labels", "text", "probe"]
    label_space: str
    num_classes: int = Field(gt=1)


class Accuracy(Frozen):
    """A published figure of a teacher: a fraction in [0, 1], what was measured, on what, and who says so."""

    kind: Literal["top1", "zero_shot", "knn", "linear", "finetuned"]
    value: float = Field(gt=0, le=1)
    source: str
    dataset: str = "imagenet1k"
    image_size: int = Field(default=224, gt=0)


class WeightSource(Frozen):
    """One way to a teacher's weights: who builds the network, and where the file is.

    `backend` builds `model` with `arguments`: a timm architecture with its tag; an open_clip model; the class
    of a transformers model, configured from the contract; and for `official` the timm architecture into which
    the release's own file goes, renamed by the `layout` that the family's file registers. `location` is
    `hf://owner/name[@revision]/file` or a URL. `unused` are patterns of keys in the file for which a vision
    network without a head has no place (a text tower, a mask token): they are left aside, all others must
    find theirs. `differs` says in what the backend departs from the release.
    """

    backend: Backend
    model: str
    location: str | None = None
    arguments: dict[str, Any] = {}
    layout: str | None = None
    unused: tuple[str, ...] = ()
    sha256: str | None = Field(default=None, pattern="^[0-9a-f]{64}$")
    differs: tuple[str, ...] = ()


class Teacher(Frozen):
    """One teacher: facts of its network, its training and its sources.

    `architecture` is that at the image size at which it is used, `native_size` the side in pixels of its own
    training where that is another. `crop` is the part of the resized image that is kept at evaluation.
    `certainty` says how sure it is that the published list of twenty holds this entry: A named in the paper's
    texts, B near-certain, C likely, D a guess. `text_encoder` names what a zero-shot head can be made of, as
    `open_clip:<model>/<tag>`: the text tower of that model, whose weights stand in files of the whole model.
    `parameters` counts the backbone without its head, at the size used. `training` names the method of kind
    `pretraining`, recipe and data set that make a micro teacher; a teacher of another group has `sources`,
    the one that is used by default first.
    """

    name: str
    title: str
    family: str
    group: Literal["micro", "published", "reserve"]
    certainty: Literal["A", "B", "C", "D"] | None = None
    outcome: Literal["transfers", "fails"] | None = None
    paper: str
    licence: str
    architecture: Architecture
    native_size: int | None = Field(default=None, gt=0)
    pixels: PixelStats
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"
    crop: float = Field(default=0.9, gt=0, le=1)
    position_interpolation: PositionInterpolation = "timm"
    head: Head | None = None
    text_encoder: str | None = None
    accuracy: tuple[Accuracy, ...] = ()
    sources: tuple[WeightSource, ...] = ()
    training: Training | None = None
    objective: str
    data: str = ""
    seen: tuple[str, ...] = ()
    parameters: int | None = Field(default=None, gt=0)
    notes: str = ""
    version: int = Field(default=1, ge=1)

    @property
    def native_components(self) -> tuple[str, ...]:
        """Names of the components that a standard student lacks."""
        return self.architecture.components.present()

    @property
    def head_kind(self) -> Literal["labels", "text", "probe", "none"]:
        """What gives this teacher logits: a head of labels, one made of texts, or nothing."""
        if self.head:
            return self.head.kind
        return "text" if self.text_encoder else "none"

    def source(self, backend: str | None = None, where: str = "") -> WeightSource:
        """Give the way to its weights through `backend`; the first one if none is named.

        Raises:
            BadInputError: no such way, or none at all; `where` is what the message opens with.
        """
        place = f"{where}: " if where else ""
        known = [source.backend for source in self.sources]
        found = [source for source in self.sources if backend in {None, source.backend}]
        if not found:
            if not known:
                raise BadInputError(f"{place}teacher {self.name!r} is made here and has no weights elsewhere")
            asked = backend or ""
            raise BadInputError(
                f"{place}teacher {self.name!r}: backend {asked!r} does not offer it{nearest(asked, known)}; "
                f"{', '.join(known)} do"
            )
        return found[0]


class Training(Frozen):
    """How a micro teacher is made: a run like any other. `teacher` is one that the objective itself reads."""

    method: str
    recipe: str
    dataset: str
    teacher: str | None = None
    seed: int = 0


Teacher.model_rebuild()
