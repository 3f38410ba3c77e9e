"""From a suite to a plan."""

from __future__ import annotations

from pathlib import Path

import pytest

from vitkd_bench.api import gather_inventory
from vitkd_bench.plan import Inventory, SuiteFile, plan_suite
from vitkd_bench.spec import BadInputError, Plan, Source, Suite, parse_yaml

TEXT = """suite: x
version: 1
datasets: [digits]
recipe: micro_short
teachers: [micro/deit, micro/dino, micro/dinov2, micro/beitv2]
students: [standard, native]
methods: [none, attn_copy, kd, {name: attn_distill, weight: {sweep: [1.0, 3.0]}}]
seeds: [0, 1]
"""
HERE = Path("x.yaml")


def planned(text: str = TEXT, only: tuple[str, ...] = ()) -> Plan:
    """Plan a suite's text."""
    document = parse_yaml(text, HERE)
    suite_file = SuiteFile(Suite.parse(document.data, str(HERE), document.lines), HERE)
    return plan_suite(suite_file, gather_inventory(suite_file, ()), only)


@pytest.fixture(scope="module")
def plan() -> Plan:
    """The suite above, planned."""
    return planned()


def test_every_combination_is_a_cell_or_a_refusal(plan: Plan) -> None:
    """Nothing disappears: 4 teachers x 2 students x 5 methods, one of them a sweep of two."""
    seen = [(c.teacher, c.student, c.method) for c in plan.cells]
    seen += [(r.teacher, r.student, r.method) for r in plan.refusals]
    assert len(seen) == len(set(seen)) == 4 * 2 * 5
    assert {c.method for c in plan.cells} == {
        "none",
        "attn_copy",
        "kd",
        "attn_distill[weight=1.0]",
        "attn_distill[weight=3.0]",
    }


def test_a_headless_teacher_is_refused_for_kd_with_its_reason(plan: Plan) -> None:
    """DINO has no head: its kd cells are rows with a sentence."""
    refused = {(r.teacher, r.method): r.reason for r in plan.refusals}
    assert ("micro/deit", "kd") not in refused
    assert "head" in refused["micro/dino", "kd"]


def test_equal_runs_are_planned_once(plan: Plan) -> None:
    """A baseline that reads no teacher is shared; where a family has no component, native is standard."""
    ids = {(c.teacher, c.student, c.method): c.runs for c in plan.cells}
    assert ids["micro/deit", "standard", "none"] == ids["micro/dino", "native", "none"]
    assert ids["micro/deit", "standard", "attn_copy"] == ids["micro/deit", "native", "attn_copy"]
    assert ids["micro/dinov2", "standard", "none"] != ids["micro/dinov2", "native", "none"]
    assert ids["micro/deit", "standard", "attn_copy"] != ids["micro/dino", "standard", "attn_copy"]


def test_every_run_is_in_one_pack_and_packs_share_their_stream(plan: Plan) -> None:
    """Packs part the runs; inside one, stream and teacher are the same."""
    packed = [id_ for pack in plan.packs for id_ in pack.runs]
    assert sorted(packed) == sorted(plan.all_runs())
    for pack in plan.packs:
        runs = [plan.all_runs()[id_] for id_ in pack.runs]
        assert len({run.stream_key for run in runs}) == 1
        assert len({run.teacher.pin if run.teacher else None for run in runs}) == 1


def test_preparations_come_in_the_order_of_making(plan: Plan) -> None:
    """BEiTv2's tokenizer is taught by CLIP: that teacher is made first, and only because of it."""
    made = [plan.prepares[id_] for id_ in plan.preparations]
    assert made.index("micro/clip") < made.index("micro/beitv2")
    assert set(made) == {"micro/deit", "micro/dino", "micro/dinov2", "micro/beitv2", "micro/clip"}
    for pack in plan.packs:
        assert set(pack.needs) <= set(plan.preparations)


def test_a_plan_survives_its_file(plan: Plan) -> None:
    """Ids are the same after JSON."""
    again = Plan.parse(plan.plain())
    assert again == plan
    assert [run.id for run in again.runs.values()] == list(plan.runs)


def test_only_keeps_the_cells_named_and_their_baselines() -> None:
    """A glob on teacher and method leaves the delta computable."""
    plan = planned(only=("micro/dino:standard:attn_copy",))
    assert {(c.teacher, c.student, c.method) for c in plan.cells} == {
        ("micro/dino", "standard", "attn_copy"),
        ("micro/dino", "standard", "none"),
    }
    for cell in plan.cells:
        assert set(cell.baselines.values()) <= set(plan.runs)


def test_exclusions_are_rows_and_must_match_something() -> None:
    """An excluded cell carries its sentence; an exclusion of nothing is a slip."""
    text = TEXT + "exclude:\n  - {teacher: micro/deit, method: kd, because: not today}\n"
    kinds = {(r.teacher, r.method): (r.kind, r.reason) for r in planned(text).refusals}
    assert kinds["micro/deit", "kd"] == ("excluded", "not today")
    with pytest.raises(BadInputError, match=r"exclude\.0\.teacher: 'micro/diet' matches nothing.*micro/deit"):
        planned(text.replace("teacher: micro/deit, m", "teacher: micro/diet, m"))


def test_missing_weights_are_not_fetched_and_the_others_are_planned() -> None:
    """A teacher from outside without a file is a refusal of kind not_fetched, never another teacher."""
    plan = planned(
        TEXT.replace("[micro/deit,", "[{name: deit/ti, weights: nowhere.safetensors}, micro/deit,")
    )
    refused = [r for r in plan.refusals if r.teacher == "deit/ti"]
    assert {r.kind for r in refused} == {"not_fetched"}
    assert "nowhere.safetensors" in refused[0].reason
    assert len(plan.cells) > 20


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("micro/dino,", "micro/dine,", "teachers.1: unknown teacher 'micro/dine'; did you mean 'micro/dino"),
        ("attn_copy", "attn_coppy", "methods.1: unknown method 'attn_coppy'; did you mean 'attn_copy'"),
        ("datasets: [digits]", "datasets: [digit]", "unknown data set 'digit'; did you mean 'digits'"),
        ("micro_short", "micro_shirt", "unknown recipe 'micro_shirt'; did you mean 'micro_short'"),
        ("recipe: micro_short", "recipe: {base: micro_short, epochs: 0}", "recipe: epochs: .*greater than 0"),
        ("kd,", "{name: kd, temperature: -1.0},", "methods.2 .kd.: temperature"),
        ("kd,", "{name: kd, temprature: 1.0},", "temprature: unknown field; did you mean 'temperature'"),
        ("sweep: [1.0, 3.0]", "sweep: []", "methods.3.weight: sweep"),
        (
            "micro/deit,",
            "{name: micro/deit, image_size: 9},",
            "teachers.0.image_size: .*multiple of the patch",
        ),
        ("seeds:", "evaluate: [tets]\nseeds:", "evaluate: unknown split 'tets'; did you mean 'test'"),
        ("none,", "pretrain_dino, none,", "makes teachers"),
    ],
)
def test_a_slip_is_one_line_with_field_and_nearest_name(old: str, new: str, said: str) -> None:
    """Unknown names and bad values are bad input, by field."""
    with pytest.raises(BadInputError, match=said) as caught:
        planned(TEXT.replace(old, new, 1))
    assert "\n" not in str(caught.value)


def with_weights(*teachers: str) -> Plan:
    """Plan the copying of teachers of the hub whose weights are said to be here."""
    text = TEXT.replace("[micro/deit, micro/dino, micro/dinov2, micro/beitv2]", f"[{', '.join(teachers)}]")
    document = parse_yaml(text, HERE)
    suite_file = SuiteFile(Suite.parse(document.data, str(HERE), document.lines), HERE)
    found = gather_inventory(suite_file, ())
    (digits,) = found.datasets.values()
    assert not isinstance(digits, str)
    colour = digits.model_copy(update={"channels": 3, "image_size": None})
    weights = {entry.label: Source(path="/w", sha256="0" * 64) for entry in suite_file.suite.teachers}
    return plan_suite(suite_file, Inventory({"digits": colour}, {}, weights))


def copies(plan: Plan) -> dict[str, set[str]]:
    """Ids of the copying runs by the suite's name of the teacher."""
    return {c.teacher: set(c.runs.values()) for c in plan.cells if c.method == "attn_copy"}


def test_position_interpolation_renames_a_run_where_it_moves_numbers() -> None:
    """Saying what the contract says changes no id, nor does a choice between equals; another way does."""
    runs = copies(
        with_weights(
            "dinov2/s14",
            "{name: dinov2/s14, as: same, position_interpolation: official}",
            "{name: dinov2/s14, as: other, position_interpolation: timm}",
            "{name: dinov2_reg/s14, as: reg}",
            "{name: dinov2_reg/s14, as: reg_timm, position_interpolation: timm}",
        )
    )
    assert runs["dinov2/s14"] == runs["same"] != runs["other"]
    assert runs["reg"] == runs["reg_timm"]
    with pytest.raises(BadInputError, match=r"teachers\.0\.position_interpolation: deit/s has no official"):
        with_weights("{name: deit/s, position_interpolation: official}")


def test_a_backend_renames_a_run_where_it_is_not_the_first() -> None:
    """The first source is what a suite means that names none."""
    runs = copies(
        with_weights(
            "clip/b16",
            "{name: clip/b16, as: timm, backend: timm}",
            "{name: clip/b16, as: open_clip, backend: open_clip}",
        )
    )
    assert runs["clip/b16"] == runs["timm"] != runs["open_clip"]
