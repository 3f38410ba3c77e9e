"""Images that are decoded each time: the same whoever makes the batch, and the same crop for every look."""

import io
import os
import pickle
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vitkd_bench.contracts import Batch, Look
from vitkd_bench.pipeline import (
    Loading,
    Splits,
    TrainStream,
    eval_batches,
    load,
    open_splits,
    ready,
    resolve_dataset,
)
from vitkd_bench.pipeline.streamed import ATTEMPTS, Streamed, crop_box
from vitkd_bench.registry import DATASETS
from vitkd_bench.spec import Augmentation, BadInputError, Recipe, WorldError

CROPPED = Augmentation(crop_scale=(0.3, 1.0), flip=True)


def recipe(augmentation: Augmentation = CROPPED, batch_size: int = 8) -> Recipe:
    """A recipe of two epochs."""
    return Recipe(epochs=2, batch_size=batch_size, lr=1e-3, augmentation=augmentation)


def opened(birds: Path, decode: str, side: int = 16, others: tuple[Look, ...] = ()) -> Splits:
    """The birds, decoded once or anew."""
    settings = {"train": "train", "test": "test", "val": {"per_class": 3}, "decode": decode}
    return open_splits(resolve_dataset(DATASETS.get("folder"), settings, (birds,)), (birds,), side, others)


@dataclass(frozen=True, slots=True)
class OneImage:
    """One image, over and over."""

    data: bytes

    def __len__(self) -> int:
        return 64

    def read(self, _: int) -> bytes:
        """Give its bytes."""
        return self.data

    def place(self, index: int) -> str:
        """Name it."""
        return f"image {index}"


def streamed(image: Image.Image, side: int) -> Streamed:
    """64 samples of one picture."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    ids = tuple(map(str, range(64)))
    return Streamed(OneImage(buffer.getvalue()), np.arange(64) % 2, ids, Look(side))


def test_without_augmentation_both_ways_show_the_same(birds: Path) -> None:
    """An image that is decoded anew is the one that was decoded once, to the last bit, in every split."""
    once, anew = opened(birds, "once"), opened(birds, "anew")
    assert once.split_hash == anew.split_hash
    for name in ("train", "val", "test"):
        assert np.array_equal(once.split(name).images, anew.split(name).images)


def test_what_is_the_usual_way_renames_no_run(birds: Path) -> None:
    """`decode: once` of a set that is decoded once anyway stands in no id; `anew` does."""
    settings = {"train": "train", "test": "test", "val": {"per_class": 3}}
    plain, once, anew = (
        resolve_dataset(DATASETS.get("folder"), {**settings, **more}, (birds,))
        for more in ({}, {"decode": "once"}, {"decode": "anew"})
    )
    assert plain.identity() == once.identity() != anew.identity()


TURNED = Augmentation(crop_scale=(0.5, 1.0), rotate=5.0, noise=0.1)


@pytest.mark.parametrize("augmentation", [CROPPED, TURNED])
@pytest.mark.parametrize("workers", [1, 2])
def test_batches_are_the_same_whoever_makes_them(
    birds: Path, workers: int, augmentation: Augmentation
) -> None:
    """Other processes make the batches that this one makes, to the last bit and in their order."""
    train = opened(birds, "anew").train
    stream = TrainStream(train, recipe(augmentation), 3, epoch=1)
    made = [ready(batch) for batch in load(stream.raw, len(stream), Loading(workers))]
    for one, other in zip(stream, made, strict=True):
        assert torch.equal(one.pixels, other.pixels)
        assert torch.equal(one.ids, other.ids)
        assert one.progress == other.progress


def test_a_sample_does_not_depend_on_its_batch(birds: Path) -> None:
    """With another batch size each sample of the epoch has the same pixels, bit for bit."""
    train, found = opened(birds, "anew").train, []
    for size in (9, 4):
        batches = list(TrainStream(train, recipe(batch_size=size), 3, epoch=1))
        pixels, ids = torch.cat([b.pixels for b in batches]), torch.cat([b.ids for b in batches])
        found.append(dict(zip(ids.tolist(), pixels, strict=True)))
    shared = found[0].keys() & found[1].keys()
    assert len(shared) >= 24
    assert all(torch.equal(found[0][i], found[1][i]) for i in shared)


def gradient() -> Image.Image:
    """A picture whose red is where a pixel stands across, green down: 300 x 200."""
    x, y = np.meshgrid(np.linspace(0, 255, 300), np.linspace(0, 255, 200))
    return Image.fromarray(np.stack([x, y, np.zeros_like(x)], axis=-1).round().astype(np.uint8))


@pytest.mark.parametrize("kind", ["anew", "once"])
def test_the_teacher_sees_the_same_crop_and_flip(kind: str) -> None:
    """At another side and through another filter the teacher is shown the same part, mirrored alike."""
    teacher = Look(74, "bilinear")
    examples = streamed(gradient(), 32)
    if kind == "once":
        from vitkd_bench.contracts import Part
        from vitkd_bench.pipeline.decoded import decode_part

        part = Part(examples.found, examples.labels, examples.ids)
        rule = TrainStream(decode_part(part, Look(32), [teacher], None), recipe(), 0, teacher=teacher)
    else:
        rule = TrainStream(examples, recipe(), 0, teacher=teacher)
    batch = rule.batch(0)
    assert batch.for_teacher.shape == (8, 3, 74, 74)
    small = torch.nn.functional.interpolate(batch.for_teacher, 32, mode="bicubic", antialias=True)
    assert (small - batch.pixels).abs().mean() < 0.01
    other = small.flip(0)
    assert (other - batch.pixels).abs().mean() > 0.05, "crops of other samples differ"


@pytest.mark.parametrize("decode", ["anew", "once"])
def test_a_shift_is_of_the_same_part_of_the_image(decode: str, birds: Path) -> None:
    """A teacher at twice the side sees twice the shift in pixels, of images without a native size too."""
    teacher = Look(32)
    train = opened(birds, decode, 16, (teacher,)).train
    samples = np.arange(len(train))
    own, other = train.augmented(samples, samples, Augmentation(shift=4), 0, [train.look, teacher])
    blank = [(image == 0).all(dim=1) for image in (own, other)]
    for axis in (1, 2):
        empty = [each.all(dim=axis).sum(dim=1) for each in blank]
        assert torch.equal(empty[0] * 2, empty[1])
        assert empty[0].any()


@pytest.mark.parametrize("rule", [{"mixup": 0.8}, {"cutmix": 1.0}, {"mixup": 0.8, "cutmix": 1.0}])
def test_the_teachers_view_is_mixed_alike(rule: dict[str, float]) -> None:
    """Mixup has the same share, cutmix the same box, at the teacher's size as at the student's."""
    mixed = Augmentation.model_validate({"crop_scale": (0.5, 1.0), **rule})
    batch = TrainStream(streamed(gradient(), 32), recipe(mixed), 0, teacher=Look(64)).batch(1)
    small = torch.nn.functional.interpolate(batch.for_teacher, 32, mode="bicubic", antialias=True)
    assert (small - batch.pixels).abs().mean() < 0.02


def test_a_crop_is_as_large_and_as_wide_as_asked() -> None:
    """Boxes lie inside, have a share of the area and a ratio within the limits, and spread over both."""
    drawn = np.random.default_rng(0).random((500, ATTEMPTS, 4))
    boxes = [crop_box((400, 300), (0.2, 0.8), attempts) for attempts in drawn]
    sides = np.array([(right - left, bottom - top) for left, top, right, bottom in boxes])
    area, ratio = sides.prod(axis=1) / 120_000, sides[:, 0] / sides[:, 1]
    assert len(sides) == 500
    assert 0.195 < area.min() < 0.25
    assert 0.7 < area.max() < 0.805
    assert 0.73 < ratio.min() < 0.8
    assert 1.25 < ratio.max() < 1.36


def test_an_image_too_narrow_for_any_box_gives_its_middle() -> None:
    """Ten boxes that do not fit a thin strip end with the largest allowed one in the middle."""
    drawn = np.random.default_rng(0).random((ATTEMPTS, 4))
    assert crop_box((1000, 30), (0.9, 1.0), drawn) == (480, 0, 520, 30)


def test_crops_that_are_all_reach_the_device_as_bytes(birds: Path) -> None:
    """Crop and flip leave uint8, a quarter of the memory that moves; what else there is makes numbers."""
    train = opened(birds, "anew").train
    assert TrainStream(train, recipe(), 0).raw(0).pixels.dtype == torch.uint8
    assert TrainStream(train, recipe(Augmentation(noise=0.1)), 0).raw(0).pixels.dtype == torch.float32
    assert TrainStream(train, recipe(), 0).batch(0).pixels.dtype == torch.float32


def test_evaluation_shows_the_middle(birds: Path) -> None:
    """With a crop of a half the middle half of the centred square is shown, decoded once or anew."""
    pixels = np.zeros((24, 40, 3), np.uint8)
    pixels[6:18, 14:26] = 255
    Image.fromarray(pixels).save(birds / "test/crane/0.png")
    for decode in ("once", "anew"):
        settings = {"train": "train", "test": "test", "val": {"per_class": 3}, "decode": decode}
        dataset = resolve_dataset(DATASETS.get("folder"), settings, (birds,))
        test = open_splits(dataset, (birds,), 12, crop=0.5).test
        assert test.images[test.ids.index("test/crane/0.png")].min() == 255


@pytest.mark.parametrize("workers", [0, 2])
def test_a_broken_image_is_named_once_it_is_reached(birds: Path, workers: int) -> None:
    """One line with the path, from this process and from another; no traceback comes along."""
    path = birds / "test/heron/2.png"
    path.write_bytes(path.read_bytes()[:60])
    test = opened(birds, "anew").test
    from vitkd_bench.pipeline.stream import raw_batches

    with pytest.raises(WorldError) as caught:
        list(raw_batches(test, 2, loading=Loading(workers)))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_images_can_be_sent_to_another_process(birds: Path) -> None:
    """What is found can be pickled, so that workers may be started afresh."""
    test = opened(birds, "anew").test
    again = pickle.loads(pickle.dumps(test))  # noqa: S301 - our own bytes
    assert np.array_equal(again.images, test.images)


def test_worker_processes_do_the_work() -> None:
    """Batches come from other processes where workers are asked for."""

    def make(step: int) -> Batch:
        return Batch(torch.zeros(1), torch.tensor([step]), torch.tensor([os.getpid()]))

    here = {int(batch.ids) for batch in load(make, 4)}
    there = {int(batch.ids) for batch in load(make, 4, Loading(2))}
    assert here == {os.getpid()}
    assert os.getpid() not in there
    assert len(there) == 2
    assert [int(batch.labels) for batch in load(make, 4, Loading(2))] == [0, 1, 2, 3]


def test_every_sample_is_evaluated_once(birds: Path) -> None:
    """Whatever the batch size, evaluation covers the split exactly, in order, and nothing is padded."""
    test = opened(birds, "anew").test
    for size in (1, 5, 7, 100):
        ids = [int(i) for batch in eval_batches(test, size) for i in batch.ids]
        assert ids == list(range(12))


def test_a_scaled_decoding_shows_nearly_the_same_in_fewer_pixels() -> None:
    """A photograph-like JPEG of 900 px decoded for 64 px differs little, and crops lie at the same place."""
    x, y = np.meshgrid(np.linspace(0, 9, 900), np.linspace(0, 6, 600))
    waves = np.stack([np.sin(x), np.cos(y), np.sin(x + y)], axis=-1) * 100 + 128
    buffer = io.BytesIO()
    Image.fromarray(waves.astype(np.uint8)).save(buffer, "JPEG", quality=95)
    ids, labels = tuple(map(str, range(64))), np.arange(64) % 2
    full, scaled = (
        Streamed(OneImage(buffer.getvalue()), labels, ids, Look(64), scaled=scaled)
        for scaled in (False, True)
    )
    one, other = (TrainStream(examples, recipe(), 0).batch(0).pixels for examples in (full, scaled))
    assert (one - other).abs().mean() < 0.008
    assert not torch.equal(one, other)
    few = np.arange(2)
    assert (full.plain(few).float() - scaled.plain(few).float()).abs().mean() < 2


def test_a_scaled_decoding_stands_in_the_id(birds: Path) -> None:
    """It changes pixels, so it is another data set; the full one renames nothing."""
    settings = {"train": "train", "test": "test", "val": {"per_class": 3}, "decode": "anew"}
    plain, full, scaled = (
        resolve_dataset(DATASETS.get("folder"), {**settings, **more}, (birds,))
        for more in ({}, {"jpeg": "full"}, {"jpeg": "scaled"})
    )
    assert plain.identity() == full.identity() != scaled.identity()


def test_a_scaled_decoding_is_refused_where_images_are_decoded_once(birds: Path) -> None:
    """It would change the id and no pixel, so the suite is told what to say beside it."""
    settings = {"train": "train", "test": "test", "val": {"per_class": 3}, "jpeg": "scaled"}
    with pytest.raises(BadInputError, match="jpeg: scaled is for images that are decoded anew"):
        resolve_dataset(DATASETS.get("folder"), settings, (birds,), "suite.yaml: datasets[0]")
