"""Heads made of texts: where they can be, and what of them stands in the id of a run that reads one."""

from __future__ import annotations

import re
from collections import Counter

from vitkd_bench.spec import ResolvedDataset, Source, Teacher, TeacherEntry, TeacherUse, content_hash

TEXT_HEAD_VERSION = 1
"""Goes up when a text head of the same weights, names and templates gives other logits."""

IDENTIFIER = re.compile(r"n\d{8}|[\d\s._-]*")  # a WordNet id, or nothing but digits


def text_pin(dataset: ResolvedDataset, tokenizer: str | None) -> str:
    """Name a text head by what beside weights and classes can change its logits.

    These are its version, the templates, and the tokenizer: `tokenizer` is the hash of its files, None for
    one that comes with a library.
    """
    parts = ("text", str(TEXT_HEAD_VERSION), content_hash(list(dataset.templates)), tokenizer)
    return ":".join(part for part in parts if part)


def with_text_head(use: TeacherUse, dataset: ResolvedDataset, tokenizer: str | None) -> TeacherUse:
    """Give `use` of a teacher with a head made of the names of the classes of `dataset`."""
    key = f"text:{content_hash(list(dataset.templates))}"
    pin = text_pin(dataset, tokenizer)
    return use.model_copy(update={"head": "text", "head_pin": pin, "head_key": key})


def textless(entry: TeacherEntry, teacher: Teacher, weights: Source | str | None) -> str | None:
    """Say in one sentence why a teacher that a suite asks for a text head can never have one, or nothing."""
    if entry.head != "text":
        return None
    if teacher.head is not None and teacher.head.kind == "text":
        return f"the head of {teacher.name} is one of texts itself: leave head: text out"
    if teacher.text_encoder is None:
        return f"{teacher.name} has no text tower for head: text; head: probe fits a head to the data"
    if entry.weights is None and teacher.source(entry.backend).backend == "timm":
        return (
            f"timm's file of {teacher.name} holds the image tower alone; head: text needs backend: open_clip"
        )
    return weights.textless if isinstance(weights, Source) else None


def unspeakable(dataset: ResolvedDataset) -> str | None:
    """Say in one sentence why the classes of a data set make no texts that tell them apart, or nothing."""
    names = [info.spoken for info in dataset.classes]
    for name in names:
        if IDENTIFIER.fullmatch(name):
            return f"class {name!r} of {dataset.name} is an id and no name, and head: text needs names"
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        return f"two classes of {dataset.name} are called {twice[0]!r}, which head: text cannot tell apart"
    return None
