"""The card of an exported student: what it is, how good, from what, under which licences, how to load it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import timm

from vitkd_bench.networks.export import TimmModel
from vitkd_bench.registry import DATASETS, TEACHERS
from vitkd_bench.spec import SELF, Record, Run

NOT_KNOWN = "not known here: {name} is registered by an extension that is not loaded"
MEASURES: Mapping[str, tuple[str, str]] = {
    "n": ("images", ".0f"),
    "top1": ("top-1", ".1%"),
    "top5": ("top-5", ".1%"),
    "mean_per_class": ("mean per class", ".1%"),
    "nll": ("NLL (nats)", ".3f"),
    "ece": ("ECE", ".1%"),
    "brier": ("Brier score", ".3f"),
    "head_top1": ("head classes", ".1%"),
    "medium_top1": ("medium classes", ".1%"),
    "tail_top1": ("tail classes", ".1%"),
    "top1_over_all": ("top-1 over all classes", ".1%"),
    "clean_top1": ("top-1 of the same classes without shift", ".1%"),
    "agreement": ("agreement with the teacher", ".1%"),
    "kl": ("KL to the teacher (nats)", ".3f"),
}
"""Titles of the metrics of a record that a card tells, and how their numbers are written."""

TEMPLATE = """\
---
library_name: timm
pipeline_tag: image-classification
tags:
- image-classification
- knowledge-distillation
- timm
---

# Student of {teacher} on {dataset}, by {method}

A Vision Transformer trained by vitkd_bench: run `{run_id}`, {state}. It needs no teacher at test.

{facts}

## Results

{results}

{delta}

## How to load it

```python
import timm

model = timm.create_model("local-dir:{folder}", pretrained=True).eval()
```

{loading}

## Licences

{licences}
"""


def model_card(
    record: Record, run: Run, model: TimmModel, *, folder: str, baseline: Record | None = None
) -> str:
    """Write the card of a student, Markdown with the header that model hubs read.

    Args:
        record: of the run.
        run: as the record's `config` declares it.
        model: the student in timm's form.
        folder: the name of the folder that it lies in.
        baseline: the record of the run `record.baseline`, where it is at hand.
    """
    epochs = f"{run.recipe.epochs} epochs of the recipe `{run.recipe.name}`"
    return TEMPLATE.format(
        teacher=_teacher_name(run),
        dataset=run.dataset.name,
        method=record.cell.method,
        run_id=record.run_id,
        state=f"seed {record.seed}, the weights after {epochs}",
        facts=_rows(("", ""), _facts(record, run)),
        results=_results(record),
        delta=_delta(record, baseline),
        folder=folder,
        loading=_loading(run, model),
        licences="\n".join(f"- {line}" for line in _licences(run)),
    )


def _facts(record: Record, run: Run) -> Iterable[tuple[str, str]]:
    method, settings = record.facts.get("method", {}), record.config.get("method_settings", {})
    told = ", ".join(f"{name} {value}" for name, value in settings.items())
    student, size = run.student, run.student.size
    yield (
        "method",
        f"{method.get('title', record.cell.method)} (`{record.cell.method}`){': ' * bool(told)}{told}",
    )
    yield "teacher", _teacher(run)
    yield "student", f"{record.cell.student}: {size.depth} blocks, {size.width} channels, {size.heads} heads"
    yield "tokens", f"{student.tokens}: {student.prefix} before {student.grid} x {student.grid} patches"
    yield "parameters", f"{record.config.get('student_parameters', 0):,}"
    yield "data set", _dataset(run)
    yield "cell key, protocol", f"`{record.cell_key}`, `{record.protocol}`"
    yield "weights", f"sha256 `{record.weights_sha256}`, as they were trained"
    yield "made", f"{record.created}, code {_code(record.provenance)}"


def _code(provenance: Mapping[str, Any]) -> str:
    code, versions = provenance.get("code", {}), provenance.get("versions", {})
    commit = f", commit {code['commit']}" if code.get("commit") else ""
    return f"vitkd_bench {versions.get('vitkd_bench', 'of an unknown version')}{commit}"


def _teacher_name(run: Run) -> str:
    if run.teacher is None:
        return "no teacher"
    return "itself" if run.teacher.name == SELF else run.teacher.name


def _teacher(run: Run) -> str:
    if run.teacher is None:
        return "none is read"
    pin = f"`{run.teacher.pin}`"
    if run.teacher.name == SELF:
        return f"a network like the student, trained before: {pin}"
    if run.teacher.name not in TEACHERS.names():
        return f"{run.teacher.name}, {pin}"
    facts = TEACHERS.get(run.teacher.name)
    return f"{facts.title} (`{facts.name}`, {facts.paper}), {pin}"


def _dataset(run: Run) -> str:
    name, classes = run.dataset.name, f"{len(run.dataset.classes)} classes"
    if name not in DATASETS.names():
        return f"{name}, {classes}"
    return f"{DATASETS.get(name).facts.title} (`{name}`), {classes}"


def _results(record: Record) -> str:
    there = {name for split in record.metrics.values() for name in split}
    names = [name for name in MEASURES if name in there]
    titles = [MEASURES[name][0] for name in names]
    rows = [
        (split, *(_measure(name, measured.get(name)) for name in names))
        for split, measured in record.metrics.items()
    ]
    return _rows(("split", *titles), rows)


def _measure(name: str, value: float | None) -> str:
    if value is None:
        return ""
    return format(value, MEASURES[name][1]).replace("%", " %")


def _delta(record: Record, baseline: Record | None) -> str:
    if record.baseline == record.run_id:
        return "This run is the baseline `none` itself."
    if baseline is None:
        return (
            f"The record of the baseline `none`, run `{record.baseline}`, is not at hand: no delta is given."
        )
    pairs = {
        split: 100 * (measured["top1"] - baseline.metrics[split]["top1"])
        for split, measured in record.metrics.items()
        if "top1" in measured and "top1" in baseline.metrics.get(split, {})
    }
    told = ", ".join(f"{split} {points:+.1f}" for split, points in pairs.items()) or "no common split"
    return (
        "Difference in top-1, in percentage points, to the baseline `none` of the same student, data, recipe "
        f"and seed (run `{baseline.run_id}`): {told}. One seed: no interval."
    )


def _loading(run: Run, model: TimmModel) -> str:
    student, pixels, form = run.student, run.dataset.pixels, model.form
    shape = f"(B, {student.channels}, {student.image_size}, {student.image_size})"
    built = (
        f"It is timm's `{form.of.name}`, built by `{form.architecture}` with the arguments in `config.json`"
    )
    mean, std = list(pixels.mean), list(pixels.std)
    size = (
        "An image of another size was cut to its largest centred square and resized, bicubic and antialiased."
    )
    sentences = (
        f"{built} (written with timm {timm.__version__}).",
        f"It takes pixels {shape} in [0, 1], minus mean {mean}, over standard deviation {std}.",
        size,
        *model.notes,
    )
    return " ".join(sentences)


def _licences(run: Run) -> Iterable[str]:
    if run.teacher is not None and run.teacher.name != SELF:
        name = run.teacher.name
        known = name in TEACHERS.names()
        yield f"teacher: {TEACHERS.get(name).licence if known else NOT_KNOWN.format(name=name)}"
    name = run.dataset.name
    known = name in DATASETS.names()
    yield f"data: {DATASETS.get(name).facts.licence if known else NOT_KNOWN.format(name=name)}"
    yield "these weights: this export gives none; those above decide what they may be used for"


def _rows(titles: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    table = [titles, tuple("---" for _ in titles), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in table)
