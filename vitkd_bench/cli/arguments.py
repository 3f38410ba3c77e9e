"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Answer in JSON, for a script.")]
Extensions = Annotated[
    list[Path] | None,
    typer.Option("--extension", metavar="FILE", help="A file that registers entries of your own."),
]
