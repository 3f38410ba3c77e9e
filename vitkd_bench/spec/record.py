"""What one run leaves behind."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from vitkd_bench.spec.base import Frozen

RECORD_SCHEMA = 1
NOT_PART_OF_THE_RESULT = ("created", "cost", "provenance")
"""Top-level fields in which two executions of one run may differ; all others agree to the last bit."""


class CellNames(Frozen):
    """Canonical names; the suite's own stand in the plan. `teacher` is None if none is read."""

    teacher: str | None = None
    student: str
    method: str
    dataset: str
    recipe: str


class Failure(Frozen):
    """Why a run ended without a result. `last_good_loss` is the last finite one."""

    kind: str
    message: str
    step: int | None = None
    last_good_loss: float | None = None


class Record(Frozen):
    """One run's record, `OUT/records/<run id>.json`.

    `metrics` and `metrics_val_selected` are by split (`val`, `test`, `digits/rotate` ...) and then by name:
    `n` a count, `top1`, `top5`, `mean_per_class`, `ece`, `agreement` fractions in [0, 1], `nll` and `kl`
    in nats, `brier` in [0, 2]; `<name>_se` is a standard error over samples in the same unit. Of a shift set
    `top1_over_all`, `clean_<name>` (the same classes without shift), `drop`, `drop_over_all`; of a long tail
    `head_top1`, `medium_top1`, `tail_top1`. Records that were made earlier have fewer names. `scoring` says
    by split how a shift set was scored: `rule` in words, `classes` the hash of its class map, `clean_split`,
    `pictures` the collections that its images are of, `images` the hash of their ids and labels, `left_out`
    how many classes and images are not of the training classes, and how many `skip` names; a split that is
    not there is scored over all classes, and a drop of it is from `test`. `scored` names the output that was
    scored, and its weights.
    `curve` holds one entry an epoch. `gradient_norms` are those of the parts of the loss, weights included,
    on the student over the first hundredth of the steps. `baseline` is the run id of `none` with the same
    student, data, recipe, seed.
    """

    schema_: int = Field(default=RECORD_SCHEMA, alias="schema")
    run_id: str
    cell_key: str
    status: Literal["done", "failed"]
    cell: CellNames
    facts: dict[str, Any] = {}
    versions: dict[str, int]
    seed: int
    baseline: str | None = None
    protocol: str
    label_space: str
    split_hash: str | None = None
    student_fingerprint: str | None = None
    needs_teacher_at_test: bool = False
    config: dict[str, Any]
    metrics: dict[str, dict[str, float]] = {}
    metrics_val_selected: dict[str, Any] = {}
    scoring: dict[str, dict[str, Any]] = {}
    scored: str = ""
    curve: tuple[dict[str, float], ...] = ()
    gradient_norms: dict[str, float] = {}
    weights_sha256: str | None = None
    cost: dict[str, Any] = {}
    provenance: dict[str, Any] = {}
    created: str
    notes: tuple[str, ...] = ()
    error: Failure | None = None

    @model_validator(mode="after")
    def _says_what_happened(self) -> Record:
        if (self.status == "failed") != (self.error is not None):
            raise ValueError("a failed record, and only that, has an error")
        if self.status == "done" and not self.metrics:
            raise ValueError("a finished record has metrics")
        return self

    def result(self) -> dict[str, Any]:
        """The part that two executions of the same run share bit for bit."""
        return {k: v for k, v in self.plain().items() if k not in NOT_PART_OF_THE_RESULT}
