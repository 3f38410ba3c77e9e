"""The report's numbers, by hand, and what it never mixes."""

import csv
import io
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vitkd_bench.report import Board, MixedError, build_board, render, write_report
from vitkd_bench.report.families import FamilyRow
from vitkd_bench.report.rows import Row
from vitkd_bench.report.summary import summary
from vitkd_bench.spec import BadInputError, DamagedFileError, Recipe

Start = Callable[..., Any]


@pytest.fixture(scope="module")
def board(half_way_done: Path) -> Board:
    """The content of the report on a suite half way."""
    return build_board([half_way_done], half_way_done / "report")


def only(found: list[Any]) -> Any:
    """The one of which there is one."""
    (one,) = found
    return one


def row(source: Path | Board, method: str, student: str = "standard", teacher: str = "micro/deit") -> Row:
    """One row of a report."""
    names = (teacher, student, method)
    rows = (source if isinstance(source, Board) else build_board([source], source / "report")).rows
    found: Row = only([r for r in rows if (r.key.teacher, r.key.student, r.key.method) == names])
    return found


def family(folder: Path, name: str, method: str, student: str = "standard") -> FamilyRow:
    """One family's verdict."""
    rows = build_board([folder], folder / "report").families
    found: FamilyRow = only([r for r in rows if (r.family, r.student, r.method) == (name, student, method)])
    return found


def test_numbers_by_hand(bench: Start) -> None:
    """Accuracy, paired delta, interval, macro and shift accuracy of two seeds, recomputed by hand."""
    made = bench()
    made.add("deit", "standard", "none", {0: 300, 1: 306})
    made.add("deit", "standard", "attn_distill", {0: 309, 1: 324})
    found = row(made.save(), "attn_distill")
    assert found.top1 is not None
    assert found.delta is not None
    assert found.top1.mean == pytest.approx((309 + 324) / 720)
    # differences 9/360 and 18/360: 2.5 and 5.0 points; mean 3.75, sd 2.5/sqrt(2), standard error 1.25
    assert found.delta.by_seed == pytest.approx({0: 2.5, 1: 5.0})
    assert found.delta.interval.mean == pytest.approx(3.75)
    assert found.delta.interval.half_width == pytest.approx(12.70620 * 1.25, rel=1e-5)
    assert found.verdict == "undecided"
    # two pairs show a delta in 4 of 5 cases if it is about 50 standard errors
    assert any(r.startswith("cannot be decided with 2 seeds (these would show ") for r in found.remarks)
    assert found.macro == found.top1.mean
    assert found.shifts == {"digits/rotate": pytest.approx(found.top1.mean / 2)}
    assert (found.images, found.wall_s, found.hardware) == (
        360,
        3.25,
        ("A processor, 1 thread, AVX2, Linux x86_64",),
    )


def test_delta_is_paired_by_seed(bench: Start) -> None:
    """Seeds that vary much and together leave a narrow delta; a seed without baseline plays no part."""
    made = bench()
    made.add("deit", "standard", "none", {0: 200, 1: 250, 2: 300, 3: None})
    made.add("deit", "standard", "kd", {0: 211, 1: 260, 2: 309, 3: 10})
    found = row(made.save(), "kd")
    assert found.delta is not None
    assert found.delta.by_seed == pytest.approx({0: 1100 / 360, 1: 1000 / 360, 2: 900 / 360})
    assert found.delta.unpaired == (3,)
    assert found.verdict == "transfers"


@pytest.mark.parametrize(("shift", "expected"), [(12, "transfers"), (-12, "fails"), (1, "undecided")])
def test_verdicts(bench: Start, shift: int, expected: str) -> None:
    """The sign of a clear delta is the verdict; one of a single image decides nothing."""
    made = bench()
    made.add("deit", "standard", "none", {0: 300, 1: 301, 2: 302})
    made.add("deit", "standard", "attn_copy", {0: 300 + shift, 1: 301 + shift, 2: 302 + shift})
    folder = made.save()
    assert row(folder, "attn_copy").verdict == expected
    beside = {"transfers": "same sign", "fails": "other sign", "undecided": "undecided"}
    assert family(folder, "deit", "attn_copy").beside_published == beside[expected]


def test_one_seed_decides_nothing(bench: Start) -> None:
    """One seed has a delta and no interval, and says that it cannot decide."""
    made = bench()
    made.add("deit", "standard", "none", {0: 100})
    made.add("deit", "standard", "attn_copy", {0: 300})
    folder = made.save()
    found = row(folder, "attn_copy")
    assert found.verdict == "undecided"
    assert "cannot be decided with 1 seed" in found.remarks
    assert "needs teacher at test" in found.remarks
    (tally, *_) = summary(build_board([folder], folder / "report"))
    assert tally.startswith("Of 1 comparison with the same student trained without a teacher, 0 show a gain")


def test_failed_and_missing_runs_are_counted(board: Board) -> None:
    """No run is dropped: the row counts what failed and what is missing, the board lists what failed."""
    found = row(board, "kd")
    assert (found.done, found.failed, found.missing) == ((0,), (1,), (2,))
    assert found.status == "partial"
    assert {"1 of 3 failed", "1 of 3 missing"} <= set(found.remarks)
    assert board.counts == {"planned": 60, "done": 54, "failed": 3, "missing": 3, "stale": 0, "refused": 6}
    assert {(f.kind, f.message, f.step, f.seed) for f in board.failed} == {
        ("non_finite_loss", "loss is inf", 17, 1)
    }
    assert summary(board)[-1] == "Basis: 54 of 60 runs done, 3 failed, 3 missing, 6 cells refused."


def test_a_failed_preparation_is_named_first(bench: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """What failed before its runs could begin stands above them, under the teacher that it makes."""
    made = bench()
    made.add("deit", "standard", "none", {0: 300})
    made.add("deit", "standard", "kd", {0: "failed"})
    plan, run = made._plan, made.run("deit", "native", "none", 7)
    more = {"preparations": {run.id: run}, "prepares": {run.id: "micro/deit"}}
    monkeypatch.setattr(made, "_plan", lambda: plan().model_copy(update=more))
    made.store.write(made._record(run, None))
    folder = made.save()
    board = build_board([folder], folder / "report")
    assert [f.cells[0] for f in board.failed] == ["preparation micro/deit", "micro/deit:standard:kd:digits"]
    assert board.counts["planned"] == 2


def test_a_cell_without_any_result_has_its_row(bench: Start) -> None:
    """A cell of which nothing is done stands at the end of the table with its reason."""
    made = bench()
    made.add("deit", "standard", "none", {0: 300})
    made.add("deit", "standard", "kd", {0: "failed"})
    made.add("deit", "standard", "attn_copy", {0: None})
    board = build_board([folder := made.save()], folder / "report")
    assert [(r.key.method, r.status) for r in board.rows[1:]] == [("attn_copy", "missing"), ("kd", "failed")]
    assert summary(board)[0].startswith("Nothing can be compared yet")


def test_rows_are_sorted_by_delta(board: Board) -> None:
    """Gains stand above the baselines, losses below, whatever their accuracy."""
    rows = board.rows
    deltas = [r.delta.interval.mean if r.delta else 0.0 for r in rows if r.is_baseline or r.delta]
    assert deltas == sorted(deltas, reverse=True)


def test_native_is_standard_is_one_run_and_said(board: Board) -> None:
    """A teacher without components has one row for both students in what people read, and two in the CSV."""
    shown = [r for r in board.groups()["digits", "micro_short"] if r.key.teacher == "micro/mae"]
    assert {r.key.student for r in shown if not r.is_baseline} == {"standard"}
    assert all("native is standard" in r.remarks for r in shown if not r.is_baseline)
    assert row(board, "attn_copy", "native", "micro/mae").same_as == "standard"
    assert row(board, "attn_copy", "native", "micro/clip").same_as is None


def test_a_shared_baseline_is_shown_once(board: Board) -> None:
    """The baseline that five teachers share is one row that says so."""
    rows = board.groups()["digits", "micro_short"]
    remarks = [r.remarks for r in rows if r.is_baseline]
    assert [("for 5 teachers" in r) for r in remarks].count(True) == 1
    assert {("for micro/clip",), ("for micro/dinov2",)} <= set(remarks)


def test_families_average_teachers_within_a_seed(bench: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two teachers of one family are one observation a seed, not two."""
    made = bench()
    plan = made._plan
    monkeypatch.setattr(made, "_plan", lambda: _one_family(plan()))
    for teacher, shift in (("deit", 12), ("mae", 6)):
        made.add(teacher, "standard", "none", {0: 300, 1: 302, 2: 304})
        made.add(teacher, "standard", "attn_copy", {0: 300 + shift, 1: 302 + shift, 2: 304 + shift + 2})
    found = family(made.save(), "deit", "attn_copy")
    assert found.teachers == ("micro/deit", "micro/mae")
    assert found.delta.interval.n == 3
    assert found.delta.by_seed == pytest.approx({0: 2.5, 1: 2.5, 2: 1100 / 360})


def _one_family(plan: Any) -> Any:
    facts = {name: f.model_copy(update={"family": "deit"}) for name, f in plan.teachers.items()}
    return plan.model_copy(update={"teachers": facts})


def test_own_weights_count_for_no_family(bench: Start) -> None:
    """A teacher with weights of one's own has a row and no part in a family's verdict."""
    made = bench()
    made.own_weights = True
    made.add("deit", "standard", "none", {0: 300, 1: 302})
    made.add("deit", "standard", "attn_copy", {0: 320, 1: 322})
    folder = made.save()
    assert row(folder, "attn_copy").delta is not None
    assert build_board([folder], folder / "report").families == ()


def test_resampled_interval_knows_of_images(board: Board) -> None:
    """The interval over images and seeds comes from the predictions, and is wider than seeds alone say."""
    found = row(board, "attn_copy")
    assert found.resampled is not None
    assert found.delta is not None
    assert found.resampled.mean == pytest.approx(found.delta.interval.mean)
    assert (found.resampled.half_width or 0) > (found.delta.interval.half_width or math.inf)


def test_seeds_of_two_folders_come_together(bench: Start) -> None:
    """One suite run with other seeds elsewhere adds seeds to the same rows."""
    folders = []
    for name, seeds in (("a", (0, 1)), ("b", (2, 3))):
        made = bench(name)
        made.add("deit", "standard", "none", dict.fromkeys(seeds, 300))
        made.add("deit", "standard", "kd", {seed: 310 + seed for seed in seeds})
        folders.append(made.save())
    rows = build_board(folders, folders[0] / "report").rows
    assert [(r.key.method, r.done) for r in rows] == [("kd", (0, 1, 2, 3)), ("none", (0, 1, 2, 3))]


def two(bench: Start, change: Callable[[Any], None], **options: Any) -> list[Path]:
    """Two folders with one cell each, the second one changed."""
    first, second = bench("a"), bench("b", **options)
    change(second)
    for made, seed in ((first, 0), (second, 1)):
        made.add("deit", "standard", "none", {seed: 300})
        made.add("deit", "standard", "kd", {seed: 310})
    return [first.save(), second.save()]


def test_other_splits_are_never_mixed(bench: Start) -> None:
    """Results on other samples are an error that names both records and both hashes."""
    folders = two(bench, lambda _: None, split_hash="t" * 16)
    with pytest.raises(MixedError, match=r"data set digits.*/a/records/.*/b/records/.*ssss.*tttt"):
        build_board(folders, folders[0] / "report")
    assert not (folders[0] / "report").exists()


def test_other_weights_are_never_mixed(bench: Start) -> None:
    """Results with other weights of one teacher are an error that names both."""
    folders = two(bench, lambda made: setattr(made, "weights", "cd" * 32))
    with pytest.raises(MixedError, match=r"teacher micro/deit.*other weights.*abab.*cdcd"):
        build_board(folders, folders[0] / "report")


def test_one_name_with_two_meanings_is_refused(bench: Start) -> None:
    """A method with other settings under the same name is an error that says where they differ."""
    folders = two(bench, lambda made: made.settings.update(weight=3))
    with pytest.raises(MixedError, match=r"means two things.*differ in method"):
        build_board(folders, folders[0] / "report")


def test_two_versions_are_never_mixed(bench: Start) -> None:
    """The same cell and seed made by another version of a method is an error that names the version."""
    folders = []
    for name, version in (("a", 1), ("b", 2)):
        made = bench(name)
        made.method_version = version
        made.add("deit", "standard", "none", {0: 300})
        made.add("deit", "standard", "kd", {0: 310})
        folders.append(made.save())
    with pytest.raises(MixedError, match="method 1 and 2"):
        build_board(folders, folders[0] / "report")


def test_other_recipes_stand_apart(bench: Start) -> None:
    """Two recipes give two leaderboards, and no delta across them."""
    longer = Recipe(name="micro_long", epochs=80, batch_size=64, lr=1e-3)
    folders = two(bench, lambda _: None, recipe=longer)
    board = build_board(folders, folders[0] / "report")
    assert list(board.groups()) == [("digits", "micro_long"), ("digits", "micro_short")]
    assert [protocol.recipe for protocol in board.protocols] == ["micro_long", "micro_short"]


def test_stale_records_do_not_count(bench: Start) -> None:
    """A record of an older version is no result, and the row says that it is stale."""
    old = bench()
    old.add("deit", "standard", "none", {0: 300})
    old.add("deit", "standard", "kd", {0: 310})
    old.save()
    new = bench()
    new.method_version = 2
    new.add("deit", "standard", "none", {0: 300})
    new.add("deit", "standard", "kd", {0: None})
    found = row(new.save(), "kd")
    assert (found.stale, found.status, found.delta) == ((0,), "missing", None)
    assert "1 of 1 stale" in found.remarks


def test_damaged_records_are_named_and_left_where_they_are(full: Path) -> None:
    """A report touches no record: a damaged one is missing, named in the notes, and stays."""
    path = min((full / "records").iterdir())
    path.write_bytes(path.read_bytes()[:-9])
    files = write_report([full], full / "report")
    assert path.exists()
    text = files[0].read_text()
    assert f"damaged, not counted: {path.name}: truncated" in text
    assert str(full) not in text


def test_folders_without_or_with_a_damaged_plan(tmp_path: Path, full: Path) -> None:
    """No plan is bad input; a damaged one is named; nothing is written in either case."""
    with pytest.raises(BadInputError, match=r"plan\.json: no such file"):
        write_report([tmp_path / "nothing"], tmp_path / "report")
    (full / "plan.json").write_bytes(b"{}")
    with pytest.raises(DamagedFileError, match=r"plan\.json"):
        write_report([full], tmp_path / "report")
    assert not (tmp_path / "report").exists()


def test_csv_holds_plain_numbers(board: Board) -> None:
    """Every cell has a line, refusals too; numbers can be parsed, accuracies are fractions."""
    lines = list(csv.DictReader(io.StringIO(render(board)["leaderboard.csv"].decode())))
    assert len(lines) == len(board.rows) + len(board.refusals)
    (found,) = [
        line
        for line in lines
        if (line["teacher"], line["student"], line["method"]) == ("micro/deit", "standard", "attn_copy")
    ]
    expected = row(board, "attn_copy")
    assert expected.top1 is not None
    assert expected.delta is not None
    assert float(found["top1"]) == expected.top1.mean
    assert float(found["delta_pp_low"]) == expected.delta.interval.low
    assert float(found["top1 digits/rotate"]) == expected.shifts["digits/rotate"]
    refused = [line for line in lines if line["status"].startswith("refused")]
    assert {line["reason"] for line in refused} == {refusal.reason for refusal in board.refusals}
    assert all(line["top1"] == "" for line in refused)


@pytest.mark.parametrize(("group", "told"), [("published", True), ("micro", False)])
def test_what_the_teacher_has_seen_is_told(bench: Start, group: str, told: bool) -> None:  # noqa: FBT001
    """A row whose teacher knows the pictures says so; its baseline and a micro teacher's row do not."""
    made = bench()
    made.group, made.seen = group, ("imagenet1k", "tiny_imagenet")
    made.dataset = made.dataset.model_copy(update={"pictures": ("tiny_imagenet", "web")})
    made.add("deit", "standard", "none", {0: 300, 1: 306})
    made.add("deit", "standard", "kd", {0: 309, 1: 324})
    source = build_board([made.save()], made.store.folder / "report")
    assert ("teacher has seen tiny_imagenet" in row(source, "kd").remarks) == told
    assert not any("seen" in remark for remark in row(source, "none").remarks)
