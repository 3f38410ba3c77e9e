"""Oxford-IIIT Pet (Parkhi et al., CVPR 2012; https://www.robots.ox.ac.uk/~vgg/data/pets/)."""

from __future__ import annotations

from vitkd_bench.datasets._settings import RootSettings
from vitkd_bench.registry import DATASETS
from vitkd_bench.spec import IMAGENET_PIXELS, Carved, ClassInfo, Dataset, Validation

_NAMES = (
    "Abyssinian, american bulldog, american pit bull terrier, basset hound, beagle, Bengal, Birman, "
    "Bombay, boxer, British Shorthair, chihuahua, Egyptian Mau, english cocker spaniel, english setter, "
    "german shorthaired, great pyrenees, havanese, japanese chin, keeshond, leonberger, Maine Coon, "
    "miniature pinscher, newfoundland, Persian, pomeranian, pug, Ragdoll, Russian Blue, saint bernard, "
    "samoyed, scottish terrier, shiba inu, Siamese, Sphynx, staffordshire bull terrier, wheaten terrier, "
    "yorkshire terrier"
)
NAMES = tuple(_NAMES.split(", "))
"""Of the class ids 1 to 37, as the file names spell them: cats with a capital."""


class PetsSettings(RootSettings):
    """Settings of Pets: `val` is carved from trainval, ten images of each class unless told otherwise."""

    val: Carved = Validation(per_class=10)


DATASETS.register(
    Dataset(
        name="pets",
        title="Oxford-IIIT Pet, 37 breeds",
        source="https://www.robots.ox.ac.uk/~vgg/data/pets/ (Parkhi et al., CVPR 2012)",
        licence="CC BY-SA 4.0; the photographers keep their rights",
        reader="pets",
        channels=3,
        pixels=IMAGENET_PIXELS,
        classes=tuple(ClassInfo(name=name) for name in NAMES),
        num_classes=37,
        counts={"train": 3_680, "test": 3_669},
        label_space="pets",
        split_rule="train (trainval.txt) and test (test.txt) as published; val: ten images of each class of "
        "train, by a hash of the image's name",
        decode="anew",
        files=(
            "pets | oxford-iiit-pet",
            "images | images.tar.gz",
            "annotations | annotations.tar.gz",
        ),
        fetch=tuple(
            f"https://www.robots.ox.ac.uk/~vgg/data/pets/data/{name}"
            for name in ("images.tar.gz", "annotations.tar.gz")
        ),
        templates=("a photo of a {}, a type of pet.",),
        augmentation="flip, crop",
        notes="Labels are the class ids of the two lists, checked against the breed in each file's name; a "
        "few files named .jpg are of another kind, which the decoder reads by content.",
    ),
    PetsSettings,
)
