"""The command that brings a teacher's weights here, if there is one."""

from __future__ import annotations

from pathlib import Path

from vitkd_bench.registry.shelf import TEACHERS, is_extension
from vitkd_bench.spec import Teacher


def fetch_command(teacher: Teacher, backend: str | None = None) -> str | None:
    """Give the command that fetches a teacher's weights, or makes them; None where no source has a location.

    A teacher of a file of one's own is known to the command by `--extension`.
    """
    sources = [source for source in teacher.sources if backend in {None, source.backend}]
    if teacher.training is None and not any(source.location for source in sources[:1]):
        return None
    by = f" --backend {backend}" if backend else ""
    return f"vitkd teachers fetch {teacher.name}{by}{own_file(teacher)}"


def own_file(teacher: Teacher) -> str:
    """Give ` --extension FILE` for a teacher that stands in a file of one's own, else nothing."""
    origin = TEACHERS.origin(teacher.name) if teacher.name in TEACHERS.names() else ""
    return f" --extension {origin}" if is_extension(Path(origin)) else ""
