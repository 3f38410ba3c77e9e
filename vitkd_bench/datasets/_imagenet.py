"""The 1,000 classes of ILSVRC-2012 in sorted order of their wnids, and which of them other sets take.

Wnids: the challenge's (image-net.org). Names: the list of OpenAI's CLIP (MIT; Radford et al.,
arXiv:2103.00020, section 3.1.4), which tells the two cranes and the two maillots apart; where it says one
name twice, WordNet's own stands for one of the two: projectile (744) beside missile, sunglass (836) beside
sunglasses.
Marks: a of ImageNet-A, r of ImageNet-R (the lists in their authors' `eval.py`), t of Tiny ImageNet.
"""

from __future__ import annotations

from pathlib import Path

from vitkd_bench.spec import ClassInfo

SPACE = "imagenet1k"

_TABLE = Path(__file__).with_name("imagenet_classes.txt").read_text(encoding="utf-8")
_ROWS = [line.split(" ", 2) for line in _TABLE.splitlines()]

WNIDS = tuple(wnid for wnid, _, _ in _ROWS)
"""The wnid of each class, `n01440764` first."""

CLASSES = tuple(ClassInfo(name=name) for _, _, name in _ROWS)
"""The classes themselves."""


def classes_marked(mark: str = "") -> tuple[ClassInfo, ...]:
    """Give the classes with a mark, all without one, each with its place in ImageNet-1k."""
    return tuple(
        ClassInfo(name=name, indices={SPACE: i}) for i, (_, marks, name) in enumerate(_ROWS) if mark in marks
    )


def wnid_of(info: ClassInfo) -> str:
    """Give the wnid of a class that `classes_marked` made."""
    return WNIDS[info.places(SPACE)[0]]
