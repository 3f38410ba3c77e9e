"""Augmentation through timm: what it does, and that an image's draws are its own."""

from __future__ import annotations

import hashlib
import random
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from timm.data.auto_augment import rand_augment_transform
from torch import Tensor

from vitkd_bench.engine.parts import parts_of
from vitkd_bench.pipeline import TrainStream
from vitkd_bench.pipeline.decoded import Decoded
from vitkd_bench.pipeline.draws import global_generators
from vitkd_bench.pipeline.mixing import mix
from vitkd_bench.pipeline.views import augment, plain
from vitkd_bench.spec import IMAGENET_PIXELS, Augmentation, BadInputError, Recipe
from vitkd_bench.spec.recipe import RAND_AUGMENT

DEIT = "rand-m9-mstd0.5-inc1"
COLOURS: list[dict[str, object]] = [
    {"rand_augment": DEIT},
    {"rand_augment": "rand-m5-n3-p0.9-tweights", "interpolation": "random", "colour_jitter": 0.2},
    {"three_augment": True, "colour_jitter": 0.3, "flip": True},
    {"rand_augment": DEIT, "crop_scale": (0.2, 1.0), "erase": 0.7, "erase_fill": "noise", "noise": 0.05},
]
MIXES: list[dict[str, float]] = [
    {"mixup": 0.8},
    {"cutmix": 1.0},
    {"mixup": 0.8, "cutmix": 1.0},
    {"mixup": 0.2, "mixup_probability": 0.5},
]
rules = st.sampled_from(COLOURS).map(Augmentation.model_validate)
mixing_rules = st.sampled_from(MIXES).map(Augmentation.model_validate)
keys = st.integers(0, 2**64 - 1)


def pictures(count: int, channels: int = 3, side: int = 16, seed: int = 0) -> np.ndarray:
    """Smooth images with some noise, so that every operation changes something."""
    drawn = np.random.default_rng(seed)
    coarse = drawn.integers(0, 256, (count, channels, 4, 4)).repeat(side // 4, 2).repeat(side // 4, 3)
    return np.clip(coarse + drawn.integers(-20, 21, coarse.shape), 0, 255).astype(np.uint8)


def same(left: Tensor, right: Tensor) -> bool:
    """Equal to the last bit."""
    return left.shape == right.shape and left.numpy().tobytes() == right.numpy().tobytes()


def generators() -> tuple[object, str, bytes]:
    """Where the global generators of Python, numpy and torch stand."""
    return random.getstate(), repr(np.random.get_state()), torch.get_rng_state().numpy().tobytes()  # noqa: NPY002


@settings(deadline=None, max_examples=30)
@given(rules, keys, st.integers(1, 9), st.integers(0, 2**32 - 1), st.sampled_from([1, 3]))
def test_a_view_is_its_own(rule: Augmentation, key: int, count: int, noise: int, channels: int) -> None:
    """Alone, in any batch and order, whatever was drawn before: the same bits, and nobody's draws move."""
    images, samples = pictures(count, channels), np.arange(70, 70 + count)
    together = augment(images, samples, rule, key)
    random.seed(noise)
    np.random.seed(noise)  # noqa: NPY002
    before = generators()
    order = np.random.default_rng(noise).permutation(count)
    assert same(augment(images[order], samples[order], rule, key), together[order])
    for i in range(count):
        assert same(augment(images[i : i + 1], samples[i : i + 1], rule, key)[0], together[i])
    assert generators() == before
    assert together.min() >= 0
    assert together.max() <= 1


OTHER_PROCESS = """
import hashlib, vitkd_bench
from tests.pipeline.test_augmentation import view_of_all
print(hashlib.sha256(view_of_all().numpy().tobytes()).hexdigest())
"""


def view_of_all() -> Tensor:
    """Every kind of augmentation in one batch, mixed."""
    views = [augment(pictures(5), np.arange(5), Augmentation.model_validate(rule), 11) for rule in COLOURS]
    mixed, shares = mix(views, torch.arange(5), Augmentation(mixup=0.8, cutmix=1.0), 5, 12)
    return torch.cat([*(view.flatten() for view in mixed), shares.flatten()])


def test_another_process_sees_the_same(root: str) -> None:
    """Views and mixing are the same in a fresh process that draws from nothing."""
    told = subprocess.run(
        [sys.executable, "-c", OTHER_PROCESS], cwd=root, capture_output=True, check=True, text=True
    )
    assert told.stdout.split()[-1] == hashlib.sha256(view_of_all().numpy().tobytes()).hexdigest()


@pytest.mark.parametrize("rule", COLOURS, ids=str)
def test_views_differ_by_key_and_sample(rule: dict[str, object]) -> None:
    """Equal images under other numbers, or another key, come out otherwise."""
    images, made = np.repeat(pictures(1), 24, axis=0), Augmentation.model_validate(rule)
    first, second = (augment(images, np.arange(24), made, key) for key in (1, 2))
    assert not same(first, second)
    assert len({view.numpy().tobytes() for view in first}) > 8


def test_rand_augment_is_timms() -> None:
    """With one draw at a fixed strength each view is one of timm's operations on the image, and all occur."""
    images = np.repeat(pictures(1), 150, axis=0)
    rule = Augmentation(rand_augment="rand-m7-n1-p1-inc1", interpolation="bilinear")
    views = (augment(images, np.arange(150), rule, 3) * 255).round().byte().permute(0, 2, 3, 1).numpy()
    theirs = rand_augment_transform(
        "rand-m7-n1-p1-inc1",
        {"translate_const": 7, "img_mean": (124, 116, 104), "interpolation": Image.Resampling.BILINEAR},
    )
    original = Image.fromarray(images[0].transpose(1, 2, 0))
    with global_generators() as start:
        start(0)
        possible = [{np.asarray(op(original)).tobytes() for _ in range(30)} for op in theirs.ops]
    assert len(possible) == 15
    met = [[i for i, outcomes in enumerate(possible) if view.tobytes() in outcomes] for view in views]
    assert all(met)
    assert {i for found in met for i in found} == set(range(15))


@settings(deadline=None, max_examples=60)
@given(st.from_regex(RAND_AUGMENT, fullmatch=True), keys)
def test_a_setting_that_is_let_in_works(text: str, key: int) -> None:
    """Whatever passes as a setting of RandAugment is understood by timm and applied without error."""
    view = augment(pictures(3), np.arange(3), Augmentation(rand_augment=text), key)
    assert view.shape == (3, 3, 16, 16)


def test_posterising_may_leave_nothing() -> None:
    """At full strength timm keeps no bit, which DeiT's setting reaches once in a thousand images: black."""
    rule = Augmentation(rand_augment="rand-m10-n1-p1-inc1")
    views = augment(np.repeat(pictures(1), 100, axis=0), np.arange(100), rule, 3)
    black = (views == 0).flatten(1).all(dim=1)
    assert 1 <= int(black.sum()) < 20


def test_three_augment_takes_one_of_three() -> None:
    """Each view is the image greyed, solarised or blurred, about as often, and nothing else."""
    images = pictures(150)
    view = (augment(images, np.arange(150), Augmentation(three_augment=True), 4) * 255).round()
    before = torch.from_numpy(images).float()
    grey = (view == view[:, :1]).flatten(1).all(dim=1)
    solar = (view == torch.where(before < 128, before, 255 - before)).flatten(1).all(dim=1)
    rough = [(x[:, :, 1:] - x[:, :, :-1]).abs().flatten(1).mean(dim=1) for x in (before, view)]
    blurred = (rough[1] < rough[0]) & ~grey & ~solar
    assert bool((grey.int() + solar.int() + blurred.int() == 1).all())
    assert all(30 < int(kind.sum()) < 70 for kind in (grey, solar, blurred))


def test_colour_jitter_scales_within_its_range() -> None:
    """A flat grey image has no contrast nor saturation: what is left is brightness, all over the range."""
    flat = np.full((200, 3, 8, 8), 100, dtype=np.uint8)
    view = augment(flat, np.arange(200), Augmentation(colour_jitter=0.4), 5)
    factors = view[:, 0, 0, 0] * 255 / 100
    assert bool((view == view[:, :1, :1, :1]).all())
    assert 0.59 <= factors.min() < 0.65
    assert 1.35 < factors.max() <= 1.41
    assert abs(factors.mean() - 1) < 0.05


def test_colour_jitter_moves_contrast_and_saturation_too() -> None:
    """Spread of brightness and distance from grey both rise in some images and fall in others."""
    images = pictures(200)
    view = augment(images, np.arange(200), Augmentation(colour_jitter=0.3), 6)
    spread = [x.mean(dim=1).flatten(1).std(dim=1) / x.flatten(1).mean(dim=1) for x in (plain(images), view)]
    colour = [(x - x.mean(dim=1, keepdim=True)).abs().flatten(1).mean(dim=1) for x in (plain(images), view)]
    for ratio in (spread[1] / spread[0], colour[1] / colour[0]):
        assert 0.1 < (ratio > 1.05).float().mean() < 0.9
        assert 0.1 < (ratio < 0.95).float().mean() < 0.9


def test_grey_images_are_treated_as_grey_colours() -> None:
    """One channel comes out as each channel of the same image in three."""
    grey = pictures(40, channels=1)
    rule = Augmentation(three_augment=True, colour_jitter=0.3)
    one, three = (augment(x, np.arange(40), rule, 8) for x in (grey, grey.repeat(3, axis=1)))
    assert same(one.expand(-1, 3, -1, -1).contiguous(), three)


def test_other_channels_are_refused() -> None:
    """PIL has no operations on two or four channels."""
    with pytest.raises(BadInputError, match="1 or 3 channels, not 4"):
        augment(pictures(2, channels=4), np.arange(2), Augmentation(rand_augment="rand"), 0)


def test_boxes_of_noise_are_the_boxes_of_zeros() -> None:
    """What fills a box moves it nowhere; the noise has the mean and deviation of ImageNet's pixels."""
    images = np.full((300, 3, 32, 32), 255, dtype=np.uint8)
    zeros = augment(images, np.arange(300), Augmentation(erase=1.0), 7)
    noise = augment(images, np.arange(300), Augmentation(erase=1.0, erase_fill="noise"), 7)
    inside = zeros == 0
    assert bool((noise[~inside] == 1).all())
    drawn = noise.permute(1, 0, 2, 3)[:, inside[:, 0]]
    mean, deviation = (torch.tensor(x).view(3) for x in (IMAGENET_PIXELS.mean, IMAGENET_PIXELS.std))
    torch.testing.assert_close(drawn.median(dim=1).values, mean, atol=0.01, rtol=0)
    torch.testing.assert_close(drawn.std(dim=1), deviation, atol=0.015, rtol=0)  # cut to [0, 1]


@settings(deadline=None, max_examples=40)
@given(mixing_rules, keys, st.integers(2, 9), st.integers(0, 99))
def test_mixing_depends_on_its_key_alone(rule: Augmentation, key: int, count: int, seed: int) -> None:
    """Other images, labels and views are mixed alike; inputs and global generators stay as they were."""
    first, second = (plain(pictures(count, seed=s)) for s in (seed, seed + 1))
    kept, before = first.clone(), generators()
    (one, two), shares = mix([first, second], torch.arange(count), rule, 10, key)
    (alone,), others = mix([second], torch.arange(count).flip(0), rule, 10, key)
    assert same(first, kept)
    assert generators() == before
    assert same(two, alone)
    ours = shares[torch.arange(count), torch.arange(count)]
    assert torch.equal(ours, others[torch.arange(count), torch.arange(count).flip(0)])
    torch.testing.assert_close(shares.sum(dim=1), torch.ones(count))
    assert one.shape == first.shape


@settings(deadline=None, max_examples=40)
@given(mixing_rules, keys, st.integers(1, 4), st.booleans())
def test_pixels_are_mixed_as_the_shares_say(
    rule: Augmentation,
    key: int,
    pairs: int,
    odd: bool,  # noqa: FBT001
) -> None:
    """The image from the other end enters by one share, or by a box of that share; an odd last one stays."""
    count = 2 * pairs + odd
    images = plain(pictures(count))
    (found,), shares = mix([images], torch.arange(count), rule, count, key)
    even = 2 * pairs
    partner, share = images[:even].flip(0), float(shares[0, 0])
    blend = share * images[:even] + (1 - share) * partner
    taken = found[:even] == partner
    own = found[:even] == images[:even]
    cut = bool((own | taken).all()) and share < 1
    if cut:
        assert rule.cutmix
        box = (~own).any(dim=1).any(dim=0)
        rows, columns = box.any(dim=1).sum(), box.any(dim=0).sum()
        assert int(box.sum()) <= int(rows * columns) <= round((1 - share) * box.numel())
    else:
        torch.testing.assert_close(found[:even], blend)
    if odd:
        assert same(found[-1], images[-1])
        assert shares[-1, -1] == 1
    position = torch.arange(even)
    torch.testing.assert_close(shares[position, position], torch.full((even,), share))
    torch.testing.assert_close(shares[position, even - 1 - position], torch.full((even,), 1 - share))


def test_probabilities_mean_what_they_say() -> None:
    """Half of the steps stay unmixed at one half; at a switch of three quarters as many are cut."""
    images, labels = plain(pictures(2)), torch.arange(2)

    def kinds(**rule: float) -> list[str]:
        found = []
        for key in range(400):
            (view,), shares = mix([images], labels, Augmentation.model_validate(rule), 2, key)
            whole = bool(((view == images) | (view == images.flip(0))).all())
            found.append("none" if shares[0, 0] == 1 else "cut" if whole else "blend")
        return found

    some = kinds(mixup=1.0, mixup_probability=0.5)
    assert 160 < some.count("none") < 240
    assert some.count("cut") == 0
    both = kinds(mixup=1.0, cutmix=1.0, switch_probability=0.75)
    assert 70 < both.count("blend") < 130


def examples(count: int) -> Decoded:
    """A training split of five classes."""
    labels = np.arange(count, dtype=np.int64) % 5
    return Decoded(pictures(count), labels, tuple(f"picture {i}" for i in range(count)))


def recipe(batch_size: int, augmentation: Augmentation) -> Recipe:
    """A recipe of four epochs."""
    return Recipe(epochs=4, batch_size=batch_size, lr=1e-3, augmentation=augmentation)


def test_a_stream_mixes_by_seed_epoch_and_step() -> None:
    """Asked for again a step is the same; other steps, epochs and seeds have other shares."""
    rule = recipe(10, Augmentation(mixup=1.0))
    streams = {(s, e): TrainStream(examples(30), rule, s, epoch=e) for s in (0, 1) for e in (0, 1)}
    shares = []
    for stream in streams.values():
        for step, batch in enumerate(stream):
            assert batch.mixed is not None
            again = stream.batch(step).mixed
            assert again is not None
            assert torch.equal(batch.mixed, again)
            shares += [float(batch.mixed.max(dim=1).values.min())]
    assert len(set(shares)) == len(shares) == 12


def test_labels_stay_those_of_the_images() -> None:
    """`labels` and `ids` are untouched by mixing, and the first share of an image is its own."""
    mixing, bare = (
        TrainStream(examples(30), recipe(10, Augmentation.model_validate(rule)), 0).batch(1)
        for rule in ({"cutmix": 1.0}, {})
    )
    assert torch.equal(mixing.labels, bare.labels)
    assert torch.equal(mixing.ids, bare.ids)
    assert bare.mixed is None
    assert mixing.mixed is not None
    assert mixing.mixed.shape == (10, 5)
    own = torch.nn.functional.one_hot(bare.labels, 5)
    partner = own.flip(0)
    share = ((mixing.mixed - partner) * (own - partner)).sum() / (own - partner).square().sum()
    torch.testing.assert_close(mixing.mixed, share * own + (1 - share) * partner)


def test_every_view_of_a_batch_is_mixed_alike() -> None:
    """Teacher and student may see two views; without other augmentation these are one and the same."""
    batch = TrainStream(examples(20), recipe(10, Augmentation(mixup=0.8, cutmix=1.0)), 0, views=2).batch(0)
    assert same(batch.pixels, batch.views[0])


def test_parts_of_a_batch_keep_their_shares() -> None:
    """Where gradients are accumulated every sample keeps the mixture of the whole batch."""
    batch = TrainStream(examples(20), recipe(10, Augmentation(mixup=0.8)), 0).batch(0)
    assert batch.mixed is not None
    parts = [part.batch for part in parts_of(batch, 3)]
    assert torch.equal(torch.cat([part.targets for part in parts]), batch.mixed)
    assert all(len(part.targets) == len(part.ids) for part in parts)


def test_repeated_images_come_in_a_row_each_drawn_anew() -> None:
    """The first third of the order, three views each; the first view is the one without repetition."""
    rule = {"rand_augment": DEIT, "flip": True}
    once = TrainStream(examples(31), recipe(10, Augmentation.model_validate(rule)), 0, epoch=2)
    thrice = TrainStream(
        examples(31), recipe(10, Augmentation.model_validate({**rule, "repeated": 3})), 0, epoch=2
    )
    assert len(thrice) == len(once)
    ids = torch.cat([batch.ids for batch in thrice])
    assert ids.tolist() == np.repeat(once.order, 3)[:30].tolist()
    views = torch.cat([batch.pixels for batch in thrice])
    plain_views = {int(i): view for batch in once for i, view in zip(batch.ids, batch.pixels, strict=True)}
    assert all(same(views[i], plain_views[int(ids[i])]) for i in range(0, 30, 3))
    different = [not same(views[i], views[i + 1]) for i in range(0, 30, 3)]
    assert sum(different) > 7


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"rand_augment": "rand-m9-x3"}, "timm has no setting 'rand-m9-x3'"),
        ({"rand_augment": "augmix-m3"}, "one such as rand-m9-mstd0.5-inc1"),
        ({"rand_augment": DEIT, "three_augment": True}, "give one of them"),
        ({"erase_fill": "noise"}, "erase_fill says nothing without erase"),
        ({"interpolation": "random"}, "interpolation says nothing without rand_augment"),
        ({"mixup_probability": 0.5}, "says nothing without mixup or cutmix"),
        ({"mixup": 0.8, "switch_probability": 0.1}, "says nothing without both mixup and cutmix"),
        ({"mixup": -1}, "mixup: Input should be greater than or equal to 0"),
        ({"repeated": 0}, "repeated: Input should be greater than or equal to 1"),
        ({"colour_jitter": 1.5}, "colour_jitter: Input should be less than or equal to 1"),
    ],
)
def test_slips_are_refused_by_field(fields: dict[str, object], message: str) -> None:
    """What timm does not know, and what would change a run's id and nothing else."""
    with pytest.raises(BadInputError, match=message):
        Augmentation.parse(fields, "test")


def test_more_views_than_a_batch_holds_are_refused() -> None:
    """An image repeated more often than a batch is long would fill batches by itself."""
    with pytest.raises(BadInputError, match="9 views of an image are more than batch_size 8"):
        Recipe.parse({"epochs": 1, "batch_size": 8, "lr": 1, "augmentation": {"repeated": 9}}, "test")


def test_what_is_off_stands_in_no_id() -> None:
    """A recipe written before these fields has the identity that it had."""
    rule = Augmentation(rotate=10.0, contrast=0.3, noise=0.1)
    assert rule.declared() == {"rotate": 10.0, "contrast": 0.3, "noise": 0.1}
    assert "augmentation" not in recipe(10, Augmentation()).identity()
