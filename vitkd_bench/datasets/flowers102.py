"""Flowers-102 (Nilsback and Zisserman, ICVGIP 2008; https://www.robots.ox.ac.uk/~vgg/data/flowers/102/)."""

from __future__ import annotations

from vitkd_bench.datasets._settings import RootSettings
from vitkd_bench.registry import DATASETS
from vitkd_bench.spec import IMAGENET_PIXELS, ClassInfo, Dataset

_NAMES = (
    "pink primrose, hard-leaved pocket orchid, canterbury bells, sweet pea, english marigold, tiger lily, "
    "moon orchid, bird of paradise, monkshood, globe thistle, snapdragon, colt's foot, king protea, spear "
    "thistle, yellow iris, globe-flower, purple coneflower, peruvian lily, balloon flower, giant white "
    "arum lily, fire lily, pincushion flower, fritillary, red ginger, grape hyacinth, corn poppy, prince "
    "of wales feathers, stemless gentian, artichoke, sweet william, carnation, garden phlox, love in the "
    "mist, mexican aster, alpine sea holly, ruby-lipped cattleya, cape flower, great masterwort, siam "
    "tulip, lenten rose, barbeton daisy, daffodil, sword lily, poinsettia, bolero deep blue, wallflower, "
    "marigold, buttercup, oxeye daisy, common dandelion, petunia, wild pansy, primula, sunflower, "
    "pelargonium, bishop of llandaff, gaura, geranium, orange dahlia, pink-yellow dahlia, cautleya "
    "spicata, japanese anemone, black-eyed susan, silverbush, californian poppy, osteospermum, spring "
    "crocus, bearded iris, windflower, tree poppy, gazania, azalea, water lily, rose, thorn apple, "
    "morning glory, passion flower, lotus, toad lily, anthurium, frangipani, clematis, hibiscus, "
    "columbine, desert-rose, tree mallow, magnolia, cyclamen, watercress, canna lily, hippeastrum, bee "
    "balm, ball moss, foxglove, bougainvillea, camellia, mallow, mexican petunia, bromelia, blanket "
    "flower, trumpet creeper, blackberry lily"
)
NAMES = tuple(_NAMES.split(", "))
"""Of the labels 1 to 102, as the authors' page and torchvision list them (there `pink-yellow dahlia?`)."""

DATASETS.register(
    Dataset(
        name="flowers102",
        title="Flowers-102",
        source="https://www.robots.ox.ac.uk/~vgg/data/flowers/102/ (Nilsback and Zisserman, ICVGIP 2008)",
        licence="none stated; research use, cite the paper",
        reader="flowers102",
        channels=3,
        pixels=IMAGENET_PIXELS,
        classes=tuple(ClassInfo(name=name) for name in NAMES),
        num_classes=102,
        counts={"train": 1_020, "val": 1_020, "test": 6_149},
        label_space="flowers102",
        split_rule="train (trnid), val (valid) and test (tstid) as published in setid.mat",
        decode="anew",
        files=(
            "flowers102 | flowers-102",
            "jpg | 102flowers.tgz",
            "imagelabels.mat",
            "setid.mat",
        ),
        fetch=tuple(
            f"https://www.robots.ox.ac.uk/~vgg/data/flowers/102/{name}"
            for name in ("102flowers.tgz", "imagelabels.mat", "setid.mat")
        ),
        templates=("a photo of a {}, a type of flower.",),
        augmentation="flip, crop",
        notes="Ten images a class in train and in val, 20 to 238 in test. torchvision's reader wants the "
        "archive unpacked and checks sums of the whole set; ours reads the same files as they come.",
    ),
    RootSettings,
)
