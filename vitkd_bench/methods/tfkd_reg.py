"""Teacher-free distillation from a virtual teacher, Tf-KD-reg (Yuan et al., arXiv:1909.11723)."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from vitkd_bench.contracts import Batch, Features, Method
from vitkd_bench.methods._labels import label_loss_of
from vitkd_bench.methods._logits import logits_of
from vitkd_bench.registry import METHODS
from vitkd_bench.spec import Settings

Softening = Literal["probabilities", "logarithms"]


def tfkd_reg_loss(
    logits: Tensor,
    labels: Tensor,
    *,
    confidence: float = 0.99,
    temperature: float = 20.0,
    softening: Softening = "probabilities",
) -> Tensor:
    """KL(virtual teacher || student) of logits (B, K) and class indices (B,), in nats.

    Summed over classes, mean over the batch (the released code divides by K too, and multiplies by a number
    chosen for each network). The virtual teacher gives the label `confidence` in (0, 1) and each other class
    an equal part of the rest. It is then softened: the released code takes the softmax of these
    *probabilities* over T, which at T = 20 is uniform to five per cent whatever the confidence;
    `logarithms` takes that of their logarithms over T, as a temperature is meant. The student is not
    softened. With one class the loss is 0. Source: arXiv:1909.11723;
    yuanli2333/Teacher-free-Knowledge-Distillation `my_loss_function.py`.
    """
    target = virtual_teacher(labels, logits.shape[1], confidence, temperature, softening)
    return F.kl_div(
        F.log_softmax(logits, dim=1), target.to(logits.dtype), reduction="batchmean", log_target=True
    )


def virtual_teacher(
    labels: Tensor, classes: int, confidence: float, temperature: float, softening: Softening
) -> Tensor:
    """Give the logarithms (B, K) of the softened virtual teacher's probabilities, in float64."""
    own = F.one_hot(labels, classes).bool()
    high = torch.tensor(confidence, dtype=torch.float64, device=labels.device)
    given = torch.where(own, high, (1 - high) / max(classes - 1, 1))
    return F.log_softmax((given if softening == "probabilities" else given.log()) / temperature, dim=1)


@METHODS.register(
    "tfkd_reg",
    title="Virtual teacher (Tf-KD-reg)",
    kind="logit",
    paper="arXiv:1909.11723",
    reads_teacher=False,
    needs=("plain_labels",),
    budget="alpha: 6 trials of {.02, .05, .1, .2, .3, .5}; confidence: {.9, .99}",
)
class TeacherFreeRegularisation(Method):
    """(1 - alpha) cross-entropy with labels + alpha KL to a softened virtual teacher; no network is read.

    By default the target is the released code's, which is next to uniform: the method is then label smoothing
    by alpha in all but name, and `label_smoothing` beside it shows so. What the recipe smooths acts on the
    label part as well. The released weights differ for every network (alpha .1 to .95, multiplier 1 to 100).
    """

    class Config(Settings):
        alpha: float = Field(
            default=0.1, ge=0, le=1, description="share of the virtual teacher; the labels keep 1 - alpha"
        )
        confidence: float = Field(
            default=0.99, gt=0, lt=1, description="the virtual teacher's probability of the label"
        )
        temperature: float = Field(default=20.0, gt=0, description="by which the virtual teacher is softened")
        softening: Softening = Field(
            default="probabilities",
            description="what the temperature divides: probabilities as released, or their logarithms",
        )

    def loss(self, student: Features, teacher: Features | None, batch: Batch) -> dict[str, Tensor]:
        config = self.config
        distilled = tfkd_reg_loss(
            logits_of(student),
            batch.labels,
            confidence=config.confidence,
            temperature=config.temperature,
            softening=config.softening,
        )
        labels = label_loss_of(student, batch)
        return {"labels": (1 - config.alpha) * labels, "tfkd_reg": config.alpha * distilled}
