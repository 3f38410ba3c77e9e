"""Where files lie that several commands and suites share."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """Where preparations and fetched weights are kept.

    `$VITKD_CACHE`, else `$XDG_CACHE_HOME/vitkd_bench`, else `~/.cache/vitkd_bench`.
    """
    own = os.environ.get("VITKD_CACHE")
    if own:
        return Path(own)
    shared = os.environ.get("XDG_CACHE_HOME")
    return (Path(shared) if shared else Path.home() / ".cache") / "vitkd_bench"
