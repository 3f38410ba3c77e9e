import re
from typing import get_args

import pytest
from pydantic import ValidationError

from vitkd_bench.contracts import Method
from vitkd_bench.diagnose.method_facts import SOURCE, bounds, is_number
from vitkd_bench.registry import METHODS, MethodEntry
from vitkd_bench.spec import BadInputError, Settings

ENTRIES = [pytest.param(entry, id=entry.name) for entry in METHODS]
FIELDS = [
    pytest.param(entry, field, id=f"{entry.name}-{field}")
    for entry in METHODS
    for field in entry.method.Config.model_fields
]
NUMBERS = [
    param
    for entry in METHODS
    for field, info in entry.method.Config.model_fields.items()
    if is_number(info)
    for param in [pytest.param(entry, field, id=f"{entry.name}-{field}")]
]


@pytest.mark.parametrize("entry", ENTRIES)
def test_an_entry_says_what_it_is(entry: MethodEntry) -> None:
    """Name, title, kind, source, budget and documentation are there, and the name is its file's."""
    assert re.fullmatch(r"[a-z][a-z0-9_]*", entry.name)
    assert METHODS.origin(entry.name).endswith(f"{entry.name}.py")
    assert entry.title
    assert re.search(SOURCE, entry.paper)
    assert entry.version >= 1
    assert issubclass(entry.method, Method)
    assert (entry.method.__doc__ or "").strip()
    assert entry.budget or entry.kind == "pretraining"
    assert (entry.name.startswith("pretrain_")) == (entry.kind == "pretraining")


@pytest.mark.parametrize("entry", ENTRIES)
def test_settings_have_defaults(entry: MethodEntry) -> None:
    """A method works as its name alone, and the defaults pass their own check."""
    assert issubclass(entry.method.Config, Settings)
    defaults = entry.method.Config()
    assert entry.method.Config.parse(defaults.plain()) == defaults
    assert defaults.declared() == {}


@pytest.mark.parametrize(("entry", "field"), FIELDS)
def test_every_setting_is_described(entry: MethodEntry, field: str) -> None:
    """Each setting says what it is, in a few words."""
    assert entry.method.Config.model_fields[field].description


@pytest.mark.parametrize(("entry", "field"), NUMBERS)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1e9, "much", None, [1]])
def test_a_bad_number_is_refused_by_field(entry: MethodEntry, field: str, value: object) -> None:
    """No number, one without end, or one far below zero is refused, and the message names the field.

    A setting whose default is negative, or whose description says that it may be, can be far below zero; one
    that may be none can be none.
    """
    info = entry.method.Config.model_fields[field]
    if value == -1e9 and not bounds(info) & {"ge", "gt"}:
        assert (info.get_default() or 0) < 0 or "negative" in (info.description or "")
        return
    if value is None and type(None) in get_args(info.annotation):
        assert entry.method.Config.parse({field: None}) is not None
        return
    with pytest.raises(BadInputError, match=rf"^here: {field}: [^\n]+$"):
        entry.method.Config.parse({field: value}, "here")


@pytest.mark.parametrize("entry", ENTRIES)
def test_an_unknown_setting_is_refused(entry: MethodEntry) -> None:
    """A setting that the method lacks is an error that names it."""
    with pytest.raises(BadInputError, match=r"^here: learning_rat: unknown field"):
        entry.method.Config.parse({"learning_rat": 1}, "here")


@pytest.mark.parametrize("name", ["kd", "pretrain_dino"])
@pytest.mark.parametrize("value", [0.0, -0.1])
def test_temperatures_are_positive(name: str, value: float) -> None:
    """A temperature of nothing or less is no temperature."""
    config = METHODS.get(name).method.Config
    field = next(f for f in config.model_fields if "temperature" in f)
    with pytest.raises(BadInputError, match=f"{field}: .*greater than 0"):
        config.parse({field: value})


@pytest.mark.parametrize("entry", ENTRIES)
def test_settings_are_frozen(entry: MethodEntry) -> None:
    """Settings cannot change once a run has its id."""
    settings = entry.method.Config()
    for field in type(settings).model_fields:
        with pytest.raises(ValidationError, match="frozen"):
            setattr(settings, field, 1)
