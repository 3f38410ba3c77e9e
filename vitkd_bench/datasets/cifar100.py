"""CIFAR-100, fine labels (Krizhevsky, 2009; https://www.cs.toronto.edu/~kriz/cifar.html)."""

from __future__ import annotations

from vitkd_bench.datasets._cifar import CifarSettings, facts_of
from vitkd_bench.registry import DATASETS
from vitkd_bench.spec import PixelStats

_NAMES = (
    "apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly "
    "camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup "
    "dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower "
    "leopard lion lizard lobster man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid "
    "otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray "
    "road rocket rose sea seal shark shrew skunk skyscraper snail snake spider squirrel streetcar "
    "sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle "
    "wardrobe whale willow_tree wolf woman worm"
)
NAMES = tuple(_NAMES.split())

DATASETS.register(
    facts_of(
        "cifar100",
        NAMES,
        PixelStats(mean=(0.5071, 0.4865, 0.4409), std=(0.2673, 0.2564, 0.2762)),  # of its train part
        "cifar-100-python.tar.gz",
        "cifar-100-python",
    ),
    CifarSettings,
)
