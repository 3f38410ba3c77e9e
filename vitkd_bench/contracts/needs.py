"""What a method can need of a cell: declared by name where it is registered, enforced by `plan`.

`batch`, `memory` and `parameters` are no reason to refuse an ordinary cell; they tell a reader what a method
costs, and are held to the truth by the kit that methods are tested with. `plain_labels` and `one_view` refuse
what a recipe's augmentation does to a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from vitkd_bench.contracts.cell import CellFacts

Need = Callable[[str, CellFacts], str | None]
"""Takes the method's name and the cell; says in one sentence why the need is not met, or nothing."""


def unmet(method: str, needs: Iterable[str], cell: CellFacts) -> str | None:
    """Give the first reason why `cell` lacks what `method` needs, or nothing."""
    return next((why for need in needs if (why := NEEDS[need](method, cell))), None)


def _logits(method: str, cell: CellFacts) -> str | None:
    """Logits of the teacher for every class of the data set."""
    if cell.teacher is None:
        return f"{method} needs a teacher"
    if cell.teacher.head is None:
        return f"{method} needs logits, and teacher {cell.teacher.name} has no classification head"
    if cell.teacher_classes is None:
        space = cell.teacher.head.label_space
        return (
            f"{method} needs logits of every class, and the head of {cell.teacher.name} ({space}) lacks "
            f"an index of its own for some class of {cell.dataset.name}"
        )
    return None


def _equal(what: str, value: Callable[..., int], why: str) -> Need:
    def need(method: str, cell: CellFacts) -> str | None:
        if cell.teacher is None or cell.teacher_architecture is None:
            return f"{method} needs a teacher"
        ours, theirs = value(cell.student), value(cell.teacher_architecture)
        if ours == theirs:
            return None
        return f"{what} differ: student {ours}, teacher {cell.teacher.name} {theirs}; {method} {why}"

    return need


def _whole_batches(method: str, cell: CellFacts) -> str | None:
    """Several samples at a time."""
    recipe = cell.recipe
    if recipe is None:
        return None
    if recipe.batch_size < 2:
        return f"{method} relates the samples of a batch, and recipe {recipe.name} has batches of one"
    if recipe.accumulate > 1:
        return (
            f"{method} relates the samples of a batch, and recipe {recipe.name} computes it in "
            f"{recipe.accumulate} parts; set accumulate: 1"
        )
    return None


def _one_view(method: str, cell: CellFacts) -> str | None:
    """No image twice in a batch."""
    if cell.recipe is None or cell.recipe.augmentation.repeated == 1:
        return None
    return (
        f"{method} keeps something of each training image, and recipe {cell.recipe.name} shows one "
        f"{cell.recipe.augmentation.repeated} times in a batch; set augmentation.repeated: 1"
    )


def _plain_labels(method: str, cell: CellFacts) -> str | None:
    """One class for each image."""
    if cell.recipe is None or not cell.recipe.augmentation.mixes:
        return None
    return (
        f"{method} takes one class for each image, and recipe {cell.recipe.name} mixes images of two; set "
        "augmentation.mixup and augmentation.cutmix to 0"
    )


def _nothing(_method: str, _cell: CellFacts) -> str | None:
    return None


NEEDS: dict[str, Need] = {
    "logits": _logits,
    "depth": _equal("depths", lambda a: a.size.depth, "pairs block by block"),
    "heads": _equal("heads", lambda a: a.size.heads, "pairs head by head"),
    "width": _equal("widths", lambda a: a.size.width, "pairs channel by channel"),
    "grid": _equal("grids of patches", lambda a: a.grid, "pairs patch by patch"),
    "batch": _whole_batches,
    "memory": _nothing,
    "parameters": _nothing,
    "plain_labels": _plain_labels,
    "one_view": _one_view,
}
"""By name: `logits` of the teacher for every class; equal `depth`, `heads`, `width`, `grid` (patches a side);
`batch`: a loss that relates samples; `memory`: state that grows with the training set; `parameters` of its
own; `plain_labels`: one class for each image; `one_view`: no image twice in a batch."""
