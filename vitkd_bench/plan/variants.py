"""The methods of a suite with their settings checked and their sweeps spread out."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from vitkd_bench.plan.suite_file import SuiteFile
from vitkd_bench.registry import METHODS, MethodEntry
from vitkd_bench.spec import BadInputError, MethodFacts, MethodUse, Settings

MAKERS = {
    "pretraining": "makes teachers; it is run for a teacher that names it",
    "probe": "makes the head of a teacher; say head: probe at the teacher",
}
"""Kinds of methods that no suite names: what they are run for instead."""


@dataclass(frozen=True, slots=True)
class Variant:
    """One method with one set of settings, under the name that tables use."""

    label: str
    entry: MethodEntry
    config: Settings

    def use(self) -> MethodUse:
        """Give what of the method stands in a run."""
        return MethodUse(name=self.entry.name, version=self.entry.version, settings=self.config.declared())

    def facts(self) -> MethodFacts:
        """Give what a report says of the method."""
        return MethodFacts(
            name=self.entry.name,
            title=self.entry.title,
            kind=self.entry.kind,
            settings=self.config.declared(),
            needs_teacher_at_test=self.entry.needs_teacher_at_test,
        )


def variants(suite_file: SuiteFile) -> list[Variant]:
    """Read all methods of a suite.

    Raises:
        BadInputError: an unknown method or setting, a bad value, a method that makes teachers.
    """
    found = []
    for i, asked in enumerate(suite_file.suite.methods):
        where = f"{suite_file.path}: methods.{i}"
        entry = METHODS.get(asked.name, where)
        if entry.kind in MAKERS:
            raise BadInputError(f"{where}: {entry.name!r} {MAKERS[entry.kind]}")
        found += [
            Variant(label, entry, entry.method.Config.parse(settings, f"{where} ({asked.name})"))
            for label, settings in _spread(asked.label, asked.settings, where)
        ]
    labels = [variant.label for variant in found]
    if len(set(labels)) != len(labels):
        raise BadInputError(f"{suite_file.path}: methods: two variants have one name: {sorted(labels)}")
    return found


def _spread(label: str, settings: dict[str, Any], where: str) -> Iterator[tuple[str, dict[str, Any]]]:
    sweeps = {k: v["sweep"] for k, v in settings.items() if isinstance(v, dict) and set(v) == {"sweep"}}
    for name, values in sweeps.items():
        if not isinstance(values, list) or not values:
            raise BadInputError(f"{where}.{name}: sweep: give a list of values, got {values!r}")
    for combination in itertools.product(*sweeps.values()):
        chosen = dict(zip(sweeps, combination, strict=True))
        suffix = ",".join(f"{name}={value}" for name, value in chosen.items())
        yield (f"{label}[{suffix}]" if suffix else label), {**settings, **chosen}
