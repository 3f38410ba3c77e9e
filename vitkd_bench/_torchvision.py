"""Make a torchvision that was built for CUDA importable beside a torch without CUDA.

The public torchvision wheel links against CUDA's libraries. Beside a CPU build of torch its compiled half
cannot be loaded, and ``import torchvision`` ends in ``operator torchvision::nms does not exist``, which takes
timm, open_clip and the vision models of transformers with it. Two operator schemas, declared before
torchvision is imported, are all that its Python half asks for. They have no kernels: ``torchvision.ops.nms``
and ``torchvision.io`` still fail, and nothing here uses either.

The hook costs no import of torch: it waits until somebody asks for torchvision.
"""

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_kept: list[object] = []  # torch forgets the schemas of a library that nobody refers to


class _Hook(importlib.abc.MetaPathFinder):
    """Acts once, on the first import of torchvision, and takes itself away before it does."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Prepare torch for the torchvision that the ordinary path finder finds."""
        if fullname != "torchvision":
            return None
        sys.meta_path.remove(self)
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.origin is not None:
            _declare_missing_operators(Path(spec.origin).parent)
        return spec


def _declare_missing_operators(torchvision: Path) -> None:
    """Declare the two schemas, unless torchvision's compiled half can be loaded."""
    import torch  # at module level it would cost every `vitkd --help` more than a second

    if torch.version.cuda or getattr(torch.version, "hip", None):
        return
    for library in sorted(torchvision.glob("_C*.so")):
        try:
            torch.ops.load_library(library)
        except (OSError, ImportError):
            continue
        return  # a native CPU build, which brings its own operators
    declared = torch.library.Library("torchvision", "DEF")
    for schema in _SCHEMAS:
        declared.define(schema)
    _kept.append(declared)


def install() -> None:
    """Put the hook first among the finders, once, where torchvision is not imported yet."""
    if "torchvision" not in sys.modules and not any(isinstance(f, _Hook) for f in sys.meta_path):
        sys.meta_path.insert(0, _Hook())
