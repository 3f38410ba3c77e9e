"""torchvision can be imported beside the torch that is installed, whichever build that is."""

import subprocess
import sys


def in_a_fresh_process(code: str) -> str:
    """What a new Python prints, with every warning an error."""
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, check=False, text=True
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.strip()


def test_the_hook_costs_no_torch() -> None:
    """Importing the package imports neither torch nor torchvision."""
    code = "import sys, vitkd_bench; print({'torch', 'torchvision'} & set(sys.modules))"
    assert in_a_fresh_process(code) == "set()"


def test_torchvision_imports_after_the_package() -> None:
    """What timm needs of torchvision works, and the hook takes itself away."""
    code = """
import sys, vitkd_bench
import torchvision
from torchvision.transforms import v2
import torch, timm
from vitkd_bench._torchvision import _Hook
assert not any(isinstance(finder, _Hook) for finder in sys.meta_path)
print(tuple(v2.Resize(4)(torch.zeros(3, 8, 8)).shape))
"""
    assert in_a_fresh_process(code) == "(3, 4, 4)"


def test_an_import_that_failed_before_is_repaired() -> None:
    """A torchvision that could not be imported before the package can be imported after it."""
    code = """
import contextlib, sys
with contextlib.suppress(RuntimeError):
    import torchvision
import vitkd_bench
import torchvision
print(torchvision.__name__)
"""
    assert in_a_fresh_process(code) == "torchvision"


def test_the_hook_is_installed_once() -> None:
    """Asking again adds no second hook."""
    code = """
import sys, vitkd_bench
from vitkd_bench import _torchvision
_torchvision.install()
print(sum(isinstance(finder, _torchvision._Hook) for finder in sys.meta_path))
"""
    assert in_a_fresh_process(code) == "1"
