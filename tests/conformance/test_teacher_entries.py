"""What holds of every registered teacher, ours or a stranger's."""

import re

import open_clip
import pytest
from timm.models import get_pretrained_cfg

from vitkd_bench.diagnose import conformance
from vitkd_bench.diagnose.parts import ADDED, RESHAPED, TAKEN
from vitkd_bench.registry import TEACHERS
from vitkd_bench.spec import Components, Teacher, WeightSource

EVERY = list(TEACHERS)  # before other tests add teachers of their own
every_teacher = pytest.mark.parametrize("teacher", EVERY, ids=lambda t: t.name)
every_source = pytest.mark.parametrize(
    ("teacher", "source"),
    [(t, s) for t in EVERY for s in t.sources],
    ids=lambda value: value.name if isinstance(value, Teacher) else value.backend,
)
NO_TENSOR = {"activation", "norm_eps", "rope"}
"""Components that no tensor of a state dict shows."""


@every_teacher
def test_it_conforms(teacher: Teacher) -> None:
    """The conformance kit, which a stranger's teacher goes through, finds nothing in ours."""
    assert [check.finding for check in conformance(teacher) if check.status != "pass"] == []


@every_teacher
def test_what_we_ask_of_our_own_beside(teacher: Teacher) -> None:
    """Micro teachers, and no others, are made here and so called; papers can be looked up.

    Of a released teacher the number of parameters is claimed.
    """
    shelf = "micro" if teacher.group == "micro" else teacher.family
    assert teacher.name.partition("/")[0] == shelf
    assert re.fullmatch(r"arXiv:\d{4}\.\d{4,5}|doi:.+|https?://.+", teacher.paper)
    assert (teacher.training is not None) == (teacher.group == "micro")
    assert (teacher.parameters is not None) == (teacher.group != "micro")


@every_source
def test_timm_and_open_clip_say_the_same_of_their_weights(teacher: Teacher, source: WeightSource) -> None:
    """Pixels, size, labels and the place of the weights are those that the libraries have on record."""
    if source.backend == "timm":
        config = get_pretrained_cfg(source.model, allow_unregistered=False)
        assert (config.mean, config.std) == (teacher.pixels.mean, teacher.pixels.std)
        assert config.input_size[1] == (teacher.native_size or teacher.architecture.image_size)
        assert source.location in {None, f"hf://{config.hf_hub_id}/model.safetensors"}
        assert teacher.head is None or config.num_classes == teacher.head.num_classes
    if source.backend == "open_clip":
        name, _, tag = (teacher.text_encoder or "").removeprefix("open_clip:").partition("/")
        record = open_clip.pretrained.get_pretrained_cfg(name, tag)
        assert name == source.model
        assert source.location == f"hf://{record['hf_hub'].rstrip('/')}/open_clip_model.safetensors"
        assert (record["mean"], record["std"]) == (teacher.pixels.mean, teacher.pixels.std)


def test_no_two_teachers_are_the_same() -> None:
    """Two micro teachers differ in architecture or in training, two others in where their weights are."""
    made = [(t.architecture, t.training) for t in EVERY if t.group == "micro"]
    loaded = [t.source().location for t in EVERY if t.group != "micro"]
    assert [pair for i, pair in enumerate(made) if pair in made[:i]] == []
    assert len(set(loaded)) == len(loaded)


def test_every_component_is_accounted_for() -> None:
    """A component added to the description is added to the kit's tables, or said to have no tensor."""
    told = {key.partition("=")[0] for table in (ADDED, TAKEN, RESHAPED) for key in table}
    assert told | NO_TENSOR == set(Components.model_fields)
    assert not told & NO_TENSOR
