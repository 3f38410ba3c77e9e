"""What the checks of a teacher found, and what follows from them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from vitkd_bench.spec import Frozen

Status = Literal["pass", "note", "mark", "refuse"]
TO_BE_FILLED_IN = "to be filled in"
"""Stands in a contract that a machine wrote where it knows nothing; the conformance kit names such fields."""

_RANK: dict[Status, int] = {"pass": 0, "note": 0, "mark": 1, "refuse": 2}


class Check(Frozen):
    """One check: its name, what it came to as one sentence, and the numbers behind it.

    `note` is a finding that speaks neither for nor against, such as a check that had no labels to go by.
    """

    name: str
    status: Status
    finding: str
    figures: dict[str, float] = {}


def kit_check(name: str, check: Callable[..., object], wrong: Sequence[str]) -> Check:
    """Make what a conformance kit says of one check: `refuse` with all that is wrong, else `pass`.

    What a check that passes finds is its promise, the first line of its docstring.
    """
    if wrong:
        return Check(name=name, status="refuse", finding="; ".join(wrong))
    return Check(name=name, status="pass", finding=(check.__doc__ or name).splitlines()[0].rstrip("."))


class Verdict(Frozen):
    """All checks of one file of weights under one contract.

    `status` is that of the worst check: `pass`, `mark` (to be used and said so) or `refuse`. `images` says
    what the networks saw, `sha256` and `subject` what was checked. `fault` tells why nothing could be loaded:
    the file is damaged, or it is whole and not the weights of this teacher (`other`).
    """

    status: Literal["pass", "mark", "refuse"]
    checks: tuple[Check, ...]
    images: str
    n: int
    subject: str = ""
    sha256: str = ""
    fault: Literal["other", "damaged"] | None = None

    @property
    def line(self) -> str:
        """The verdict in one line, with the findings that it rests on: for a plan, a record, a log."""
        findings = [check.finding for check in self.checks if check.status == self.status != "pass"]
        return f"{self.status}: {'; '.join(findings)}" if findings else self.status


def judge(checks: tuple[Check, ...], images: str, n: int) -> Verdict:
    """Take the worst of all checks as the verdict."""
    worst = max((_RANK[check.status] for check in checks), default=0)
    status: Literal["pass", "mark", "refuse"] = ("pass", "mark", "refuse")[worst]
    return Verdict(status=status, checks=checks, images=images, n=n)
