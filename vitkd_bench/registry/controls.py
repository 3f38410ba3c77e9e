"""The shelf of controls: what takes one thing away from a method, and to which methods that applies."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from vitkd_bench.contracts import NEEDS, READINGS, CellFacts, Control, Method, unmet
from vitkd_bench.registry.shelf import KINDS, METHODS, MethodEntry, Shelf
from vitkd_bench.spec import BadInputError, Settings, nearest

AnyControl = TypeVar("AnyControl", bound=type[Control])


@dataclass(frozen=True, slots=True)
class ControlEntry:
    """A registered control: its facts and the class that does the work.

    `claim` is what a method can no longer claim if its control does as well. `acts_on` names readings of the
    teacher (`contracts.READINGS`) of which a method must use one at least, `kinds` of methods it is for; both
    empty: any method that reads a teacher. `needs` are those of a method. `version` rises when its numbers
    move.
    """

    name: str
    title: str
    claim: str
    control: type[Control]
    acts_on: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    paper: str = "our own control"
    version: int = 1

    def __post_init__(self) -> None:
        """Refuse a reading, a kind or a need that nobody knows."""
        names = {
            "reading": (self.acts_on, READINGS),
            "kind": (self.kinds, KINDS),
            "need": (self.needs, NEEDS),
        }
        for what, (given, known) in names.items():
            for name in given:
                if name not in known:
                    raise BadInputError(
                        f"control {self.name!r}: unknown {what} {name!r}{nearest(name, known)}"
                    )

    def refuses(self, config: Settings, entry: MethodEntry, method: Method, cell: CellFacts) -> str | None:
        """Say in one sentence why this is no control of a method, made for `cell`, or nothing."""
        request = type(method).teacher_run(method.config, cell)
        made = request is not None
        if not (entry.reads_teacher or made):
            return f"{self.name} changes what a teacher gives, and {entry.name} reads none"
        if made and self.control.reads(config) is not None:
            return f"{self.name} gives another teacher, and {entry.name} makes its own"
        if request and METHODS.get(request.method).kind == "store" and self._runs_the_teacher:
            return f"{self.name} runs the teacher, and {entry.name} reads outputs of it that are stored"
        if self.kinds and entry.kind not in self.kinds:
            return (
                f"{self.name} is for methods of kind {_listed(self.kinds)}, and {entry.name} is {entry.kind}"
            )
        if self.acts_on and (why := self._untouched(entry.name, method)):
            return why
        return unmet(self.name, self.needs, cell) or self.control.refuses(config, method, cell)

    @property
    def _runs_the_teacher(self) -> bool:
        """Whether it needs more of the teacher than its outputs on what the student sees."""
        return self.control.views > 1 or self.control.fit is not Control.fit

    def _untouched(self, name: str, method: Method) -> str | None:
        read = {tap.partition("/")[0] for tap in method.teacher_taps()}
        alone = type(method).reads_alone(method.config)
        if read & set(self.acts_on) and not alone:
            return None
        if read and alone:
            return f"{self.name} acts on what is read of the teacher for all, and {name} runs it itself"
        instead = f"reads {_listed(sorted(read))}" if read else "reads nothing of its teacher at a step"
        return f"{self.name} acts on the teacher's {_listed(self.acts_on)}, and {name} {instead}"


def _listed(names: tuple[str, ...] | list[str]) -> str:
    return " or ".join(names)


class ControlShelf(Shelf[ControlEntry]):
    """Controls by name."""

    def register(self, name: str, **facts: Any) -> Callable[[AnyControl], AnyControl]:
        """Put the decorated class on the shelf; `facts` are the fields of `ControlEntry`."""

        def keep(control: AnyControl) -> AnyControl:
            file = sys.modules[control.__module__].__file__ or ""
            self.add(name, ControlEntry(name=name, control=control, **facts), file)
            return control

        return keep


CONTROLS = ControlShelf("control", "vitkd_bench.controls")
