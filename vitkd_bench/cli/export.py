"""`vitkd export`: a student as plain timm loads it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vitkd_bench.cli.console import say, show, show_json

if TYPE_CHECKING:
    from vitkd_bench.records import Store
    from vitkd_bench.spec import Record, Run

RUNS = Path("runs")


def export(
    run: Annotated[
        str,
        typer.Argument(
            metavar="RUN", help="A run's id or the beginning of it, or its record: OUT/records/<run id>.json."
        ),
    ],
    to: Annotated[Path, typer.Option("--to", metavar="DIR", help="Folder to write; made if there is none.")],
    outs: Annotated[
        list[Path] | None,
        typer.Option(
            "--out",
            metavar="OUT",
            help="Output folder in which the run is looked for; may be given more than once.",
            show_default="every folder in runs/",
        ),
    ] = None,
    force: Annotated[
        bool,
        typer.Option("--force", help="Write into a folder that is not empty; its files of these names go."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Answer in JSON, for a script.")] = False,
) -> None:
    """Write a trained student so that plain timm loads it: weights, configuration, model card.

    timm.create_model("local-dir:DIR", pretrained=True) gives the same outputs, without this package.

    Its weights must have been kept: keep: student in the suite. Before DIR is touched, timm's outputs are
    compared with the student's on random pixels.

    Refused are a student that needs its teacher at test, one whose parts no timm model has together, and a
    method whose result is more than a student.
    """
    store, record = _find(run, outs)
    weights = _weights(store, record)
    _free(to, force=force)
    answer = _write(store, record, weights, to)
    if as_json:
        show_json(answer)
        return
    for file in answer["files"]:
        show(file)
    say(
        f"run {record.run_id} as timm's {answer['model_class']} ({answer['architecture']}), "
        f"outputs {answer['largest_difference']:.1g} apart at most"
    )


def _find(run: str, outs: Sequence[Path] | None) -> tuple[Store, Record]:
    """Find the output folder and the record of a run."""
    from vitkd_bench.records import Store
    from vitkd_bench.spec import BadInputError, DamagedFileError

    path = Path(run)
    if path.suffix == ".json":
        if path.parent.name != "records" or not path.is_file():
            what = "no record: one stands in OUT/records/<run id>.json" if path.is_file() else "no such file"
            raise BadInputError(f"{path}: {what}")
        store, run_id = Store(path.parent.parent, look_only=True), path.stem
    else:
        store, run_id = _look_up(run, _stores(outs))
    record = store.read(run_id)
    if record is None:
        raise DamagedFileError(store.damaged_runs[run_id])
    return store, record


def _stores(outs: Sequence[Path] | None) -> list[Store]:
    from vitkd_bench.records import Store
    from vitkd_bench.spec import BadInputError

    for out in outs or ():
        if not out.is_dir():
            raise BadInputError(f"--out {out}: no such folder")
    folders = list(outs or sorted(path.parent for path in RUNS.glob("*/records")))
    if not folders:
        raise BadInputError(f"no output folder in {RUNS}/: name the one that holds the run by --out")
    return [Store(folder, look_only=True) for folder in folders]


def _look_up(run: str, stores: Sequence[Store]) -> tuple[Store, str]:
    """Find the one run whose id begins so, and an output folder that has it, with its weights if one has."""
    from vitkd_bench.spec import BadInputError, nearest

    known = {store: _ids(store, run) for store in stores}
    every = set().union(*known.values())
    found = {run} & every or {run_id for run_id in every if run_id.startswith(run)}
    where = ", ".join(str(store.folder) for store in stores)
    if not found:
        raise BadInputError(f"run {run!r}: no record in {where}{nearest(run, every)}")
    if len(found) > 1:
        raise BadInputError(f"run {run!r}: {len(found)} runs begin so in {where}: {', '.join(sorted(found))}")
    (run_id,) = found
    holders = [store for store in stores if run_id in known[store]]
    return max(holders, key=lambda store: store.weights_path(run_id).is_file()), run_id


def _ids(store: Store, run: str) -> set[str]:
    return {path.stem for path in store.record_path(run).parent.glob("*.json")}


def _weights(store: Store, record: Record) -> Path:
    """Find the weights that a run left, and check that they are those of its record."""
    from vitkd_bench.records import Preparations
    from vitkd_bench.spec import BadInputError, DamagedFileError, file_sha256

    run_id, kept = record.run_id, store.weights_path(record.run_id)
    if record.error is not None:
        raise BadInputError(f"run {run_id} failed and has no weights: {record.error.message}")
    if record.needs_teacher_at_test:
        raise BadInputError(
            f"run {run_id} ({record.cell.method}): its student needs its teacher's attention maps at test, "
            "and no timm model takes any"
        )
    if kept.is_file():
        found = file_sha256(kept)
        if found != record.weights_sha256:
            raise DamagedFileError(f"{kept}: sha256 is {found}, the record says {record.weights_sha256}")
        return kept
    preparations = Preparations()
    made = preparations.ready(run_id)
    if made and made.weights_sha256 == record.weights_sha256:
        return preparations.weights(run_id)
    raise BadInputError(
        f"run {run_id}: its weights were not kept ({kept}); set keep: student in the suite and run it again"
    )


def _free(to: Path, *, force: bool) -> None:
    from vitkd_bench.spec import BadInputError

    if to.exists() and not to.is_dir():
        raise BadInputError(f"--to {to}: a file stands there")
    if to.is_dir() and any(to.iterdir()) and not force:
        raise BadInputError(f"--to {to}: the folder is not empty; --force writes into it all the same")


def _write(store: Store, record: Record, weights: Path, to: Path) -> dict[str, Any]:
    from vitkd_bench.networks.export import CARD, CONFIG, WEIGHTS, as_timm, load_student, write_timm
    from vitkd_bench.networks.model_card import model_card

    run = _run_of(record)
    _load_extensions(store)
    network = load_student(run, weights)
    model = as_timm(network)
    baseline = store.read(record.baseline) if record.baseline else None
    card = model_card(record, run, model, folder=to.name, baseline=baseline)
    labels = [each.name for each in run.dataset.classes]
    apart = write_timm(network, model, to, labels=labels, card=card)
    return {
        "run_id": record.run_id,
        "folder": str(to),
        "files": [str(to / name) for name in (WEIGHTS, CONFIG, CARD)],
        "model_class": model.form.of.name,
        "architecture": model.form.architecture,
        "model_args": model.form.model_args,
        "largest_difference": apart,
        "notes": list(model.notes),
    }


def _run_of(record: Record) -> Run:
    from vitkd_bench.spec import Run

    declared = {name: record.config.get(name) for name in Run.model_fields}
    return Run.parse(declared, f"record {record.run_id}: config")


def _load_extensions(store: Store) -> None:
    """Run the extensions of the suite that are still there: the card names licences that stand in them."""
    from vitkd_bench.registry import load_extension

    if store.plan_path.is_file():
        for name in store.read_plan().extensions:
            if Path(name).is_file():
                load_extension(Path(name))
