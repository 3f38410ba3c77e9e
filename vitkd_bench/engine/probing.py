"""A linear probe: one pass of a frozen teacher over the data, a head fitted to its features, a record."""

from __future__ import annotations

import time
from typing import Any

import safetensors.torch
import torch

from vitkd_bench.contracts import Examples
from vitkd_bench.engine.evaluation import features, labels_of, split_metrics
from vitkd_bench.engine.options import PackOptions
from vitkd_bench.engine.outcome import digest, failed_record, prepared_record
from vitkd_bench.engine.showing import Showing
from vitkd_bench.engine.teacher import read_teacher
from vitkd_bench.methods.linear_probe import LinearProbe, Probe, linear_probe
from vitkd_bench.networks import ViTNetwork
from vitkd_bench.pipeline import open_splits
from vitkd_bench.records import Preparations, Store
from vitkd_bench.spec import Failure, Plan, Run


def fit_probe(plan: Plan, run: Run, store: Store, preparations: Preparations, options: PackOptions) -> None:
    """Fit the head that a run of `linear_probe` stands for, and put it and its record into `preparations`.

    Features are those of images as the cell evaluates them; those of train that are decoded once are whole.
    A fit that fails leaves a failed record in `store`.

    Raises:
        VitkdError: data or the teacher's weights cannot be read.
    """
    began = time.perf_counter()
    read = read_teacher(plan, [run], preparations, torch.device(options.device))
    if read is None:
        raise TypeError(f"run {run.id}: a probe stands on a teacher, and its run names none")
    showing = Showing.of(options, run.student.image_size, read)
    side, crop = run.student.image_size, run.recipe.eval_crop
    splits = open_splits(run.dataset, options.roots, side, showing.others, crop)
    config = LinearProbe.Config.parse(run.method.settings, f"run {run.id}")
    train = _given(read.network, splits.train, showing)
    val = _given(read.network, splits.val, showing)
    classes = len(run.dataset.classes)
    try:
        probe = linear_probe(_arrays(train), _arrays(val), classes, config.strengths)
    except ValueError as error:
        failure = Failure(kind="probe", message=str(error))
        store.write(failed_record(run, read.contract, failure))
        return
    weights = safetensors.torch.save(
        {"weight": torch.tensor(probe.weight).float().contiguous(), "bias": torch.tensor(probe.bias).float()}
    )
    metrics = {"train": _measured(probe, train, splits.train), "val": _measured(probe, val, splits.val)}
    record = prepared_record(
        run,
        read.contract,
        metrics=metrics,
        split_hash=splits.split_hash,
        weights_sha256=digest(weights),
        teacher_weights=read.known,
        seconds=time.perf_counter() - began,
        device=showing.device,
        notes=(f"penalty {probe.strength:g}, the best on val of {len(config.strengths)}",),
    )
    preparations.write(record, weights)


def _given(network: ViTNetwork, examples: Examples, showing: Showing) -> tuple[torch.Tensor, torch.Tensor]:
    return features(network, examples, showing), labels_of(examples)


def _arrays(split: tuple[torch.Tensor, torch.Tensor]) -> Any:
    return split[0].numpy(), split[1].numpy()


def _measured(probe: Probe, split: tuple[torch.Tensor, torch.Tensor], examples: Examples) -> dict[str, float]:
    logits = split[0].double() @ torch.tensor(probe.weight).T + torch.tensor(probe.bias)
    return split_metrics(torch.log_softmax(logits, dim=-1).float(), examples, None)
