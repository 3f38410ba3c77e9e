"""How the weight of a loss changes over training."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field

from vitkd_bench.spec import Settings


class Scheduled(Settings):
    """Settings of a loss whose weight may fall over training."""

    schedule: Literal["constant", "linear", "cosine"] = Field(
        default="constant", description="course of the weight: constant, or down to 0 linearly or by a cosine"
    )
    share: float = Field(
        default=1.0,
        gt=0,
        le=1,
        description="share of training that the schedule takes; after it the weight is 0",
    )

    def factor(self, progress: float) -> float:
        """Give what the weight is multiplied by at `progress` in [0, 1] of training: from 1 to 0.

        ``constant`` is 1 for the first `share` of training, ``linear`` falls as 1 - progress / share,
        ``cosine`` as (1 + cos(pi progress / share)) / 2; all are 0 once `share` is over, if it is below 1.
        """
        done = progress / self.share
        if self.schedule == "constant":
            return 1.0 if done < 1 or self.share == 1 else 0.0
        done = min(1.0, done)
        return 1 - done if self.schedule == "linear" else (1 + math.cos(math.pi * done)) / 2
