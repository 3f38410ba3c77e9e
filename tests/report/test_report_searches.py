"""Settings chosen on val, and how strongly a method pulls: shown whole, and counted for nothing else."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.report.conftest import IMAGES, Bench, Outcome
from vitkd_bench.report import Board, MixedError, build_board, render
from vitkd_bench.report.gradients import FAIR, gradient_ratio, told
from vitkd_bench.report.heatmaps import heatmaps
from vitkd_bench.report.summary import summary
from vitkd_bench.spec import Cell, MethodUse, Plan, Record, Run, Search

METHOD = "attn_distill"
SEEDS = (100, 101)


class Searched(Bench):
    """A folder in which the weight of `attn_distill`, then its layers, were searched for."""

    budget = 9
    waiting = 0

    def __init__(self, folder: Path) -> None:
        """Start with no search."""
        super().__init__(folder)
        self.searches: list[Search] = []
        self.norms: dict[str, dict[str, float]] = {}
        self.trial_weights: str | None = None

    def search(
        self,
        teacher: str,
        setting: str,
        results: Mapping[Any, Sequence[Outcome]],
        *,
        student: str = "standard",
        held: Mapping[str, Any] | None = None,
        chosen: int | None = None,
    ) -> None:
        """Plan the trials of one setting, and say how each ended: right answers on val, by seed."""
        runs = []
        for value, outcomes in results.items():
            use = MethodUse(name=METHOD, version=1, settings={**(held or {}), setting: value})
            plain = [self.run(teacher, student, METHOD, seed) for seed in SEEDS]
            tried = [run.with_method(use, run.teacher) for run in plain]
            self.runs |= {run.id: run for run in tried}
            self.outcomes |= {run.id: outcome for run, outcome in zip(tried, outcomes, strict=True)}
            runs.append({str(run.seed): run.id for run in tried})
        names = {"teacher": f"micro/{teacher}", "student": student, "method": METHOD, "dataset": "digits"}
        rest = {"setting": setting, "values": list(results), "runs": runs, "chosen": chosen}
        self.searches.append(Search.parse({**names, **rest, "held": dict(held or {})}))

    def add_chosen(self, teacher: str, settings: dict[str, Any], outcomes: Mapping[int, Outcome]) -> None:
        """Plan the cell at the chosen values."""
        self.settings = settings
        self.add(teacher, "standard", METHOD, outcomes)
        self.settings = {}

    def _plan(self) -> Plan:
        resolved = {"suite": {"search": {"seeds": list(SEEDS), "budget": self.budget}}}
        more = {"searches": tuple(self.searches), "waiting": self.waiting, "resolved": resolved}
        return super()._plan().model_copy(update=more)

    def _record(self, run: Run, right: int | None) -> Record:
        record = super()._record(run, right)
        trial = run.seed in SEEDS
        metrics = {split: found for split, found in record.metrics.items() if split == "val" or not trial}
        changes: dict[str, Any] = {"metrics": metrics, "gradient_norms": self.norms.get(run.method.name, {})}
        if trial and self.trial_weights:
            changes["provenance"] = {**record.provenance, "teacher_weights_sha256": self.trial_weights}
        return record.model_copy(update=changes)


def made(folder: Path) -> Searched:
    """Two settings of one cell were chosen: weight 0.3 of three, then the first two layers of two."""
    bench = Searched(folder)
    base = {0: 300, 1: 305, 2: 310}
    bench.norms = {METHOD: {"labels": 2.0, "attention": 0.5}, "kd": {"labels": 0.5, "kd": 1.5}}
    bench.add("deit", "standard", "none", base)
    bench.search("deit", "weight", {0.3: (280, 260), 1.0: (250, 252), 3: (90, 110)}, chosen=0)
    bench.search("deit", "layers", {"all": (280, 260), "first:2": (288, 288)}, held={"weight": 0.3}, chosen=1)
    best = {seed: right + 12 for seed, right in base.items()}
    bench.add_chosen("deit", {"weight": 0.3, "layers": "first:2"}, best)
    bench.add("deit", "standard", "kd", {seed: right + 2 for seed, right in base.items()})
    return bench


@pytest.fixture
def board(tmp_path: Path) -> Board:
    """The content of a report on a finished search."""
    folder = made(tmp_path / "out").save()
    return build_board([folder], folder / "report")


def test_the_whole_sweep_is_there(board: Board) -> None:
    """Every value with its mean on val over the search's seeds, what was chosen, and what the cell spent."""
    weight, layers = board.searches
    assert {each.value: each.top1 for each in weight.tried} == pytest.approx(
        {0.3: 270 / IMAGES, 1.0: 251 / IMAGES, 3: 100 / IMAGES}
    )
    assert (weight.value, weight.asked) == ("0.3", "weight")
    assert (layers.value, layers.asked) == ("first:2", "layers (at weight 0.3)")
    assert {weight.spent, layers.spent} == {"5 of 9"}


def test_the_row_says_what_was_chosen_and_how_it_pulls(board: Board) -> None:
    """Chosen settings and the ratio stand in the remarks and, as numbers, in the CSV."""
    rows = {row.key.method: row for row in board.rows}
    assert "chosen on val: weight 0.3, layers first:2" in rows[METHOD].remarks
    assert "gradient ratio 0.25" in rows[METHOD].remarks
    assert "gradient ratio 3: the weight is far from the labels' scale" in rows["kd"].remarks
    lines = {x["method"]: x for x in csv.DictReader(io.StringIO(render(board)["leaderboard.csv"].decode()))}
    assert lines[METHOD]["chosen_on_val"] == '{"weight": 0.3, "layers": "first:2"}'
    assert [lines[name]["trials"] for name in (METHOD, "kd", "none")] == ["5", "0", "0"]
    assert [lines[name]["gradient_norm_ratio"] for name in (METHOD, "kd", "none")] == ["0.25", "3.0", ""]


def test_trials_count_for_nothing_else(board: Board, tmp_path: Path) -> None:
    """Without the searches and their records, the same rows, verdicts, heatmaps and counts of runs."""
    bench = made(tmp_path / "plain")
    bench.runs = {id_: run for id_, run in bench.runs.items() if run.seed not in SEEDS}
    bench.searches = []
    folder = bench.save()
    plain = build_board([folder], folder / "report")
    assert board.families == plain.families
    assert heatmaps(board) == heatmaps(plain)
    assert [(r.key, r.top1, r.delta, r.wall_s) for r in board.rows] == [
        (r.key, r.top1, r.delta, r.wall_s) for r in plain.rows
    ]
    assert board.provenance == plain.provenance
    assert {key: board.counts[key] for key in plain.counts} == plain.counts
    assert board.counts["planned"] == board.counts["done"] == 9
    assert (board.counts["trials"], board.counts["trials_done"]) == (10, 10)
    assert summary(board)[-1] == "Basis: 9 of 9 runs done; to choose settings on val 10 of 10 trials done."
    assert summary(plain)[-1] == "Basis: 9 of 9 runs done."
    assert plain.searches == ()


def test_every_page_shows_the_sweep(board: Board) -> None:
    """Markdown, LaTeX and the page have it, the chosen value marked, and who spent nothing."""
    pages = {name: content.decode() for name, content in render(board).items() if "figures" not in name}
    for name in ("leaderboard.md", "leaderboard.tex", "index.html"):
        assert "Settings chosen on val" in pages[name], name
        assert "1: 69.7" in pages[name], name
    assert r"0.3: 75.0\*; 1: 69.7; 3: 27.8" in pages["leaderboard.md"]
    assert '<li class="chosen">first:2: 80.0*</li>' in pages["index.html"]
    assert "settings as the suite gives them: kd." in pages["index.html"]
    assert "under seeds 100, 101, at most 9 trials a method and cell" in pages["leaderboard.md"]
    assert "<b>10</b>of 10 trials done" in pages["index.html"]


@pytest.mark.parametrize(
    ("outcome", "value", "shown"),
    [(None, "not chosen yet: 1 of 2 open", "1: –"), ("failed", "not chosen: a trial failed", "1: failed")],
)
def test_an_open_search_says_so(tmp_path: Path, outcome: Outcome, value: str, shown: str) -> None:
    """Half a sweep is shown as such, with the cells that wait for it, and a failed trial by its name."""
    bench = Searched(tmp_path / "out")
    bench.search("deit", "weight", {0.3: (280, 260), 1.0: (250, outcome)})
    bench.waiting = 2
    folder = bench.save()
    board = build_board([folder], folder / "report")
    (row,) = board.searches
    assert row.value == value
    assert row.tried[0].top1 == pytest.approx(270 / IMAGES)
    assert row.tried[1].top1 is None
    page = render(board)["index.html"].decode()
    assert f"<li>{shown}</li>" in page
    assert "No cell is planned yet: settings are being chosen on val." in page
    assert "<b>2</b>cells waiting for trials" in page
    (told,) = summary(board)
    assert told.startswith("Nothing can be compared yet: 0 of 0 runs done; to choose settings on val ")
    assert told.endswith("3 of 4 trials done, for which 2 cells wait.")
    failed = [("trial of micro/deit:standard:attn_distill:digits weight=1",)] if outcome else []
    assert [found.cells for found in board.failed] == failed


def test_students_that_share_their_trials_share_a_row(tmp_path: Path) -> None:
    """A native student that is the standard one adds no row; another teacher does."""
    bench = made(tmp_path / "out")
    first = bench.searches[0]
    bench.searches.append(first.model_copy(update={"student": "native"}))
    bench.search("dino", "weight", {0.3: (280, 260), 1.0: (250, 252)}, chosen=0)
    folder = bench.save()
    rows = build_board([folder], folder / "report").searches
    assert [(row.teacher, row.also) for row in rows] == [
        ("micro/deit", ("native",)),
        ("micro/deit", ()),
        ("micro/dino", ()),
    ]


def test_folders_of_one_search_show_it_once_and_chosen(tmp_path: Path) -> None:
    """Of an earlier and a later state of the same search the one that has chosen is shown."""
    early, late = made(tmp_path / "early"), made(tmp_path / "late")
    early.searches = [early.searches[0].model_copy(update={"chosen": None})]
    folders = [early.save(), late.save()]
    for order in (folders, folders[::-1]):
        board = build_board(order, tmp_path / "report")
        assert [row.value for row in board.searches] == ["0.3", "first:2"]
        assert board.counts["trials"] == 10


def test_a_trial_that_is_a_run_elsewhere_counts_as_a_run(tmp_path: Path) -> None:
    """What one suite trains as a trial and another as a cell is one run, and no trial."""
    one, other = made(tmp_path / "one"), Searched(tmp_path / "other")
    id_ = one.searches[0].runs[1]["100"]
    other.runs, other.outcomes = {id_: one.runs[id_]}, {id_: 250}
    names = {"teacher": "micro/deit", "student": "standard", "method": METHOD, "dataset": "digits"}
    other.cells.append(Cell.parse({**names, "runs": {"100": id_}}))
    one.cells = [cell for cell in one.cells if cell.method != METHOD]  # other settings under one name
    board = build_board([one.save(), other.save()], tmp_path / "report")
    assert board.counts["trials"] == 9


def test_trials_on_other_weights_are_no_ground_for_a_choice(tmp_path: Path) -> None:
    """Weights that differ between trials and cells are refused, as they are between cells."""
    bench = made(tmp_path / "out")
    bench.trial_weights = "cd" * 32
    folder = bench.save()
    with pytest.raises(MixedError, match=r"teacher micro/deit: run .* have other weights"):
        build_board([folder], folder / "report")


def test_a_control_with_other_settings_than_its_method_says_so(tmp_path: Path) -> None:
    """The method's weight was chosen on val, its control's was not."""
    bench = made(tmp_path / "out")
    bench.add("deit", "standard", "attn_copy", {0: 301, 1: 302, 2: 303})
    plan = bench._plan()
    changes = {"name": METHOD, "control_of": METHOD, "control": "shuffled_maps", "claim": "that maps matter"}
    control = plan.methods["attn_copy"].model_copy(update=changes)
    folder = bench.save()
    bench.store.write_plan(plan.model_copy(update={"methods": {**plan.methods, "attn_copy": control}}))
    (row,) = build_board([folder], folder / "report").controls
    assert row.advantage is not None
    assert "the method itself has other settings: weight 0.3, layers first:2" in row.remarks


NORMS = st.dictionaries(
    st.sampled_from(["labels", "kd", "attention", "peers", "own"]),
    st.just(0.0) | st.floats(1e-6, 1e6),  # nothing, or a norm that float32 tells from nothing
    max_size=5,
)


@given(NORMS, st.floats(0.01, 100))
def test_a_ratio_scales_with_the_methods_weight(norms: dict[str, float], by: float) -> None:
    """What is the method's own counts above, labels and kd below; no ratio without both."""
    task = norms.get("labels", 0.0) + norms.get("kd", 0.0)
    own = {part: norm for part, norm in norms.items() if part not in {"labels", "kd"}}
    ratio = gradient_ratio(norms, "own")
    assert (ratio is None) == (not own or task == 0)
    if ratio is not None:
        assert ratio * task == pytest.approx(sum(own.values()))
        scaled = gradient_ratio({**norms, **{part: by * norm for part, norm in own.items()}}, "own")
        assert scaled == pytest.approx(by * ratio)
        printed = float(told(ratio).removeprefix("gradient ratio ").partition(":")[0])
        assert ("far from" in told(ratio)) == (not FAIR[0] <= printed <= FAIR[1])


def test_kd_is_the_task_of_others_and_the_own_part_of_kd() -> None:
    """The same part of the loss stands on the side where it belongs; labels alone have no ratio."""
    norms = {"labels": 1.0, "kd": 3.0, "vitkd": 2.0}
    assert gradient_ratio(norms, "vitkd") == 0.5
    assert gradient_ratio({"labels": 1.0, "kd": 3.0}, "kd") == 3.0
    assert gradient_ratio({"labels": 1.0, "kd": 3.0}, "vitkd") is None
    assert gradient_ratio({"funmatch": 1.0}, "funmatch") is None
    assert gradient_ratio({}, "none") is None
