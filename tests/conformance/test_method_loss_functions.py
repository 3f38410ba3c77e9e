"""Every method's loss stands for itself: a public function on tensors, held to the laws of losses."""

import inspect
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import vitkd_bench
from vitkd_bench.diagnose.method_bench import Bench, losses
from vitkd_bench.plan import MAKERS
from vitkd_bench.registry import METHODS, MethodEntry

PACKAGE = Path(vitkd_bench.__file__).parent
TESTS = {path.stem: path.read_text() for path in sorted((Path(__file__).parents[1] / "methods").glob("*.py"))}
OVER_ALL = {"test_method_distillation", "test_method_losses", "test_method_notes", "test_needs"}
"""Files that go over methods together: naming a method there is no test of it."""

EVERY = [
    pytest.param(entry, id=entry.name)
    for entry in METHODS
    if entry.kind not in MAKERS and Path(METHODS.origin(entry.name)).is_relative_to(PACKAGE)
]
every_method = pytest.mark.parametrize("entry", EVERY)


def has_a_loss_of_its_own(entry: MethodEntry, folder: Path) -> bool:
    """Whether its loss has another part than that of the labels, which is the same in every method."""
    bench = Bench(entry, folder)
    trainee, batch = bench.begun(), bench.batch(0)
    return set(losses(trainee, bench.read(trainee, batch), batch)) != {"labels"}


def loss_function(entry: MethodEntry) -> Callable[..., object] | None:
    """The public `<id>_loss` of the method's file."""
    found = getattr(sys.modules[entry.method.__module__], f"{entry.name}_loss", None)
    return found if callable(found) else None


@every_method
def test_a_loss_of_its_own_is_a_public_function(entry: MethodEntry, tmp_path: Path) -> None:
    """`<id>_loss` takes tensors by name, is documented, and needs neither settings nor a cell."""
    function = loss_function(entry)
    assert function is not None or not has_a_loss_of_its_own(entry, tmp_path)
    if function is not None:
        names = set(inspect.signature(function).parameters)
        assert names
        assert not names & {"self", "config", "cell", "batch"}
        assert inspect.getdoc(function)


@every_method
def test_a_loss_is_held_to_the_laws(entry: MethodEntry, tmp_path: Path) -> None:
    """Some file of tests names `<id>_loss` and holds what it names to the laws of losses."""
    if loss_function(entry) is None and not has_a_loss_of_its_own(entry, tmp_path):
        return
    holding = [text for text in TESTS.values() if "= laws_of(" in text]
    assert any(re.search(rf"\b{entry.name}_loss\b", text) for text in holding)


@every_method
def test_a_method_has_tests_of_its_own(entry: MethodEntry) -> None:
    """A file of tests is named after it, or names it beside its kin."""
    named = [text for stem, text in TESTS.items() if stem.startswith("test_") and stem not in OVER_ALL]
    assert f"test_{entry.name}" in TESTS or any(f'"{entry.name}"' in text for text in named)
