"""`vitkd recipes`: how students are trained, each recipe with its source."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from vitkd_bench.cli.arguments import Extensions, Json
from vitkd_bench.cli.console import show_facts, show_json, show_table
from vitkd_bench.cli.shelves import entry_of, load_all

if TYPE_CHECKING:
    from vitkd_bench.spec import Recipe

app = typer.Typer(help="Ways of training a student.", no_args_is_help=True)


@app.command("list")
def list_(extensions: Extensions = None, as_json: Json = False) -> None:
    """List all recipes."""
    from vitkd_bench.registry import RECIPES

    load_all(extensions)
    if as_json:
        show_json([recipe.plain() for recipe in RECIPES])
        return
    columns = ("name", "title", "epochs", "batch", "peak rate", "image size", "augmentation")
    show_table(columns, [_row(recipe) for recipe in RECIPES])


@app.command("show")
def show_(
    name: Annotated[str, typer.Argument(help="A recipe's name.")],
    extensions: Extensions = None,
    as_json: Json = False,
) -> None:
    """Show a recipe: every field as it trains, those that it leaves at their default too."""
    from vitkd_bench.registry import RECIPES

    recipe = entry_of(RECIPES, name, extensions)
    if as_json:
        show_json(recipe.plain())
        return
    told = {**recipe.plain(), "augmentation": _written(recipe.augmentation.declared())}
    show_facts([*told.items(), ("defined in", RECIPES.origin(name))])


def _row(recipe: Recipe) -> tuple[object, ...]:
    size = recipe.image_size or "the data set's own"
    augmentation = _written(recipe.augmentation.declared())
    return recipe.name, recipe.title, recipe.epochs, recipe.batch_size, f"{recipe.lr:g}", size, augmentation


def _written(augmentation: dict[str, Any]) -> str:
    """Write the fields that act, `none` where none does."""
    return (
        ", ".join(
            name if value is True else f"{name} {_value(value)}" for name, value in augmentation.items()
        )
        or "none"
    )


def _value(value: Any) -> str:
    return " to ".join(f"{one:g}" for one in value) if isinstance(value, list) else str(value)
