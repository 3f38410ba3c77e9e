"""Deep mutual learning: students that are trained together and match each other (arXiv:1706.00384)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from vitkd_bench.contracts import Batch, CellFacts, Features, Method, Network
from vitkd_bench.methods._labels import label_loss_of
from vitkd_bench.methods._logits import logits_of
from vitkd_bench.registry import METHODS
from vitkd_bench.spec import Settings


def dml_loss(student_logits: Tensor, peer_logits: Sequence[Tensor]) -> Tensor:
    """Mean over the peers of KL(peer || student) of logits (B, K) at temperature 1, in nats.

    Summed over classes, mean over the batch. Peers are detached: they learn by this loss with the roles
    exchanged. Zero where all agree. Source: Zhang et al., section 2; mean over the batch as in public code.

    Raises:
        ValueError: no peers.
    """
    if not peer_logits:
        raise ValueError("mutual learning needs a peer at least")
    own = F.log_softmax(student_logits, dim=-1)
    parts = [
        F.kl_div(own, F.log_softmax(peer.detach(), dim=-1), reduction="batchmean", log_target=True)
        for peer in peer_logits
    ]
    return torch.stack(parts).mean()


@METHODS.register(
    "dml",
    title="Deep mutual learning",
    kind="online",
    paper="arXiv:1706.00384",
    reads_teacher=False,
    needs=("parameters",),
    budget="weight: 6 trials of {.1, .3, 1, 3, 10} and 0; networks: {2, 3}",
)
class DeepMutualLearning(Method, nn.Module):
    """Of each network: cross-entropy with the labels + weight x mean KL to it from each of the others.

    No teacher: the peers have the student's architecture, are drawn from seeds of their own and see the same
    batches. All forwards come before the updates, as in public code; the paper updates one network after the
    other. The network of the run's seed is evaluated and kept; the peers cost as much as it does and are not
    exported. Published numbers are of the best or the mean of the networks: ours is the one that is the same
    as the baseline's at the start.
    """

    class Config(Settings):
        networks: int = Field(default=2, ge=2, le=8, description="trained together, the student one of them")
        weight: float = Field(
            default=1.0, ge=0, description="of the mutual term, against a label loss of weight 1"
        )

    def __init__(self, config: Config, cell: CellFacts) -> None:
        """Keep the settings; the peers come with `meet`."""
        super().__init__(config, cell)
        self.others = nn.ModuleList()

    def peers(self) -> int:
        return int(self.config.networks) - 1

    def meet(self, peers: Sequence[Network]) -> None:
        """Keep the peers, whole networks with their own normalisation."""
        self.others.extend(cast("nn.Module", peer) for peer in peers)

    def step(self, student: Network, teacher: Features | None, batch: Batch) -> dict[str, Tensor]:
        """Run all networks, then let each learn from the labels and from the others."""
        seen = [network(batch.pixels, self.student_taps()) for network in (student, *self.others)]
        logits = [logits_of(features) for features in seen]
        labels = [label_loss_of(features, batch) for features in seen]
        mutual = [dml_loss(own, logits[:i] + logits[i + 1 :]) for i, own in enumerate(logits)]
        of_peers = torch.stack(labels[1:]).sum() + self.config.weight * torch.stack(mutual[1:]).sum()
        return {"labels": labels[0], "dml": self.config.weight * mutual[0], "peers": of_peers}

    def notes(self) -> tuple[str, ...]:
        return (f"trained beside {len(self.others)} peers, which are not kept",)
