"""The only training loop: a pack in, records out."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from vitkd_bench.contracts import Batch, Features
from vitkd_bench.engine.evaluated import Clean, Evaluated, clean_scores
from vitkd_bench.engine.evaluation import (
    log_probabilities,
    neighbours,
    split_metrics,
    teacher_log_probabilities,
)
from vitkd_bench.engine.kept import evaluated_again, kept_student
from vitkd_bench.engine.options import Interrupted, PackOptions
from vitkd_bench.engine.outcome import Outcome, digest, done_record, failed_record, weights_bytes
from vitkd_bench.engine.parts import Part, parts_of
from vitkd_bench.engine.probing import fit_probe
from vitkd_bench.engine.provenance import provenance
from vitkd_bench.engine.setting import Setting, settle
from vitkd_bench.engine.storing import store_outputs
from vitkd_bench.engine.trainee import Trainee
from vitkd_bench.measures import NotFiniteError
from vitkd_bench.networks import ViTNetwork
from vitkd_bench.pipeline import load, ready
from vitkd_bench.records import Preparations, Store, write_atomically
from vitkd_bench.registry import METHODS, load_extension
from vitkd_bench.spec import Failure, Pack, Plan, Record, Run, VitkdError

HEARTBEAT_S = 1.0


def is_done(run: Run, plan: Plan, store: Store, preparations: Preparations) -> bool:
    """Say whether a run needs no work: what the plan asks of it is there and sound."""
    made = run.id not in plan.preparations or preparations.ready(run.id) is not None
    return made and (run.id not in plan.runs or store.serves(plan, run.id))


def run_pack(plan: Plan, pack: Pack, store: Store, preparations: Preparations, options: PackOptions) -> None:
    """Train all unfinished runs of a pack and write a record for each, done or failed.

    A preparation is written into `preparations`; its failure is a record in `store`.

    Raises:
        Interrupted: `options.should_stop` turned true; checkpoints of the last saved epochs are kept.
        VitkdError: data or weights cannot be read, which no run of the pack survives.
    """
    torch.set_num_threads(options.threads)
    for extension in plan.extensions:
        load_extension(Path(extension))
    everything = plan.all_runs()
    runs = [everything[id_] for id_ in pack.runs if not is_done(everything[id_], plan, store, preparations)]
    passes = {"probe": fit_probe, "store": store_outputs}
    if runs and (once := passes.get(METHODS.get(runs[0].method.name).kind)):
        for run in runs:
            once(plan, run, store, preparations, options)
    elif runs:
        setting = settle(plan, runs, preparations, options)
        _Loop(plan, store, preparations, options, setting).run()


@dataclass
class _Loop:
    plan: Plan
    store: Store
    preparations: Preparations
    options: PackOptions
    setting: Setting
    _last_beat: float = 0.0
    _last_checkpoint: float = field(default_factory=time.monotonic)

    @property
    def teacher(self) -> ViTNetwork | None:
        return self.setting.teacher

    @property
    def trainees(self) -> list[Trainee]:
        return [trainee for trainee in self.setting.trainees if trainee.alive]

    def run(self) -> None:
        recipe = self.setting.recipe
        for trainee in self.setting.trainees:
            self._prepare(trainee)
        for epoch in range(recipe.epochs):
            if any(trainee.epoch == epoch for trainee in self.trainees):
                self._epoch(epoch)
        if self.trainees:
            self._finish()
        for trainee in self.setting.trainees:
            if trainee.failure is not None:
                self._write_failure(trainee, trainee.failure)
        for run, failure in self.setting.stillborn:
            self.store.write(failed_record(run, self.setting.cell.teacher if run.teacher else None, failure))

    def _prepare(self, trainee: Trainee) -> None:
        try:
            trainee.prepare(self.teacher, self._plain)
            if self.setting.pretraining:
                trainee.untrained_knn = self._neighbours(trainee)
        except Exception as error:  # noqa: BLE001  (a method's own fit: its failure is this run's alone)
            trainee.fail(type(error).__name__, f"fit: {error}")
            return
        id_, split_hash = trainee.run.id, self.setting.splits.split_hash
        kept = None if self.setting.pretraining else kept_student(self.store, trainee, split_hash)
        path = self.store.weights_path(id_) if kept else self.store.checkpoint_path(id_)
        if not path.exists():
            return
        try:
            if kept:
                trainee.take_up(*kept)
            else:
                trainee.restore(self.store.read_sealed(path))
        except Exception as error:  # noqa: BLE001  (unpickling raises whatever strange bytes lead it to)
            why = " ".join(str(error).split())
            reason = f"{'weights' if kept else 'checkpoint'} of run {id_} cannot be used: {why}"
            self.store.damage.append(f"{reason}; set aside as {self.store.set_aside(path, reason)}")
            fresh = self.setting.fresh(trainee.run)
            self.setting.trainees[self.setting.trainees.index(trainee)] = fresh
            fresh.prepare(self.teacher, self._plain)
            fresh.untrained_knn = trainee.untrained_knn

    def _plain(self) -> Iterator[Batch]:
        return self.setting.showing.plain(self.setting.splits.train, self.setting.recipe.batch_size)

    def _epoch(self, epoch: int) -> None:
        active = [trainee for trainee in self.trainees if trainee.epoch == epoch]
        stream = self.setting.stream(epoch)
        sharing = [t for t in active if not t.method.reads_alone(t.config)]
        taps = frozenset[str]().union(*(trainee.teacher_taps() for trainee in sharing))
        for batch in self._waited(load(stream.raw, len(stream), self.setting.showing.loading)):
            if self.options.should_stop():
                raise Interrupted
            shown = ready(batch, self.setting.device)
            for part in parts_of(shown, self.setting.recipe.accumulate):
                self._part(active, part, taps, len(stream))
            self._beat(active, epoch, stream_done=batch.progress)
        self._close_epoch([trainee for trainee in active if trainee.alive])

    def _waited(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """Give batches as they come, and add up the seconds that the loop waits for them."""
        while True:
            began = time.perf_counter()
            batch = next(batches, None)
            self.setting.waited_s += time.perf_counter() - began
            if batch is None:
                return
            yield batch

    def _part(self, active: list[Trainee], part: Part, taps: frozenset[str], steps_per_epoch: int) -> None:
        read = self._read_teacher(part.batch, taps)
        for trainee in active:
            if trainee.alive:
                trainee.train_step(part, read, steps_per_epoch)
        if self.teacher is not None:
            self.teacher.clear()

    def _read_teacher(self, batch: Batch, taps: frozenset[str]) -> Features | None:
        return self.setting.read(batch, taps)

    def _close_epoch(self, active: list[Trainee]) -> None:
        for trainee, metrics in self._validated(active):
            trainee.end_epoch({k: v for k, v in metrics.items() if k in {"top1", "nll"}})
        active = [trainee for trainee in active if trainee.alive]
        self._beat(active, active[0].epoch - 1 if active else 0, force=True)
        if time.monotonic() - self._last_checkpoint >= self.options.checkpoint_s:
            for trainee in active:
                if trainee.epoch < self.setting.recipe.epochs:
                    self.store.write_sealed(self.store.checkpoint_path(trainee.run.id), trainee.state())
            self._last_checkpoint = time.monotonic()

    def _validated(self, active: list[Trainee]) -> list[tuple[Trainee, dict[str, float]]]:
        """Measure val; a student whose outputs are no numbers has failed and is left out."""
        if not active or not self.setting.has_head or self.setting.pretraining:
            return [(trainee, {}) for trainee in active]
        val = self.setting.splits.val
        outputs = log_probabilities(active, self.teacher, val, self.setting.showing)
        measured = [
            (trainee, self._measured(trainee, partial(split_metrics, output, val, None)))
            for trainee, output in zip(active, outputs, strict=True)
        ]
        return [(trainee, metrics) for trainee, metrics in measured if metrics is not None]

    def _measured(self, trainee: Trainee, measure: Callable[[], dict[str, float]]) -> dict[str, float] | None:
        try:
            return measure()
        except NotFiniteError as error:
            trainee.fail("non_finite_output", str(error))
        except VitkdError as error:
            trainee.fail("measure", str(error))
        return None

    def _beat(
        self, active: list[Trainee], epoch: int, *, stream_done: float = 0.0, force: bool = False
    ) -> None:
        if not force and time.monotonic() - self._last_beat < HEARTBEAT_S:
            return
        self._last_beat = time.monotonic()
        for trainee in active:
            last = trainee.curve[-1] if trainee.curve else {}
            rate = trainee.images / trainee.seconds if trainee.seconds else 0.0
            self.store.beat(
                trainee.run.id,
                {
                    "epoch": epoch + 1,
                    "epochs": self.setting.recipe.epochs,
                    "progress": stream_done or (epoch + 1) / self.setting.recipe.epochs,
                    "accuracy": last.get("val_top1"),
                    "loss": trainee.last_good_loss,
                    "images_per_s": round(rate, 1),
                },
            )

    def _finish(self) -> None:
        if self.setting.pretraining:
            for trainee in self.trainees:
                self._finish_pretraining(trainee)
            return
        trainees = self.trainees
        outcomes = self._evaluate_last(trainees)
        if self.setting.wanted:
            self._evaluate_selected(trainees, outcomes)
        for trainee, outcome in zip(trainees, outcomes, strict=True):
            outcome.waited_s = self.setting.waited_s
            record = self._record(trainee, outcome)
            if not trainee.alive:
                continue  # its outputs on some split are no numbers
            self._keep(trainee, record, outcome)
            self._forget(trainee)

    def _record(self, trainee: Trainee, outcome: Outcome) -> Record:
        known = self.setting.teacher_weights
        if trainee.earlier is not None:
            return evaluated_again(trainee.earlier, outcome, provenance(trainee.device, known))
        return done_record(trainee, outcome, self.setting.splits.split_hash, known)

    def _keep(self, trainee: Trainee, record: Record, outcome: Outcome) -> None:
        """Put a finished run where it is asked for: among the preparations, among the records, or both."""
        weights = weights_bytes(trainee.trained())
        if self.setting.preparing:
            self.preparations.write(record, weights)
        if trainee.run.id in self.plan.runs:
            if self.plan.keep == "student":
                write_atomically(self.store.weights_path(trainee.run.id), weights)
            self.store.write(record, outcome.predictions)

    def _evaluate_last(self, trainees: list[Trainee]) -> list[Outcome]:
        outcomes = [Outcome(notes=list(self.setting.notes(trainee))) for trainee in trainees]
        clean: list[Clean | None] = [None] * len(trainees)
        for each in self.setting.evaluated():
            outputs = log_probabilities(trainees, self.teacher, each.examples, self.setting.showing)
            if each.name == "test":
                clean = [clean_scores(output, each.examples) for output in outputs]
            reference = self._reference(trainees[0], each)
            for trainee, outcome, output, beside in zip(trainees, outcomes, outputs, clean, strict=True):
                metrics = self._measured(trainee, partial(each.metrics, output, reference, beside))
                if metrics is not None:
                    outcome.add(each.name, metrics, each.scoring, each.predictions(output))
        return outcomes

    def _reference(self, trainee: Trainee, each: Evaluated) -> Tensor | None:
        """Give the teacher's log-probabilities, where it is read and its head knows the classes.

        Those of test are kept beside the runs' own: a baseline, which reads none, is compared with them.
        """
        if self.teacher is None or trainee.cell.teacher is None:
            return None
        found = teacher_log_probabilities(self.teacher, trainee.cell, each.examples, self.setting.showing)
        name = trainee.run.teacher_predictions
        if found is not None and name is not None and each.name == "test":
            packed = each.predictions(found)
            self.store.write_predictions(name, {f"test/{key}": array for key, array in packed.items()})
        return found

    def _evaluate_selected(self, trainees: list[Trainee], outcomes: list[Outcome]) -> None:
        """Measure test at the epoch that val would have chosen, beside the last epoch."""
        pairs = [(t, o) for t, o in zip(trainees, outcomes, strict=True) if t.earlier is None]
        if not pairs:
            return
        trainees, outcomes = [t for t, _ in pairs], [o for _, o in pairs]
        last = [copy.deepcopy(trainee.trained().state_dict()) for trainee in trainees]
        for trainee in trainees:
            if trainee.best is not None:
                trainee.trained().load_state_dict(trainee.best["weights"])
        test = self.setting.splits.test
        outputs = log_probabilities(trainees, self.teacher, test, self.setting.showing)
        for trainee, outcome, output, weights in zip(trainees, outcomes, outputs, last, strict=True):
            metrics = self._measured(trainee, partial(split_metrics, output, test, None))
            if trainee.best is not None and metrics is not None:
                chosen = {"epoch": trainee.best["epoch"], "val_top1": trainee.best["top1"]}
                outcome.val_selected = {**chosen, "test": metrics}
            trainee.trained().load_state_dict(weights)

    def _neighbours(self, trainee: Trainee) -> float:
        splits = self.setting.splits
        return neighbours(trainee.trained(), splits.train, splits.val, self.setting.showing)

    def _finish_pretraining(self, trainee: Trainee) -> None:
        splits = self.setting.splits
        outcome = Outcome(notes=list(self.setting.notes(trainee)))
        outcome.metrics["val"] = {
            "n": float(len(splits.val)),
            "knn_top1": self._neighbours(trainee),
            "untrained_knn_top1": trainee.untrained_knn,
        }
        if self.setting.has_head:
            output = log_probabilities([trainee], self.teacher, splits.val, self.setting.showing)[0]
            outcome.metrics["val"] |= split_metrics(output, splits.val, None)
        weights = weights_bytes(trainee.trained())
        record = done_record(trainee, outcome, splits.split_hash, self.setting.teacher_weights)
        if record.weights_sha256 != digest(weights):
            raise RuntimeError(f"run {trainee.run.id}: the weights changed while their record was written")
        self.preparations.write(record, weights)
        self._forget(trainee)

    def _write_failure(self, trainee: Trainee, failure: Failure) -> None:
        self.store.write(failed_record(trainee.run, trainee.cell.teacher, failure, trainee))
        self._forget(trainee)

    def _forget(self, trainee: Trainee) -> None:
        """Remove what only a running run needs; its record is written."""
        self.store.clear_live(trainee.run.id)
        self.store.clear_checkpoint(trainee.run.id)
