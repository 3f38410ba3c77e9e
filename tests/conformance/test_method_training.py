"""What holds of every method that trains students, ours or a stranger's."""

import pytest

from vitkd_bench.diagnose.method_conformance import method_conformance
from vitkd_bench.plan import MAKERS
from vitkd_bench.registry import METHODS, MethodEntry

EVERY = [entry for entry in METHODS if entry.kind not in MAKERS]  # before other tests add some of their own


@pytest.mark.parametrize("entry", EVERY, ids=lambda entry: entry.name)
def test_it_conforms(entry: MethodEntry) -> None:
    """The conformance kit, which a stranger's method goes through, finds nothing in ours."""
    assert [f"{c.name}: {c.finding}" for c in method_conformance(entry) if c.status != "pass"] == []
