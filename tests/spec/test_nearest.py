"""The name that an error offers in the place of a wrong one."""

from vitkd_bench.spec import nearest


def test_of_many_names_the_neighbours_are_compared() -> None:
    """Among a million names a wrong one is answered at once, by one that begins alike."""
    known = (f"train/n{i // 1000:08d}/{i}.JPEG" for i in range(1_000_000))
    assert nearest("train/n00000500/500123.JPG", known) == "; did you mean 'train/n00000500/500123.JPEG'?"
