"""A suite file that puts a diagnosis to the test, ready for `vitkd plan`."""

from __future__ import annotations

import json
import re
from pathlib import Path

from vitkd_bench.diagnose.model import ModelFacts
from vitkd_bench.diagnose.recommendation import Advice
from vitkd_bench.records import write_atomically
from vitkd_bench.spec import BadInputError

SIDE = 112  # pixels, about; the recipe's own, brought to a multiple of the patch

_SUITE = """\
# vitkd plan {file}
#
# Written by vitkd diagnose {model}
# Advice: {student} student, {method}: {reason}.
suite: {name}
version: 1
{extensions}datasets:
{dataset}recipe: {recipe}
teachers:
{teacher}students: [{students}]
methods: [{methods}]
seeds: [0, 1, 2]
"""
_DIGITS = "  - digits\n"
_IMAGES = """\
  - name: folder # data of your own: class/file, as a folder or a tar
    as: tiny_imagenet10
    train: tiny_imagenet100/train.tar.xz
    test: tiny_imagenet100/val.tar.xz
    classes: tiny_imagenet100/classes.json
    subset: {classes: 10}
    val: {per_class: 20}
"""
_EXTENSION = '''\
"""{title}: a teacher's contract, written by vitkd diagnose from what was built."""

from vitkd_bench.registry import TEACHERS
from vitkd_bench.spec import Architecture, PixelStats, Teacher, WeightSource

TEACHERS.register(
    Teacher(
        name={name!r},
        title={title!r},
        family={family!r},
        group="reserve",
        paper="unknown",  # to be filled in
        licence="unknown",  # to be filled in
        objective="unknown",  # to be filled in
        architecture=Architecture.parse({architecture}),
        pixels=PixelStats(mean={mean!r}, std={std!r}),  # check: `vitkd teachers check` tells a wrong one
        sources=(WeightSource(backend={backend!r}, model={model!r}),),
    )
)
'''


def write_suite(facts: ModelFacts, advice: Advice, path: Path) -> tuple[Path, ...]:
    """Write a suite, and beside it the contract of a model that is not in the registry.

    Returns:
        What was written: the suite, and `<stem>_teacher.py` where the model needs one.

    Raises:
        BadInputError: a file is there already, or the model has a part that no contract can claim.
        WorldError: the disk refuses.
    """
    written = [path]
    contract = path.with_name(f"{path.stem}_teacher.py")
    if facts.teacher is None:
        written.append(contract)
    there = [str(file) for file in written if file.exists()]
    if there:
        raise BadInputError(f"{there[0]}: is there already; name another file with --suite-out")
    name = facts.teacher.name if facts.teacher else registered_name(facts)
    if facts.teacher is None:
        write_atomically(contract, _contract(facts, name).encode())
    extension = None if facts.teacher else contract.name
    write_atomically(path, _suite(facts, advice, path, name, extension).encode())
    return tuple(written)


def registered_name(facts: ModelFacts) -> str:
    """Make `family/<name>` of a model's name, `own/<name>` where its family is not known."""
    slug = re.sub(r"[^a-z0-9]+", "_", facts.name.rpartition("/")[2].lower()).strip("_")
    return f"{facts.family or 'own'}/{slug}"


def _suite(facts: ModelFacts, advice: Advice, path: Path, name: str, extension: str | None) -> str:
    micro = facts.teacher is not None and facts.teacher.training is not None
    slug = re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_")
    patch = facts.architecture.patch if facts.architecture else 16
    side = patch * max(1, round(SIDE / patch))
    return _SUITE.format(
        file=path.name,
        model=facts.name,
        student=advice.student,
        method=advice.method,
        reason=advice.reason,
        name=f"diagnose_{slug}",
        extensions=f"extensions: [{extension}]\n" if extension else "",
        dataset=_DIGITS if micro else _IMAGES,
        recipe="micro_short" if micro else f"{{base: small_image, image_size: {side}}}",
        teacher=f"  - {name}\n" if micro or extension is None else f"  - {{name: {name}}} # weights: FILE\n",
        students=", ".join(advice.students),
        methods=", ".join(advice.methods),
    )


def _contract(facts: ModelFacts, name: str) -> str:
    if facts.architecture is None:
        raise BadInputError(f"model {facts.name!r}: no contract can be written: {facts.unnamed}")
    return _EXTENSION.format(
        title=facts.name,
        name=name,
        family=facts.family or "own",
        architecture=json.dumps(facts.architecture.declared())
        .replace("true", "True")
        .replace("false", "False"),
        mean=facts.pixels.mean,
        std=facts.pixels.std,
        backend=facts.backend,
        model=facts.built,
    )
