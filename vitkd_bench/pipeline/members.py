"""Members of archives, whatever kind of archive: what their names may be."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from vitkd_bench.spec import WorldError


def member_name(path: Path, name: str, *, plain: bool, inside: bool = True) -> str:
    """Give the name of a member as a relative path.

    `plain` says that it is a file or a folder, `inside` that its kind of archive allows the name.

    Raises:
        WorldError: it leads outside of the archive `path`, or is a link or a device.
    """
    pure = PurePosixPath(name)
    if not inside or pure.is_absolute() or ".." in pure.parts:
        raise WorldError(f"{path}: member {name!r} leads outside the archive; it is not read")
    if not plain:
        raise WorldError(f"{path}: member {name!r} is a link or a device; only plain files are read")
    return pure.as_posix()
