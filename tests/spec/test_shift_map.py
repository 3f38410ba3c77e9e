"""Which training classes the classes of a shift set are."""

from vitkd_bench.spec import ClassInfo, PixelStats, ResolvedDataset
from vitkd_bench.spec.shift_map import contradiction, map_classes

PIXELS = PixelStats(mean=(0.5,), std=(0.5,))


def dataset(space: str, *classes: ClassInfo) -> ResolvedDataset:
    """A data set of some classes."""
    return ResolvedDataset(
        name="made", version=1, channels=1, pixels=PIXELS, classes=classes, label_space=space
    )


def numbered(space: str, *indices: int | tuple[int, ...]) -> tuple[ClassInfo, ...]:
    """Classes with indices in a label space."""
    return tuple(ClassInfo(name=f"{space} {i}", indices={space: i}) for i in indices)


WHOLE = dataset("imagenet1k", *(ClassInfo(name=f"class {i}") for i in range(10)))


def test_an_index_is_a_position_in_the_space_that_is_trained_on() -> None:
    """Classes of a 3-class shift set stand where their indices say."""
    assert map_classes(dataset("a", *numbered("imagenet1k", 7, 2, 9)), WHOLE) == {0: (7,), 1: (2,), 2: (9,)}


def test_of_a_subset_only_its_own_classes_meet() -> None:
    """Trained on classes 2, 7 and 9 of ten, indices become positions 0 to 2, and the others are left out."""
    part = dataset("imagenet1k:abc", *numbered("imagenet1k", 2, 7, 9))
    assert map_classes(dataset("a", *numbered("imagenet1k", 7, 3, 9)), part) == {0: (1,), 2: (2,)}


def test_one_class_may_be_several() -> None:
    """A coarse class has the positions of all members that are trained on; one of none is left out."""
    coarse = dataset("shapes", *numbered("imagenet1k", (7, 2), (9, 40), (), 5))
    assert map_classes(coarse, WHOLE) == {0: (2, 7), 1: (9,), 3: (5,)}


def test_the_same_label_space_needs_no_index() -> None:
    """Domains of one data set share its classes in their order."""
    domain = [ClassInfo(name=name) for name in ("dog", "elephant", "giraffe")]
    assert map_classes(dataset("pacs", *domain), dataset("pacs", *domain)) == {0: (0,), 1: (1,), 2: (2,)}


def test_names_decide_where_no_space_does() -> None:
    """Without a common label space classes meet by name, whatever the case and the underscores."""
    one = dataset("x", ClassInfo(name="polar_bear"), ClassInfo(name="Dog"), ClassInfo(name="car"))
    other = dataset("y", ClassInfo(name="dog"), ClassInfo(name="Polar bear"))
    assert map_classes(one, other) == {0: (1,), 1: (0,)}


def test_one_common_class_is_none() -> None:
    """With a single class every answer is right: the sets do not meet."""
    assert map_classes(dataset("a", *numbered("imagenet1k", 3, 77)), WHOLE) == {}


def test_a_name_that_stands_twice_is_both() -> None:
    """Of two cranes that are trained on neither is left out by chance: an answer of either is right."""
    trained = dataset("x", *(ClassInfo(name=name) for name in ("crane", "Crane", "owl")))
    shift = dataset("y", ClassInfo(name="owl"), ClassInfo(name="crane"))
    assert map_classes(shift, trained) == {0: (2,), 1: (0, 1)}
    assert contradiction(shift, trained) is None


def test_lists_of_other_lengths_are_no_one_label_space() -> None:
    """Two of three classes under the name of all three would be taken for the first two."""
    three, two = (
        dataset("birds", *(ClassInfo(name=name) for name in names)) for names in (("a", "b", "c"), ("c", "b"))
    )
    assert contradiction(two, three) == "label space 'birds' has 2 classes here, and 3 in made"
    assert contradiction(three, three) is None


def test_two_classes_at_one_place_contradict() -> None:
    """A training class cannot be two classes of a shift set; both are named."""
    shift = dataset("a", *numbered("imagenet1k", 3, 5), ClassInfo(name="z", indices={"imagenet1k": 5}))
    assert contradiction(shift, WHOLE) == "classes 'imagenet1k 5' and 'z' are both 'class 5' of made"
