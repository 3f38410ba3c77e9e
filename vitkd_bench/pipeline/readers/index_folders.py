"""The reader of ImageNet-V2: folders 0 to 999, which are class indices and so never sorted as text."""

from __future__ import annotations

from vitkd_bench.datasets._imagenet import SPACE
from vitkd_bench.pipeline.readers.wnid_folders import ShiftFolders

READER = ShiftFolders(lambda info: str(info.places(SPACE)[0]))
