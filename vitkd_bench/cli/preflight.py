"""`vitkd teachers check` and `vitkd teachers test`: is a teacher what is claimed of it?"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vitkd_bench.cli.arguments import Json
from vitkd_bench.cli.console import say, show, show_json, show_table, stderr
from vitkd_bench.cli.shelves import entry_of

if TYPE_CHECKING:
    from vitkd_bench.diagnose import Verdict
    from vitkd_bench.diagnose.preflight import Watch
    from vitkd_bench.spec import Backend, Teacher


def check(
    name: Annotated[str, typer.Argument(metavar="ID", help="family/size, e.g. deit/ti.")],
    weights: Annotated[
        Path | None,
        typer.Option(
            "--weights", help="A file of weights of your own.", show_default="what was fetched or made"
        ),
    ] = None,
    backend: Annotated[
        str | None, typer.Option("--backend", help="timm, open_clip, transformers or official.")
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(
            "--images",
            help="Labelled images: a folder or tar of class/file, or files listed in a classes.json.",
            show_default="imagenet_sample or tiny_imagenet100 under a data root, as $VITKD_DATA names one",
        ),
    ] = None,
    count: Annotated[int, typer.Option("--count", min=24, help="So many images at most.")] = 200,
    extensions: Annotated[
        list[Path] | None,
        typer.Option("--extension", metavar="FILE", help="A file with teachers of your own."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Check weights against the contract: keys, tokens, features, head, normalisation, heads, accuracy.

    Exit status 0 for pass and mark, 1 for refuse, 2 for weights that are not this teacher's at all. The
    verdict is stored under the weights' hash.
    """
    from vitkd_bench.diagnose import images_at_hand, preflight, read_labelled, store_verdict
    from vitkd_bench.networks import weights_sha256
    from vitkd_bench.registry import TEACHERS

    teacher = entry_of(TEACHERS, name, extensions)
    by = _backend(teacher, backend)
    path = _given(weights) if weights else _at_hand(teacher, by)
    seen = read_labelled(images, count) if images else images_at_hand(teacher, _roots(), count)
    if seen is None:
        say(
            "no labelled images at hand (--images, or imagenet_sample or tiny_imagenet100 under VITKD_DATA): "
            "normalisation and heads cannot be checked"
        )
    digest = weights_sha256(path)
    with _bar() as watch:
        found = preflight(teacher, path, seen, by, watch)
    verdict = store_verdict(found, teacher, digest, by, seen)
    _show_verdict(verdict, as_json=as_json)
    if verdict.status == "refuse":
        _refuse(teacher, verdict, path)


def _refuse(teacher: Teacher, verdict: Verdict, weights: Path) -> None:
    """End with what to do next: as an error where the file is the wrong one or damaged.

    Raises:
        BadInputError: the weights are not this teacher's at all. DamagedFileError: they cannot be read.
    """
    from vitkd_bench.diagnose import next_step
    from vitkd_bench.spec import BadInputError, DamagedFileError

    step = next_step(teacher, verdict, weights)
    if verdict.fault is None:
        say(f"refused; next: {step}")
        raise typer.Exit(1)
    error = BadInputError if verdict.fault == "other" else DamagedFileError
    raise error(f"teacher {teacher.name!r}: {weights.name} is refused: {step}")


@contextmanager
def _bar() -> Iterator[Watch]:
    """Show on a terminal which reading of the weights is tried, and for how long already."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    console = stderr()
    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    task = bar.add_task("loading", total=None)
    with bar:
        yield lambda step, done, total: bar.update(task, description=step, completed=done, total=total)


def _given(weights: Path) -> Path:
    """Take the file that was named.

    Raises:
        WorldError: it is not there; with the nearest name in its folder.
    """
    from vitkd_bench.spec import WorldError, nearest

    if weights.exists():
        return weights
    folder = weights.parent
    top = folder.resolve() == Path(folder.resolve().anchor)  # what lies there is nobody's weights
    there = [file.name for file in folder.iterdir()] if folder.is_dir() and not top else []
    missing = nearest(weights.name, there) if folder.is_dir() else f": nor is there a folder {folder}"
    raise WorldError(f"weights {weights}: no such file{missing}; --weights takes safetensors or a checkpoint")


def conform(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A Python file that registers teachers.")],
    as_json: Json = False,
) -> None:
    """Run the conformance kit on each teacher that a file registers; exit status 1 if one does not hold.

    The teachers of an installed package are those of the file that its entry point names.
    """
    from vitkd_bench.cli.conforming import registered_by, show_checks
    from vitkd_bench.diagnose import conformance
    from vitkd_bench.registry import TEACHERS

    none = "registers no teacher; TEACHERS.register(...) puts one on the shelf"
    found = {name: conformance(TEACHERS.get(name)) for name in registered_by(file, TEACHERS, none)}
    failed = show_checks("teacher", found, as_json=as_json)
    say(
        f"{len(found)} teacher(s), {failed} check(s) do not hold"
        if failed
        else f"{len(found)} teacher(s) conform"
    )
    raise typer.Exit(int(failed > 0))


def _backend(teacher: Teacher, backend: str | None) -> Backend | None:
    return None if backend is None else teacher.source(backend).backend


def _at_hand(teacher: Teacher, backend: Backend | None) -> Path:
    """Find what was fetched, or what was made here.

    Raises:
        WorldError: nothing is there; says how to get it.
    """
    from vitkd_bench.registry import fetch_command
    from vitkd_bench.spec import WorldError

    if teacher.training is not None:
        from vitkd_bench.api import plan_teacher
        from vitkd_bench.records import Preparations

        made = next(reversed(plan_teacher(teacher.name).preparations))
        if Preparations().ready(made) is not None:
            return Preparations().weights(made)
    else:
        from vitkd_bench.fetch import WeightCache

        found = WeightCache().find(teacher, backend)
        if found is not None:
            return found.path
    command = fetch_command(teacher, backend)
    raise WorldError(
        f"teacher {teacher.name!r}: no weights here: {f'{command}, or ' if command else ''}--weights FILE"
    )


def _roots() -> tuple[Path, ...]:
    from vitkd_bench.api import data_roots

    return data_roots()


def _show_verdict(verdict: Verdict, *, as_json: bool) -> None:
    if as_json:
        show_json(verdict.plain())
        return
    show_table(("check", "result", "finding"), [(c.name, c.status, c.finding) for c in verdict.checks])
    show(f"seen: {verdict.images}")
    show(f"weights sha256: {verdict.sha256}")
    show(f"verdict: {verdict.status}")
