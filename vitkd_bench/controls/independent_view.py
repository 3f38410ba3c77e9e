"""Independent view: teacher and student see different augmentations of an image."""

from __future__ import annotations

from vitkd_bench.contracts import CellFacts, Control, Method
from vitkd_bench.registry import CONTROLS
from vitkd_bench.spec import Augmentation


@CONTROLS.register(
    "independent_view",
    title="teacher on a view of its own",
    claim="that student and teacher have to see the same pixels",
)
class IndependentView(Control):
    """The teacher sees another augmented view of the same image, drawn independently; a pack of its own.

    At test, where nothing is augmented, both see the same image.
    """

    views = 2

    @classmethod
    def refuses(cls, config: object, method: Method, cell: CellFacts) -> str | None:
        if not method.teacher_taps():
            return "nothing is read of the teacher at a step, so that it sees no view"
        if type(method).reads_alone(method.config):
            return "the method runs the teacher itself, on what it likes"
        if method.views > 1:
            return f"the method has {method.views} views of its own"
        if cell.recipe is not None and cell.recipe.augmentation == Augmentation():
            return f"recipe {cell.recipe.name} augments nothing, so that all views are the same"
        return None
