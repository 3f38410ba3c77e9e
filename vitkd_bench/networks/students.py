"""Students: a network built from an architecture, every weight drawn."""

from __future__ import annotations

import torch

from vitkd_bench.networks.initialise import LawName, initialise
from vitkd_bench.networks.network import ViTNetwork
from vitkd_bench.networks.vit import ViT
from vitkd_bench.spec import Architecture, PixelStats, content_hash


def create_student(
    architecture: Architecture,
    num_classes: int,
    pixels: PixelStats,
    seed: int,
    drop_path: float = 0.0,
    law: LawName = "timm",
) -> ViTNetwork:
    """Build a student with random weights, a function of `architecture`, `num_classes` and `seed` alone.

    Students of one seed share the weights of all parts that they have in common (`networks.initialise` says
    how and why). torch's global random state is left as it was.

    Args:
        architecture: token interface, size and components.
        num_classes: outputs of the head; 0 builds none.
        pixels: the normalisation, one mean and deviation a channel, for pixels in [0, 1].
        seed: the run's seed.
        drop_path: rate of the last block, rising linearly from 0 at the first.
        law: of initialisation, `timm` or, for micro networks, `small` (`networks.initialise`).

    Raises:
        BadInputError: `pixels` are for another number of channels; a width that the components do not allow.
    """
    with torch.random.fork_rng(devices=[]):  # torch's constructors draw weights that the law then replaces
        vit = ViT(architecture, num_classes, drop_path)
    initialise(vit, seed, law)
    return ViTNetwork(vit, architecture, pixels)


def fingerprint(network: ViTNetwork) -> str:
    """Name what was built, `<parameters>-<hash>`: the count, and a hash of the state's names and shapes."""
    shapes = {name: list(tensor.shape) for name, tensor in network.module.state_dict().items()}
    return f"{sum(p.numel() for p in network.module.parameters())}-{content_hash(shapes)}"
