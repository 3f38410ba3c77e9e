"""Controls in a suite: read, planned beside their methods, refused with a sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.plan.test_suite_plan import planned
from vitkd_bench.spec import BadInputError, Plan, Run, Suite, parse_yaml

TEXT = """suite: x
version: 1
datasets: [digits]
recipe: {base: micro_short, augmentation: {shift: 1}}
teachers: [micro/deit, micro/dino]
students: [standard]
methods: [METHODS]
seeds: [0, 1]
"""


def with_methods(*methods: str) -> Plan:
    """Plan a suite of these methods."""
    return planned(TEXT.replace("METHODS", ", ".join(methods)))


def runs_of(plan: Plan, method: str, teacher: str = "micro/deit") -> list[Run]:
    """The runs of a cell."""
    (cell,) = [c for c in plan.cells if (c.method, c.teacher) == (method, teacher)]
    return [plan.runs[id_] for id_ in cell.runs.values()]


def refused(plan: Plan, method: str, teacher: str = "micro/deit") -> str:
    """Why a cell is refused."""
    (found,) = [r for r in plan.refusals if (r.method, r.teacher) == (method, teacher)]
    assert found.kind == "impossible"
    return found.reason


def test_short_and_long_forms_are_read() -> None:
    """A bare name, settings, and a name of the suite's own; each is told from its method by its label."""
    text = TEXT.replace(
        "METHODS",
        "attn_copy, {name: attn_copy, control: shuffled_maps}, "
        "{name: attn_copy, as: mine, control: {name: shuffled_maps, among: same_class}}",
    )
    document = parse_yaml(text, Path("x.yaml"))
    suite = Suite.parse(document.data, "x.yaml", document.lines)
    assert [m.label for m in suite.methods] == ["attn_copy", "attn_copy+shuffled_maps", "mine"]
    controls = [m.control for m in suite.methods]
    assert [c and (c.name, c.settings) for c in controls] == [
        None,
        ("shuffled_maps", {}),
        ("shuffled_maps", {"among": "same_class"}),
    ]
    assert Suite.parse(suite.plain()) == suite


@pytest.mark.parametrize(
    ("methods", "said"),
    [
        ("{name: kd, control: dkp}", r"x\.yaml: methods\.0\.control: unknown control 'dkp'; .*'dkpp'"),
        (
            "{name: kd, control: {name: dkpp, kep: top}}",
            r"methods\.0\.control \(dkpp\): kep: unknown .*'kept'",
        ),
        ("{name: kd, control: {name: dkpp, kept: all}}", r"methods\.0\.control \(dkpp\): kept: .*'all'"),
        ("{name: kd, control: [dkpp]}", r"methods\.0\.control"),
        (
            "{name: kd, control: {name: other_teacher, teacher: micro/din}}",
            r"methods\.0\.control\.teacher: 'micro/din' is no teacher of this suite.*micro/dino",
        ),
        ("{name: kd, control: other_teacher}", r"'' is no teacher of this suite; one of micro/deit"),
        (
            "{name: kd, control: dkpp}, {name: kd, control: {name: dkpp, kept: label}}",
            "'kd.dkpp' stands twice",
        ),
    ],
)
def test_what_is_wrong_is_named_by_field(methods: str, said: str) -> None:
    """A slip in a control is one line that says where it is and what would work."""
    with pytest.raises(BadInputError, match=said) as caught:
        with_methods(methods)
    assert "\n" not in str(caught.value)


def test_a_control_is_its_own_cell_beside_its_method() -> None:
    """Same student, data and baseline, another run; the plan's facts say what it is a control of."""
    plan = with_methods("none", "attn_copy", "{name: attn_copy, control: uniform_map}")
    label = "attn_copy+uniform_map"
    own, controlled = runs_of(plan, "attn_copy"), runs_of(plan, label)
    assert {r.id for r in own}.isdisjoint(r.id for r in controlled)
    assert [r.teacher for r in own] == [r.teacher for r in controlled]
    baselines = {c.method: c.baselines for c in plan.cells if c.teacher == "micro/deit"}
    assert baselines["attn_copy"] == baselines[label]
    facts = plan.methods[label]
    assert (facts.control_of, facts.control, facts.kind) == ("attn_copy", "uniform_map", "attention")
    assert facts.claim
    assert plan.methods["attn_copy"].control_of is None
    assert Plan.parse(plan.plain()) == plan


def test_sweeps_of_method_and_control_are_spread() -> None:
    """Every setting of the one meets every setting of the other."""
    plan = with_methods(
        "{name: attn_distill, weight: {sweep: [1.0, 2.0]}, "
        "control: {name: shuffled_maps, among: {sweep: [any, other_class]}}}"
    )
    base = "attn_distill+shuffled_maps"
    assert {c.method for c in plan.cells} == {
        f"{base}[weight={w}][among={a}]" for w in (1.0, 2.0) for a in ("any", "other_class")
    }
    (run, _) = runs_of(plan, f"{base}[weight=1.0][among=any]")
    assert run.method.settings == {"weight": 1.0}
    assert run.method.control is not None
    assert run.method.control.settings == {}


def test_it_shares_its_methods_pack_unless_it_needs_another_forward() -> None:
    """Changed features come of the same teacher forward; another view or teacher is a pack of its own."""
    plan = with_methods(
        "attn_copy",
        "{name: attn_copy, control: mean_map}",
        "{name: attn_copy, control: random_teacher}",
        "{name: attn_copy, control: independent_view}",
    )
    packs = {id_: pack.id for pack in plan.packs for id_ in pack.runs}
    (own, *_), (mean, *_) = runs_of(plan, "attn_copy"), runs_of(plan, "attn_copy+mean_map")
    (drawn, *_) = runs_of(plan, "attn_copy+random_teacher")
    (view, *_) = runs_of(plan, "attn_copy+independent_view")
    assert packs[own.id] == packs[mean.id]
    assert len({packs[run.id] for run in (own, drawn, view)}) == 3


def test_a_random_teacher_is_drawn_for_each_seed_and_not_made() -> None:
    """Its pin names law, network and seed; nothing of the trained teacher is waited for."""
    plan = with_methods("{name: attn_copy, control: random_teacher}")
    runs = runs_of(plan, "attn_copy+random_teacher")
    uses = [run.teacher for run in runs if run.teacher]
    assert [use.drawn for use in uses] == [("small", 0), ("small", 1)]
    assert len({use.pin for use in uses}) == 2
    assert len({run.cell_key for run in runs}) == 1
    assert plan.preparations == {}
    other = runs_of(plan, "attn_copy+random_teacher", "micro/dino")[0].teacher
    assert other is not None
    # DINO has no head, and all else of its network is DeiT's
    assert other.key != uses[0].key


def test_another_teacher_is_read_where_one_is_named() -> None:
    """The student stays that of the cell's teacher; in the cells of the named one it is no other."""
    plan = with_methods("attn_copy", "{name: attn_copy, control: {name: other_teacher, teacher: micro/dino}}")
    label = "attn_copy+other_teacher"
    read = [run.teacher and run.teacher.name for run in runs_of(plan, label)]
    assert read == ["micro/dino", "micro/dino"]
    assert "which is the cell's own teacher" in refused(plan, label, "micro/dino")
    own, theirs = runs_of(plan, label), runs_of(plan, "attn_copy", "micro/dino")
    assert {run.teacher and run.teacher.pin for run in own} == {
        run.teacher and run.teacher.pin for run in theirs
    }


def test_a_headless_teacher_can_be_given_a_random_head() -> None:
    """DINO is refused for kd, and not under a head that is drawn for the digits."""
    plan = with_methods("kd", "{name: kd, control: random_head}", "{name: kd, control: dkpp}")
    assert "no classification head" in refused(plan, "kd", "micro/dino")
    assert "no classification head" in refused(plan, "kd+dkpp", "micro/dino")
    (run, _) = runs_of(plan, "kd+random_head", "micro/dino")
    assert run.teacher is not None
    assert run.teacher.drawn_head == 0


def test_where_it_says_nothing_it_is_refused() -> None:
    """A control of what a method does not read is a row with one sentence."""
    plan = with_methods("{name: kd, control: shuffled_maps}", "{name: none, control: random_teacher}")
    assert (
        refused(plan, "kd+shuffled_maps")
        == "shuffled_maps acts on the teacher's attention, and kd reads logits"
    )
    assert "none reads none" in refused(plan, "none+random_teacher")
