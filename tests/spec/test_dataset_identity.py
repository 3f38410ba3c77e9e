"""What of a data set stands in a run's id."""

from vitkd_bench.spec import ClassInfo, PixelStats, ResolvedDataset

CLASSES = (ClassInfo(name="a"), ClassInfo(name="b"))
PIXELS = PixelStats(mean=(0.5,), std=(0.5,))


def dataset(**settings: object) -> ResolvedDataset:
    """A data set of two classes."""
    return ResolvedDataset(
        name="made",
        version=1,
        settings=settings,
        channels=1,
        pixels=PIXELS,
        classes=CLASSES,
        label_space="made",
    )


def test_where_it_lies_renames_nothing() -> None:
    """The folder of a data set is one machine's affair; other settings are not."""
    assert dataset(root="/data/x", jpeg="scaled").identity() == dataset(jpeg="scaled").identity()
    assert dataset(root="/data/x").identity() != dataset(jpeg="scaled").identity()


def test_a_list_of_indices_is_another_class_than_one() -> None:
    """A class that is several elsewhere has another hash, and one index has the hash that it always had."""
    one, several = (
        dataset().model_copy(update={"classes": (ClassInfo(name="a", indices={"x": where}), CLASSES[1])})
        for where in (3, (3, 4))
    )
    assert one.class_hash == "1f1566db499ec6a2"
    assert one.class_hash != several.class_hash
