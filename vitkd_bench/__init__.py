"""Which part of a pretrained Vision Transformer can be passed to a fresh student, and by which method.

Import this package before timm, open_clip or torchvision: it makes torchvision importable beside a CPU torch.
The names below are loaded when they are first asked for, so that importing the package costs no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from vitkd_bench import _torchvision

if TYPE_CHECKING:
    from vitkd_bench.api import (
        create_student,
        create_teacher,
        load_records,
        load_suite,
        plan_suite,
        run_suite,
    )
    from vitkd_bench.methods.attn_distill import attn_distill_loss
    from vitkd_bench.methods.kd import kd_loss
    from vitkd_bench.methods.none import none_loss

__all__ = [
    "attn_distill_loss",
    "create_student",
    "create_teacher",
    "kd_loss",
    "load_records",
    "load_suite",
    "none_loss",
    "plan_suite",
    "run_suite",
]

_torchvision.install()


def __getattr__(name: str) -> Any:
    """Load a public name: a function of `vitkd_bench.api`, or `<method>_loss` of a method's file."""
    if name not in __all__:
        raise AttributeError(f"module 'vitkd_bench' has no attribute {name!r}")
    method = name.removesuffix("_loss")
    home = "vitkd_bench.api" if method == name else f"vitkd_bench.methods.{method}"
    return getattr(import_module(home), name)


def __dir__() -> list[str]:
    """List the public names."""
    return __all__
