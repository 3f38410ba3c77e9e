"""One run in training: student, method, optimiser, and its own random state."""

from __future__ import annotations

import copy
import io
import math
import time
from typing import Any

import torch
from torch import Tensor, nn

from vitkd_bench.contracts import Batch, CellFacts, Control, Features, Method
from vitkd_bench.engine.average import AverageOf
from vitkd_bench.engine.controlled import make_control, picked
from vitkd_bench.engine.gradients import GradientNorms
from vitkd_bench.engine.optimiser import learning_rate, make_optimiser
from vitkd_bench.engine.parts import Part
from vitkd_bench.engine.randomness import GlobalState
from vitkd_bench.networks import ViTNetwork, create_student
from vitkd_bench.registry import METHODS
from vitkd_bench.spec import Failure, Record, Run, seeded


class NonFiniteLossError(Exception):
    """The loss is infinite or not a number."""


class Trainee:
    """A run between its first step and its record.

    Everything random in it comes from streams of its own seed, so what it learns does not depend on the pack.
    """

    def __init__(self, run: Run, cell: CellFacts, num_classes: int, device: torch.device) -> None:
        """Draw the student's and the method's weights."""
        self.run, self.cell, self.device = run, cell, device
        self.entry = METHODS.get(run.method.name)
        self.config = self.entry.method.Config.parse(run.method.settings, f"run {run.id}")
        self.network = self._student(num_classes, run.seed)
        with GlobalState.fresh(seeded(run.seed, "method"), device).swapped_in(device):
            self.method: Method = self.entry.method(self.config, cell)
            seeds = [seeded(run.seed, f"peer/{i}") for i in range(self.method.peers())]
            peers = [self._student(num_classes, seed) for seed in seeds]
            if peers:
                self.method.meet(peers)
            self.control: Control = make_control(run, cell)
            self.control.alter(self.method)
            if isinstance(self.method, nn.Module):
                self.method.to(device)
        inside = set(self.method.modules()) if isinstance(self.method, nn.Module) else set()
        self.peers = [peer for peer in peers if peer in inside]
        self.random = GlobalState.fresh(run.seed, device)
        self.optimiser: torch.optim.Optimizer | None = None
        self.average: AverageOf | None = None
        self.gradients = GradientNorms(run.recipe, cell.train_size)
        self.epoch = 0
        self.step_count = 0
        self.curve: list[dict[str, float]] = []
        self.best: dict[str, Any] | None = None
        self.failure: Failure | None = None
        self.earlier: Record | None = None
        self.last_good_loss: float | None = None
        self.untrained_knn = 0.0  # of a pretraining run, at its start; measured anew when it is resumed
        self.seconds = 0.0
        self.images = 0
        self._sums: dict[str, float] = {}
        self._steps_this_epoch = 0
        self._rate = 0.0

    def _student(self, num_classes: int, seed: int) -> ViTNetwork:
        run = self.run
        network = create_student(
            run.student,
            num_classes,
            run.dataset.pixels,
            seed,
            run.recipe.drop_path,
            run.recipe.initialisation,
        ).to(self.device)
        if run.recipe.checkpointing:
            network.checkpoint_blocks()
        if run.recipe.compile:
            network.module.compile()
        return network

    @property
    def modules(self) -> list[nn.Module]:
        """What is trained: the student, and the method if it has parameters."""
        return [self.network, *([self.method] if isinstance(self.method, nn.Module) else [])]

    @property
    def alive(self) -> bool:
        """Say whether the run has not failed."""
        return self.failure is None

    def prepare(self, teacher: ViTNetwork | None, batches: Any) -> None:
        """Let the method fit what it needs, then make the optimiser."""
        with self.random.swapped_in(self.device):
            if type(self.control).fit is not Control.fit:
                self.control.fit(teacher, batches())
            if type(self.method).fit is not Method.fit:
                self.method.fit(self.network, teacher, batches())
        self.optimiser = make_optimiser(self.network, self.method, self.run.recipe)
        if self.run.recipe.ema is not None:
            self.average = AverageOf(self.network, self.run.recipe.ema)

    def teacher_taps(self) -> frozenset[str]:
        """Name what is read of the teacher at every step, under a control what that needs for it."""
        return self.control.taps(self.method.teacher_taps())

    def seen(self, teacher: Features | None, ids: Tensor, batch: Batch | None = None) -> Features | None:
        """Give what the method sees of the teacher's features of images `ids`; no batch is given at test."""
        if teacher is None or self.run.method.control is None:
            return teacher
        labels, epoch = (batch.labels, batch.epoch) if batch else (None, 0)
        with torch.no_grad():
            return self.control.seen(picked(teacher, self.teacher_taps()), ids, labels, epoch)

    def train_step(self, part: Part, teacher: Features | None, steps_per_epoch: int) -> None:
        """Learn from a part of a batch, with a step after its last; a failure ends this run alone."""
        began = time.perf_counter()
        try:
            with self.random.swapped_in(self.device):
                self._step(part, teacher, steps_per_epoch)
        except NonFiniteLossError as error:
            self.fail("non_finite_loss", str(error))
        except Exception as error:  # noqa: BLE001  (a stranger's method may raise anything; the record says what)
            self.fail(type(error).__name__, str(error))
        finally:
            self.network.clear()
        self.seconds += time.perf_counter() - began
        self.images += len(part.batch.ids)

    def fail(self, kind: str, message: str) -> None:
        """End this run as failed at the present step."""
        self.failure = Failure(
            kind=kind,
            message=" ".join(message.split()),
            step=self.step_count,
            last_good_loss=self.last_good_loss,
        )

    def _step(self, part: Part, teacher: Features | None, steps_per_epoch: int) -> None:
        if self.optimiser is None:
            raise RuntimeError("prepare() was not called")
        if part.first:
            self._begin_step(self.optimiser, steps_per_epoch)
        losses = self._forward(part.batch, teacher)
        if part.share < 1:
            losses = {name: part.share * loss for name, loss in losses.items()}
        total = torch.stack(list(losses.values())).sum()
        self._note(total, losses, part)
        self.gradients.measure(self.network, losses, part, self.step_count)
        total.backward()
        if part.last:
            self._end_step(self.optimiser, part.batch)

    def _begin_step(self, optimiser: torch.optim.Optimizer, steps_per_epoch: int) -> None:
        self._rate = learning_rate(self.run.recipe, self.step_count, steps_per_epoch)
        for group in optimiser.param_groups:
            group["lr"] = self._rate * group.get("scale", 1.0)
        for module in self.modules:
            module.train()
        optimiser.zero_grad(set_to_none=True)

    def _end_step(self, optimiser: torch.optim.Optimizer, batch: Batch) -> None:
        if self.run.recipe.clip_grad is not None:
            self._clip(optimiser, self.run.recipe.clip_grad)
        optimiser.step()
        self.step_count += 1
        self.method.after_step(self.network, batch.progress)
        if self.average is not None:
            self.average.move(self.network)

    def _clip(self, optimiser: torch.optim.Optimizer, norm: float) -> None:
        """Clip the gradient of the student with what is learned for it, and by itself that of each peer.

        A peer that a method keeps whole is a network of its own: in one norm with it the student's step would
        depend on how many there are.
        """
        of_peers = {parameter for peer in self.peers for parameter in peer.parameters()}
        trained = [parameter for group in optimiser.param_groups for parameter in group["params"]]
        many = self.device.type == "cuda"  # on a CPU tensor by tensor, whose order of sums records rely on
        nn.utils.clip_grad_norm_([p for p in trained if p not in of_peers], norm, foreach=many)
        for peer in self.peers:
            nn.utils.clip_grad_norm_(peer.parameters(), norm, foreach=many)

    def _forward(self, batch: Batch, teacher: Features | None) -> dict[str, Tensor]:
        bf16 = self.run.recipe.precision == "bfloat16"
        seen = self.seen(teacher, batch.ids, batch)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=bf16):
            losses = self.control.step(self.method, self.network, seen, batch)
        return {name: part.float() for name, part in losses.items()}

    def _note(self, total: Tensor, losses: dict[str, Tensor], part: Part) -> None:
        value = total.item()
        if not math.isfinite(value):
            told = ", ".join(f"{name} {loss.item():.4g}" for name, loss in losses.items())
            raise NonFiniteLossError(f"loss is {value} at step {self.step_count} ({told})")
        self.last_good_loss = value if part.first else value + (self.last_good_loss or 0.0)
        for name, loss in (("loss", total), *losses.items()):
            key = name if name == "loss" else f"loss/{name}"
            self._sums[key] = self._sums.get(key, 0.0) + loss.item()
        self._steps_this_epoch += part.last

    def end_epoch(self, val: dict[str, float]) -> None:
        """Write the epoch into the curve, and remember the weights if val is the best so far."""
        means = {name: total / max(1, self._steps_this_epoch) for name, total in self._sums.items()}
        measured = {f"val_{name}": value for name, value in val.items()}
        self.curve.append({"epoch": float(self.epoch), "lr": self._rate, **means, **measured})
        self._sums, self._steps_this_epoch = {}, 0
        top1 = val.get("top1")
        if top1 is not None and (self.best is None or top1 > self.best["top1"]):
            self.best = {
                "epoch": self.epoch,
                "top1": top1,
                "weights": copy.deepcopy(self.trained().state_dict()),
            }
        self.epoch += 1

    def trained(self) -> ViTNetwork:
        """Give the network that is evaluated and kept."""
        result = self.method.result(self.average.network if self.average else self.network)
        if not isinstance(result, ViTNetwork):
            raise TypeError(
                f"{self.run.method.name}: result() must give a network, got {type(result).__name__}"
            )
        return result

    def state(self) -> bytes:
        """Write all that a resumed run needs."""
        if self.optimiser is None:
            raise RuntimeError("prepare() was not called")
        buffer = io.BytesIO()
        torch.save(
            {
                "network": self.network.state_dict(),
                "method": self.method.state_dict() if isinstance(self.method, nn.Module) else {},
                "optimiser": self.optimiser.state_dict(),
                "average": self.average.network.state_dict() if self.average else {},
                "random": (self.random.cpu, self.random.cuda),
                "epoch": self.epoch,
                "step_count": self.step_count,
                "curve": self.curve,
                "best": self.best,
                "seconds": self.seconds,
                "images": self.images,
                "last_good_loss": self.last_good_loss,
                "gradients": self.gradients.sums,
            },
            buffer,
        )
        return buffer.getvalue()

    def take_up(self, record: Record, weights: dict[str, Tensor]) -> None:
        """Be the student that an earlier execution of this run kept: trained, and only to be evaluated.

        Raises:
            RuntimeError: the weights are of another network.
        """
        self.trained().module.load_state_dict(weights)
        self.earlier, self.epoch, self.curve = record, self.run.recipe.epochs, list(record.curve)

    def restore(self, state: bytes) -> None:
        """Go on from what `state` wrote.

        Raises:
            Exception: the bytes are no checkpoint of this run; the caller starts over.
        """
        if self.optimiser is None:
            raise RuntimeError("prepare() was not called")
        kept = torch.load(io.BytesIO(state), map_location=self.device, weights_only=True)
        self.network.load_state_dict(kept["network"])
        if isinstance(self.method, nn.Module):
            self.method.load_state_dict(kept["method"])
        self.optimiser.load_state_dict(kept["optimiser"])
        self.gradients.sums = kept["gradients"]
        if self.average is not None:
            self.average.network.load_state_dict(kept["average"])
        cpu, cuda = kept["random"]
        self.random = GlobalState(cpu.cpu(), None if cuda is None else cuda.cpu())
        for name in ("epoch", "step_count", "curve", "best", "seconds", "images", "last_good_loss"):
            setattr(self, name, kept[name])
