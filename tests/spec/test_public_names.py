"""The names of `vitkd_bench.spec`, which are loaded when they are first asked for."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from vitkd_bench import spec


def declared() -> dict[str, str]:
    """Names and modules as a type checker reads them."""
    tree = ast.parse(Path(spec.__file__).read_text(encoding="utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    return {alias.name: node.module or "" for node in imports for alias in node.names}


def test_every_name_is_what_a_type_checker_takes_it_for() -> None:
    """Names at run time, names told to type checkers, and `__all__`: the same, from the same modules."""
    names = declared()
    assert sorted(names) == sorted(spec.__all__) == sorted(dir(spec))
    for name, module in names.items():
        assert getattr(spec, name) is getattr(import_module(module), name)


def test_an_unknown_name_is_an_attribute_error() -> None:
    """As of any module, so that `hasattr` and a wrong import say what they always say."""
    with pytest.raises(AttributeError, match=r"vitkd_bench\.spec.*'Techer'"):
        spec.__getattr__("Techer")


def test_an_error_costs_no_description() -> None:
    """Errors and folders come without pydantic and without the reader of YAML."""
    code = (
        "from vitkd_bench.spec import BadInputError, cache_folder; import sys; "
        "sys.exit(bool({'pydantic', 'yaml'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
