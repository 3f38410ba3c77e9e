"""Settings of methods that no cell of a suite could take, refused when the suite is read."""

from __future__ import annotations

import pytest

from tests.plan.test_plan_controls import TEXT, with_methods
from tests.plan.test_suite_plan import planned
from vitkd_bench.spec import BadInputError


@pytest.mark.parametrize(
    ("method", "said"),
    [
        ("{name: kd, temperature: -1}", r"methods\.1 \(kd\): temperature: .*greater than 0"),
        ("{name: attn_distill, weight: .nan}", r"methods\.1 \(attn_distill\): weight: .*finite number"),
        ("{name: attn_distill, weight: .inf}", r"methods\.1 \(attn_distill\): weight: .*finite number"),
        ("{name: attn_distill, weigth: 1}", r"methods\.1 \(attn_distill\): weigth: .*did you mean 'weight'"),
        (
            "{name: attn_copy, layers: 'last:5'}",
            r"methods\.1 \(attn_copy\): layers: last:5 reach beyond every",
        ),
        ("{name: attn_copy, layers: [0, 9]}", r"layers: \[0, 9\] .* whose largest has 4 blocks \(0 to 3\)"),
        ("{name: attn_distill, heads: [3]}", r"heads: \[3\] .* whose largest has 3 heads \(0 to 2\)"),
        ("{name: attn_copy, layers: [1, 1]}", r"methods\.1 \(attn_copy\): layers: each block once"),
        ("{name: attn_copy, layers: 'first:0'}", r"layers: expected 'all', 'first:k'"),
        ("{name: takd, assistant: huge}", r"methods\.1 \(takd\): assistant: expected between or a size"),
        ("{name: attn_copy, control: shufled}", r"methods\.1\.control: .*did you mean 'shuffled_maps'"),
        (
            "{name: attn_copy, control: shuffled_maps, among: any}",
            r"among: a setting of the control; write it as control: \{name: shuffled_maps, among: \.\.\.\}",
        ),
        ("none", r"methods: 'none' stands twice"),
        (
            "{name: kd, alpha: {sweep: [0.5, 0.5]}}",
            r"methods: two variants have one name, 'kd\[alpha=0\.5\]'",
        ),
    ],
)
def test_it_is_refused_by_field(method: str, said: str) -> None:
    """In one line that names the entry and the setting."""
    with pytest.raises(BadInputError, match=said) as caught:
        with_methods("none", method)
    assert "\n" not in str(caught.value)


def test_what_only_some_networks_lack_is_a_row() -> None:
    """Where a larger student of the suite has such blocks, the pairs without them are refused one by one."""
    text = TEXT.replace("METHODS", "none, {name: projector, layers: 'last:6'}")
    plan = planned(text.replace("[standard]", "[standard, standard@ti]"))
    (refused,) = {refusal.reason for refusal in plan.refusals if refusal.student == "standard"}
    assert refused.startswith("layers last:6 reach beyond the network's 4 blocks")
    assert {cell.student for cell in plan.cells if cell.method == "projector"} == {"standard@ti"}
