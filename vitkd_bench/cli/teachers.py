"""`vitkd teachers`: which there are, what is claimed of each, and making those that are made here."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vitkd_bench.cli.console import percent, say, show, show_facts, show_json, show_table

if TYPE_CHECKING:
    from vitkd_bench.spec import Plan, Record, Teacher

app = typer.Typer(help="Pretrained networks that students learn from.", no_args_is_help=True)
Json = Annotated[bool, typer.Option("--json", help="Answer in JSON, for a script.")]
Name = Annotated[str, typer.Argument(help="family/size, e.g. micro/dino or deit/ti.")]


@app.command("list")
def list_(as_json: Json = False) -> None:
    """List all teachers."""
    from vitkd_bench.registry import TEACHERS

    if as_json:
        show_json([_summary(teacher) for teacher in TEACHERS])
        return
    columns = ("name", "family", "group", "published", "objective", "native components")
    show_table(
        columns,
        [(t.name, t.family, t.group, t.outcome, t.objective, t.native_components) for t in TEACHERS],
    )


@app.command()
def show_(name: Name, as_json: Json = False) -> None:
    """Show a teacher's contract; of one made here, also how good it is beside its untrained twin."""
    from vitkd_bench.registry import TEACHERS

    teacher = TEACHERS.get(name)
    record = _made(teacher)
    if as_json:
        show_json(
            {
                **teacher.plain(),
                "native_components": teacher.native_components,
                "made": record and record.plain(),
            }
        )
        return
    show_facts(_facts(teacher, TEACHERS.origin(name)))
    if teacher.training is None:
        show("weights: from outside; name the file in a suite with weights: FILE")
    elif record is None:
        show(f"not made yet: vitkd teachers fetch {name}")
    else:
        show_facts(_quality(record))


@app.command()
def fetch(
    names: Annotated[
        list[str], typer.Argument(metavar="NAME...", help="Teachers, or globs such as 'micro/*'.")
    ],
    jobs: Annotated[int | None, typer.Option("--jobs", "-j", min=1, help="Worker processes.")] = None,
    as_json: Json = False,
) -> None:
    """Make the teachers that are made here, and what they need, into the cache."""
    from vitkd_bench.cli.progress import ProgressBar
    from vitkd_bench.launch import LaunchOptions, launch
    from vitkd_bench.records import Preparations, Store, cache_folder

    planned = _joined(_matching(names))
    preparations = Preparations()
    options = LaunchOptions(jobs=jobs)
    with ProgressBar() as bar:
        outcome = launch(planned, Store(cache_folder() / "made" / planned.suite), preparations, options, bar)
    files = {
        name: str(preparations.weights(id_))
        for id_, name in planned.prepares.items()
        if preparations.ready(id_)
    }
    if as_json:
        show_json({"made": files, "failures": outcome.failures, "interrupted": outcome.interrupted})
    else:
        for name, file in files.items():
            show(f"{name}: {file}")
    for damage in outcome.damage:
        say(f"damaged: {damage}")
    for id_, reason in outcome.failures.items():
        say(f"failed: {planned.prepares[id_]}: {reason}")
    raise typer.Exit(outcome.exit_code)


app.command("show")(show_)


def _matching(patterns: list[str]) -> list[str]:
    """Find the teachers that are meant; a glob means those that are made here."""
    from vitkd_bench.registry import TEACHERS
    from vitkd_bench.spec import BadInputError, nearest

    found: list[str] = []
    for pattern in patterns:
        if not set(pattern) & set("*?["):
            found.append(TEACHERS.get(pattern).name)
            continue
        matching = [t.name for t in TEACHERS if t.training and fnmatchcase(t.name, pattern)]
        if not matching:
            raise BadInputError(
                f"{pattern!r} matches no teacher that is made here{nearest(pattern, TEACHERS.names())}"
            )
        found += matching
    return list(dict.fromkeys(found))


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


def _summary(teacher: Teacher) -> dict[str, Any]:
    kept = ("name", "title", "family", "group", "outcome", "objective", "paper", "licence")
    return {**{key: teacher.plain()[key] for key in kept}, "native_components": teacher.native_components}


def _facts(teacher: Teacher, origin: str) -> list[tuple[str, object]]:
    architecture, components = teacher.architecture, teacher.architecture.components
    size = architecture.size
    return [
        ("name", teacher.name),
        ("title", teacher.title),
        ("family", teacher.family),
        ("group", teacher.group),
        ("published outcome", teacher.outcome),
        ("objective", teacher.objective),
        ("paper", teacher.paper),
        ("licence", teacher.licence),
        ("size", f"width {size.width}, depth {size.depth}, heads {size.heads}, MLP ratio {size.mlp_ratio:g}"),
        (
            "image",
            f"{architecture.image_size} px, {architecture.channels} channel(s), patch {architecture.patch}",
        ),
        ("tokens", f"{architecture.tokens}, of which {architecture.prefix} before the patches"),
        ("native components", [f"{n}={getattr(components, n)}" for n in teacher.native_components] or "none"),
        (
            "head",
            teacher.head and f"{teacher.head.kind}, {teacher.head.num_classes} of {teacher.head.label_space}",
        ),
        ("has seen", teacher.seen),
        ("weights", [f"{s.backend}: {s.model}" for s in teacher.sources] or "made here"),
        ("made by", teacher.training and f"{teacher.training.method} with {teacher.training.recipe}"),
        ("defined in", origin),
        ("notes", teacher.notes),
    ]


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
