"""A suite as written."""

from __future__ import annotations

from pathlib import Path

import pytest

from vitkd_bench.spec import BadInputError, Suite, parse_yaml

TEXT = """suite: x
version: 1
datasets: [digits, {name: folder, as: birds, train: t.tar, test: v.tar}]
recipe: {base: micro_short, epochs: 3}
teachers: [micro/deit, {name: deit/ti, weights: w.safetensors, image_size: 112}]
students: [standard, native@ti, {as: ls, components: [layer_scale], layer_scale_init: 0.1}]
methods: [none, {name: kd, as: kd_hot, temperature: {sweep: [2, 4]}}]
seeds: [0, 1]
exclude:
  - {method: kd, because: a reason}
"""


def read(text: str) -> Suite:
    """Read a suite's text."""
    document = parse_yaml(text, Path("x.yaml"))
    return Suite.parse(document.data, "x.yaml", document.lines)


def test_short_and_long_forms_are_read() -> None:
    """Bare names become entries; an entry's other keys are its settings."""
    suite = read(TEXT)
    assert [entry.label for entry in suite.datasets] == ["digits", "birds"]
    assert suite.datasets[1].settings == {"train": "t.tar", "test": "v.tar"}
    assert suite.recipe.changes == {"epochs": 3}
    assert [entry.label for entry in suite.students] == ["standard", "native@ti", "ls"]
    assert suite.methods[1].settings == {"temperature": {"sweep": [2, 4]}}


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("seeds:", "seds:", "x.yaml:8: seds: unknown field; did you mean 'seeds'?"),
        ("version: 1", "version: 2", "x.yaml:2: version: Input should be 1, got 2"),
        ("[0, 1]", "[0, 1.5]", "x.yaml:8: seeds.1: .*integer, got 1.5"),
        ("[0, 1]", "[0, 0]", "seeds: each one once"),
        ("[0, 1]", "[true]", "seeds.0"),
        ("weights:", "weigts:", "teachers.1.weigts: unknown field; did you mean 'weights'?"),
        ("[layer_scale]", "[layer_scal]", "unknown component 'layer_scal'; did you mean 'layer_scale'?"),
        ("native@ti", "native@tiny", "unknown size 'tiny'; did you mean 'ti'?"),
        ("standard,", "standart,", "x.yaml:6: students.0: unknown student 'standart'"),
        ("methods: [none,", "methods: [none, none,", "methods: 'none' stands twice"),
        ("suite: x", "suite: ../x", "x.yaml:1: suite"),
        ("because: a reason", "becaus: a reason", "exclude.0.becaus: unknown field"),
    ],
)
def test_what_is_wrong_is_named_by_file_line_and_field(old: str, new: str, said: str) -> None:
    """Every slip is one line that says where it is and what would work."""
    with pytest.raises(BadInputError, match=said.replace("[", r"\[").replace("?", r"\?")) as caught:
        read(TEXT.replace(old, new, 1))
    assert "\n" not in str(caught.value)


def test_numbers_that_are_not_finite_are_refused() -> None:
    """NaN and infinity never get into a description."""
    with pytest.raises(BadInputError, match="layer_scale_init"):
        read(TEXT.replace("0.1", ".nan"))
