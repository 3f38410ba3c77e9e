"""The methods of a suite with their settings checked and their sweeps spread out."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from vitkd_bench.plan.controls import Chosen, check_teacher
from vitkd_bench.plan.reach import check_reach
from vitkd_bench.plan.suite_file import SuiteFile
from vitkd_bench.registry import CONTROLS, METHODS, MethodEntry
from vitkd_bench.spec import BadInputError, MethodFacts, MethodUse, Settings
from vitkd_bench.spec.suite import MethodEntry as AskedMethod

MAKERS = {
    "pretraining": "makes teachers; it is run for a teacher that names it",
    "probe": "makes the head of a teacher; say head: probe at the teacher",
    "store": "keeps the outputs of a teacher; it is run for a method that reads them, such as sparse_kd",
}
"""Kinds of methods that no suite names: what they are run for instead."""


@dataclass(frozen=True, slots=True)
class Variant:
    """One method with one set of settings, or a control of it, under the name that tables use.

    `search` holds the values of those settings that each cell chooses on val; in `config` they are at their
    default until they are chosen.
    """

    label: str
    entry: MethodEntry
    config: Settings
    control: Chosen | None = None
    search: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)

    def use(self) -> MethodUse:
        """Give what of the method stands in a run."""
        return MethodUse(
            name=self.entry.name,
            version=self.entry.version,
            settings=self.config.declared(),
            control=self.control.use() if self.control else None,
        )

    def facts(self) -> MethodFacts:
        """Give what a report says of the method."""
        control = self.control
        return MethodFacts(
            control_of=self.entry.name if control else None,
            control=control.entry.name if control else None,
            control_settings=control.config.declared() if control else {},
            claim=control.entry.claim if control else None,
            name=self.entry.name,
            title=f"{self.entry.title}, control: {control.entry.title}" if control else self.entry.title,
            kind=self.entry.kind,
            settings=self.config.declared(),
            needs_teacher_at_test=self.entry.teacher_at_test(self.config),
        )


def variants(suite_file: SuiteFile) -> list[Variant]:
    """Read all methods of a suite.

    Raises:
        BadInputError: an unknown method, control or setting, a bad value, a block that no network of the
            suite has, a method that makes teachers.
    """
    found: list[Variant] = []
    for i, asked in enumerate(suite_file.suite.methods):
        where = suite_file.place("methods", i)
        entry = METHODS.get(asked.name, where)
        if entry.kind in MAKERS:
            raise BadInputError(f"{where}: {entry.name!r} {MAKERS[entry.kind]}")
        settings, search = _searched(asked, where, suite_file.suite.search.budget)
        plain = asked.model_copy(update={"settings": settings})
        for variant in _with_search(_variants_of(plain, entry, where), search, where):
            check_teacher(variant.control, [t.label for t in suite_file.suite.teachers], where)
            check_reach(variant.config, suite_file.suite, f"{where} ({entry.name})")
            found.append(variant)
    labels = [variant.label for variant in found]
    if len(set(labels)) != len(labels):
        twice = next(label for label in labels if labels.count(label) > 1)
        raise BadInputError(f"{suite_file.path}: methods: two variants have one name, {twice!r}")
    return found


def _variants_of(asked: AskedMethod, entry: MethodEntry, where: str) -> Iterator[Variant]:
    """Check one entry of a suite; sweeps of a control's settings are spread inside those of the method's."""
    for label, settings in _spread(asked.label, asked.settings, where):
        _refuse_misplaced(asked, entry, where)
        config = entry.method.Config.parse(settings, f"{where} ({asked.name})")
        if asked.control is None:
            yield Variant(label, entry, config)
            continue
        control = CONTROLS.get(asked.control.name, f"{where}.control")
        for full, own in _spread(label, asked.control.settings, f"{where}.control"):
            chosen = Chosen(control, control.control.Config.parse(own, f"{where}.control ({control.name})"))
            yield Variant(full, entry, config, chosen)


def _refuse_misplaced(asked: AskedMethod, entry: MethodEntry, where: str) -> None:
    """Tell where a control's setting belongs that stands among those of the method."""
    if asked.control is None:
        return
    known = CONTROLS.get(asked.control.name, f"{where}.control").control.Config.model_fields
    for name in asked.settings:
        if name in known and name not in entry.method.Config.model_fields:
            raise BadInputError(
                f"{where} ({asked.name}): {name}: a setting of the control; write it as "
                f"control: {{name: {asked.control.name}, {name}: ...}}"
            )


def _spread(label: str, settings: dict[str, Any], where: str) -> Iterator[tuple[str, dict[str, Any]]]:
    sweeps = {k: v["sweep"] for k, v in settings.items() if isinstance(v, dict) and set(v) == {"sweep"}}
    for name, values in sweeps.items():
        if not isinstance(values, list) or not values:
            raise BadInputError(f"{where}.{name}: sweep: give a list of values, got {values!r}")
    for combination in itertools.product(*sweeps.values()):
        chosen = dict(zip(sweeps, combination, strict=True))
        suffix = ",".join(f"{name}={value}" for name, value in chosen.items())
        yield (f"{label}[{suffix}]" if suffix else label), {**settings, **chosen}


def _searched(
    asked: AskedMethod, where: str, budget: int
) -> tuple[dict[str, Any], dict[str, tuple[Any, ...]]]:
    """Part the settings that are given from those that are searched for, and hold these to the budget."""
    search = asked.searched
    for name, values in search.items():
        if not isinstance(values, list) or len(values) < 2:
            raise BadInputError(f"{where}.{name}: search: give a list of two values or more, got {values!r}")
        if len({json.dumps(value, sort_keys=True) for value in values}) < len(values):
            raise BadInputError(f"{where}.{name}: search: each value once, got {values!r}")
    trials = sum(map(len, search.values()))
    if trials > budget:
        raise BadInputError(
            f"{where}: {asked.label} would take {trials} trials; search.budget gives every method {budget}"
        )
    given = {k: v for k, v in asked.settings.items() if k not in search}
    return given, {name: tuple(values) for name, values in search.items()}


def _with_search(
    found: Iterator[Variant], search: Mapping[str, tuple[Any, ...]], where: str
) -> Iterator[Variant]:
    """Give variants their search, every value of it checked now."""
    for variant in found:
        for name, values in search.items():
            for value in values:
                settings = {**variant.config.declared(), name: value}
                type(variant.config).parse(settings, f"{where} ({variant.entry.name}), search")
        yield replace(variant, search=search)
