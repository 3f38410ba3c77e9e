"""`vitkd datasets`: which there are, whether their files are here and sound, and a kit for one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vitkd_bench.cli.arguments import Extensions, Json
from vitkd_bench.cli.console import say, show_facts, show_json, show_table
from vitkd_bench.cli.shelves import entry_of, load_all

app = typer.Typer(help="Labelled images that students are trained and tested on.", no_args_is_help=True)
Name = Annotated[str, typer.Argument(help="A data set's name.")]
DataRoot = Annotated[
    Path | None,
    typer.Option("--data-root", help="Where data is looked for.", show_default="$VITKD_DATA"),
]
Root = Annotated[
    Path | None, typer.Option("--root", help="The folder of this data set, or one that holds its folder.")
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="A setting as in a suite, e.g. val.per_class=20."),
]


@app.command("list")
def list_(data_root: DataRoot = None, extensions: Extensions = None, as_json: Json = False) -> None:
    """List all data sets, and which are here; nothing is opened."""
    from vitkd_bench.cli.dataset_files import roots_of
    from vitkd_bench.cli.dataset_rows import plain_row, row
    from vitkd_bench.registry import DATASETS

    roots = roots_of(data_root)
    load_all(extensions)
    if as_json:
        show_json([plain_row(entry, roots) for entry in DATASETS])
        return
    columns = ("name", "title", "classes", "images", "role", "here")
    show_table(columns, [row(entry, roots) for entry in DATASETS])


@app.command("show")
def show_(
    name: Name, data_root: DataRoot = None, extensions: Extensions = None, as_json: Json = False
) -> None:
    """Show a data set's facts, where to get its files, and the settings that a suite may give."""
    from vitkd_bench.cli.dataset_files import roots_of
    from vitkd_bench.cli.dataset_rows import facts_of, plain_row
    from vitkd_bench.cli.settings_table import plain_settings, show_settings
    from vitkd_bench.registry import DATASETS

    entry, roots = entry_of(DATASETS, name, extensions), roots_of(data_root)
    about = " ".join((entry.settings.__doc__ or "").split())
    if as_json:
        settings = plain_settings(entry.settings)
        show_json({**plain_row(entry, roots), "settings": settings, "about_settings": about})
        return
    show_facts(facts_of(entry, DATASETS.origin(name), roots))
    show_settings(entry.settings)
    show_facts([("about settings", about)])


@app.command("check")
def check_(  # noqa: PLR0917 - typer calls it by names
    name: Name,
    root: Root = None,
    data_root: DataRoot = None,
    settings: Settings = None,
    write_skip: Annotated[
        Path | None,
        typer.Option(
            "--write-skip", metavar="FILE", help="Write ids of unreadable images, as `skip` takes them."
        ),
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option("--jobs", "-j", min=1, help="Threads that decode.", show_default="one a core"),
    ] = None,
    extensions: Extensions = None,
    as_json: Json = False,
) -> None:
    """Compare a data set's files with its facts; exit status 1 if something is missing or does not hold.

    Counts, classes, ids and splits are compared, every image is decoded, and images of the same content are
    told: within a split, in two splits, under two labels.
    """
    from vitkd_bench.cli import dataset_checks
    from vitkd_bench.cli.dataset_files import given, refuse_no_folder
    from vitkd_bench.launch.options import cores
    from vitkd_bench.registry import DATASETS

    refuse_no_folder("--write-skip", write_skip and write_skip.absolute().parent)
    entry = entry_of(DATASETS, name, extensions)
    told, roots = given(entry, settings or (), root, data_root)
    found = dataset_checks.check(entry, told, roots, jobs or cores(), as_json=as_json)
    if write_skip is not None:
        dataset_checks.write_skip(write_skip, found)
    raise typer.Exit(int(not found.sound))


@app.command("fetch")
def fetch_(
    name: Name,
    to: Annotated[
        Path | None,
        typer.Option(
            "--to", help="Folder that holds data sets, each in its own.", show_default="$VITKD_DATA"
        ),
    ] = None,
    accept_new_hash: Annotated[
        bool, typer.Option(help="Ask the source again, and take what it gives now for the right file.")
    ] = False,
    extensions: Extensions = None,
    as_json: Json = False,
) -> None:
    """Fetch a data set's files, as far as they may be; exit status 1 where that has to be done by hand.

    They come as published into a folder of the data set's name and are not unpacked. What was broken off goes
    on, what is here is not fetched again.
    """
    from vitkd_bench.cli.dataset_fetching import fetch
    from vitkd_bench.cli.dataset_files import roots_of
    from vitkd_bench.registry import DATASETS
    from vitkd_bench.spec import BadInputError

    entry = entry_of(DATASETS, name, extensions)
    folders = (to,) if to is not None else roots_of(None)
    if entry.facts.fetch and not folders:
        raise BadInputError(f"data set {name!r}: --to DIR or VITKD_DATA says where to")
    folder = folders[0] if folders else None
    raise typer.Exit(fetch(entry, folder, accept_new_hash=accept_new_hash, as_json=as_json))


@app.command("test")
def conform_(
    what: Annotated[
        str,
        typer.Argument(metavar="FILE|NAME", help="A Python file that registers data sets, or a data set."),
    ],
    root: Root = None,
    data_root: DataRoot = None,
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """Run the conformance kit on a data set, or on each that a file registers; exit status 1 if one fails.

    Up to 64 images of each part are decoded. What needs files that are not there fails. A data set of an
    installed package is tested by its name.
    """
    from vitkd_bench.cli.conforming import registered_by, show_checks
    from vitkd_bench.cli.dataset_files import given
    from vitkd_bench.diagnose.dataset_conformance import dataset_conformance
    from vitkd_bench.registry import DATASETS

    none = "registers no data set; DATASETS.register(...) puts its facts on the shelf"
    names = registered_by(Path(what), DATASETS, none) if Path(what).suffix == ".py" else [what]
    entries = [DATASETS.get(name) for name in names]
    told = {entry.name: given(entry, settings or (), root, data_root) for entry in entries}
    found = {entry.name: dataset_conformance(entry, *told[entry.name], fresh=True) for entry in entries}
    failed = show_checks("data set", found, as_json=as_json)
    say(f"{len(found)} data set(s), " + (f"{failed} check(s) do not hold" if failed else "all checks hold"))
    raise typer.Exit(int(failed > 0))
