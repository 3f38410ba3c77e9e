"""Projection heads of view-comparing objectives; they are thrown away after pretraining."""

from __future__ import annotations

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn


class BatchStandard(nn.Module):
    """Bring each channel of a batch to mean 0 and variance 1, by the batch itself.

    Batch norm without scale, shift and running statistics: heads are never run outside training. What all
    images have in common vanishes here, so that a head starts with what tells them apart.
    """

    def forward(self, features: Tensor) -> Tensor:
        """Standardise (R, D) over its rows; at least two of them."""
        return F.batch_norm(features, None, None, training=True)


def projection_head(*widths: int) -> nn.Sequential:
    """Build an MLP of these widths, standardised over the batch before every linear layer.

    Rows in, rows out. GELU between layers; weights Xavier uniform, biases zero, drawn from the global
    generator.
    """
    layers: list[nn.Module] = []
    for i, (inside, outside) in enumerate(pairwise(widths)):
        linear = nn.Linear(inside, outside)
        nn.init.xavier_uniform_(linear.weight)
        nn.init.zeros_(linear.bias)
        layers += [nn.GELU()] if i else []
        layers += [BatchStandard(), linear]
    return nn.Sequential(*layers)
