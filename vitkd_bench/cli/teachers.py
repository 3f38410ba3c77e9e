"""`vitkd teachers`: which there are, what is claimed of each, and fetching or making their weights."""

from __future__ import annotations

from dataclasses import asdict
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Annotated

import typer

from vitkd_bench.cli.arguments import Extensions, Json
from vitkd_bench.cli.console import percent, say, show, show_facts, show_json
from vitkd_bench.cli.shelves import entry_of, load_all

if TYPE_CHECKING:
    from vitkd_bench.launch import Outcome
    from vitkd_bench.spec import Accuracy, Plan, Record, Teacher, WeightSource

app = typer.Typer(help="Pretrained networks that students learn from.", no_args_is_help=True)
Name = Annotated[str, typer.Argument(help="family/size, e.g. micro/dino or deit/ti.")]


@app.command("list")
def list_(extensions: Extensions = None, as_json: Json = False) -> None:
    """List all teachers."""
    from vitkd_bench.cli.listing import list_teachers

    load_all(extensions)
    list_teachers(as_json=as_json)


@app.command("show")
def show_(name: Name, extensions: Extensions = None, as_json: Json = False) -> None:
    """Show a teacher's contract, and where its weights are; of one made here, also how good it is."""
    from vitkd_bench.cli.listing import with_states
    from vitkd_bench.cli.teacher_index import teacher_row
    from vitkd_bench.registry import TEACHERS, fetch_command

    teacher = entry_of(TEACHERS, name, extensions)
    record = _made(teacher)
    if as_json:
        show_json(
            {
                **teacher.plain(),
                **with_states([teacher_row(teacher)])[0],
                "made": record and record.plain(),
            }
        )
        return
    show_facts(_facts(teacher, TEACHERS.origin(name)))
    if teacher.training is None:
        for source in teacher.sources:
            show_facts(_source(teacher, source))
    elif record is None:
        show(f"not made yet: {fetch_command(teacher)}")
    else:
        show_facts(_quality(record))


@app.command()
def fetch(
    names: Annotated[
        list[str], typer.Argument(metavar="NAME...", help="Teachers, or globs such as 'deit/*'.")
    ],
    backend: Annotated[
        str | None, typer.Option("--backend", help="timm, open_clip, transformers or official.")
    ] = None,
    accept_new_hash: Annotated[
        bool, typer.Option(help="Ask the source again, and take what it gives now for the right file.")
    ] = False,
    jobs: Annotated[
        int | None, typer.Option("--jobs", "-j", min=1, help="Worker processes, where teachers are made.")
    ] = None,
    extensions: Extensions = None,
    as_json: Json = False,
) -> None:
    """Fetch weights of teachers into the cache, and make those teachers that are made here."""
    from vitkd_bench.cli.fetching import exit_code, fetch_weights

    load_all(extensions)
    teachers = _matching(names)
    outside = [teacher for teacher in teachers if teacher.training is None]
    for teacher in teachers if backend else outside:
        teacher.source(backend)
    found, failed = fetch_weights(outside, backend, accept_new_hash=accept_new_hash)
    outcome, files = _make([teacher.name for teacher in teachers if teacher.training], jobs)
    if as_json:
        failures = {name: str(error) for name, error in failed.items()}
        show_json(
            {
                "made": files,
                "fetched": {name: {**asdict(one), "path": str(one.path)} for name, one in found.items()},
                "failures": {**failures, **(outcome.failures if outcome else {})},
                "interrupted": bool(outcome and outcome.interrupted),
            }
        )
    else:
        for name, file in {**{name: str(one.path) for name, one in found.items()}, **files}.items():
            show(f"{name}: {file}")
    code = exit_code(failed, some_came=bool(found or files))
    raise typer.Exit((outcome.exit_code if outcome else 0) or code)


def _make(names: list[str], jobs: int | None) -> tuple[Outcome | None, dict[str, str]]:
    """Make micro teachers and what they need; give what came of it, and their files by name."""
    if not names:
        return None, {}
    from vitkd_bench.cli.progress import ProgressBar
    from vitkd_bench.launch import LaunchOptions, launch
    from vitkd_bench.records import Preparations, Store
    from vitkd_bench.spec import cache_folder

    planned = _joined(names)
    preparations = Preparations()
    with ProgressBar() as bar:
        store = Store(cache_folder() / "made" / planned.suite)
        outcome = launch(planned, store, preparations, LaunchOptions(jobs=jobs), bar)
    for damage in outcome.damage:
        say(f"damaged: {damage}")
    for id_, reason in outcome.failures.items():
        say(f"failed: {planned.prepares[id_]}: {reason}")
    made = {name: id_ for id_, name in planned.prepares.items() if preparations.ready(id_)}
    return outcome, {name: str(preparations.weights(id_)) for name, id_ in made.items()}


def _matching(patterns: list[str]) -> list[Teacher]:
    """Find the teachers that are meant."""
    from vitkd_bench.registry import TEACHERS
    from vitkd_bench.spec import BadInputError, nearest

    found: dict[str, Teacher] = {}
    for pattern in patterns:
        if not set(pattern) & set("*?["):
            found[pattern] = TEACHERS.get(pattern)
            continue
        matching = {t.name: t for t in TEACHERS if fnmatchcase(t.name, pattern)}
        if not matching:
            raise BadInputError(f"{pattern!r} matches no teacher{nearest(pattern, TEACHERS.names())}")
        found |= matching
    return list(found.values())


def _joined(names: list[str]) -> Plan:
    from vitkd_bench.api import plan_teacher
    from vitkd_bench.spec import Plan

    plans = [plan_teacher(name) for name in names]
    runs = {id_: run for plan in plans for id_, run in plan.preparations.items()}
    prepares = {id_: name for plan in plans for id_, name in plan.prepares.items()}
    return Plan.of_preparations("teachers" if len(names) > 1 else names[0], runs, prepares)


def _made(teacher: Teacher) -> Record | None:
    """Find the record of the run that made a teacher, if it is in the cache and sound."""
    if teacher.training is None:
        return None
    from vitkd_bench.api import plan_teacher
    from vitkd_bench.records import Preparations

    prepares = plan_teacher(teacher.name).prepares
    return Preparations().ready(next(id_ for id_, name in prepares.items() if name == teacher.name))


def _source(teacher: Teacher, source: WeightSource) -> list[tuple[str, object]]:
    """Say of one way to a teacher's weights what it is, and what of it is here."""
    from vitkd_bench.fetch import WeightCache
    from vitkd_bench.spec import DamagedFileError, WrongHashError

    try:
        found = WeightCache().find(teacher, source.backend)
        here = str(found.path) if found else f"not fetched: {_command(teacher, source)}"
    except (DamagedFileError, WrongHashError) as error:
        found, here = None, str(error)
    return [
        ("backend", f"{source.backend}, model {source.model}"),
        ("  from", source.location or "no known location: name a file in a suite by weights: FILE"),
        ("  here", here if source.location else None),
        ("  sha256", found.sha256 if found else source.sha256),
        ("  revision", found and found.revision),
        ("  fetched on", found and found.date),
        ("  differs", source.differs),
    ]


def _command(teacher: Teacher, source: WeightSource) -> str | None:
    from vitkd_bench.registry import fetch_command

    return fetch_command(teacher, None if source.backend == teacher.source().backend else source.backend)


def _facts(teacher: Teacher, origin: str) -> list[tuple[str, object]]:
    head = teacher.head and f"{teacher.head.kind}, {teacher.head.num_classes} of {teacher.head.label_space}"
    return [
        ("name", teacher.name),
        ("title", teacher.title),
        ("family", teacher.family),
        ("group", teacher.group),
        ("published outcome", teacher.outcome),
        ("certainty", teacher.certainty and f"{teacher.certainty}: {_CERTAINTY[teacher.certainty]}"),
        ("objective", teacher.objective),
        ("trained on", teacher.data),
        ("has seen", teacher.seen),
        ("paper", teacher.paper),
        ("licence", teacher.licence),
        *_built(teacher),
        ("head", head or (teacher.text_encoder and _texts(teacher.text_encoder))),
        ("published accuracy", "; ".join(_figure(one) for one in teacher.accuracy)),
        ("made by", teacher.training and f"{teacher.training.method} with {teacher.training.recipe}"),
        ("defined in", origin),
        ("notes", teacher.notes),
    ]


def _texts(encoder: str) -> str:
    return f"none, but texts through {encoder}: head: text in a suite, with a file of the whole model"


_CERTAINTY = {
    "A": "named in the paper's texts",
    "B": "near-certain that it is one of the published twenty",
    "C": "likely one of the published twenty",
    "D": "a guess at one of the published twenty",
}


def _built(teacher: Teacher) -> list[tuple[str, object]]:
    architecture, components = teacher.architecture, teacher.architecture.components
    size, native = architecture.size, teacher.native_size
    trained = f", trained at {native} px" if native and native != architecture.image_size else ""
    pixels = f"{architecture.image_size} px{trained}, {architecture.channels} channel(s)"
    return [
        ("size", f"width {size.width}, depth {size.depth}, heads {size.heads}, MLP ratio {size.mlp_ratio:g}"),
        ("parameters", teacher.parameters and f"{teacher.parameters:,}"),
        ("image", f"{pixels}, patch {architecture.patch}"),
        ("evaluated on", f"a middle crop of {100 * teacher.crop:g} %, resized {teacher.interpolation}"),
        ("tokens", f"{architecture.tokens}, of which {architecture.prefix} before the patches"),
        ("position", f"interpolated as {teacher.position_interpolation} does"),
        ("native components", [f"{n}={getattr(components, n)}" for n in teacher.native_components] or "none"),
    ]


def _figure(accuracy: Accuracy) -> str:
    return (
        f"{accuracy.kind} {percent(accuracy.value)} on {accuracy.dataset} at {accuracy.image_size} px "
        f"({accuracy.source})"
    )


def _quality(record: Record) -> list[tuple[str, object]]:
    val = record.metrics["val"]
    trained, untrained = val.get("knn_top1"), val.get("untrained_knn_top1")
    better = (
        f"+{100 * (trained - untrained):.1f} points"
        if trained is not None and untrained is not None
        else None
    )
    return [
        ("k-NN on val", percent(trained)),
        ("its untrained twin", percent(untrained)),
        ("better by", better),
        ("made in", f"{record.cost['wall_s']:.0f} s" if "wall_s" in record.cost else None),
        ("weights sha256", record.weights_sha256),
    ]
