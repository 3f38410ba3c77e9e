"""What the loader gives beside timm's own, and what training waits for it.

    python benchmarks/speed/data.py [--images FOLDER_OR_TAR] [--workers 0 1 2] [--device cpu]

Takes about five minutes. Images are real ones (`imagenet_sample` of the data root unless others are named),
written as ImageNet has them: the shorter side 375 px, JPEG of quality 95. Both loaders make the same: a crop
of 8 to 100 % of the area, bicubic to 224 px, mirrored half of the time, normalised float32. They take turns
in one process; ratios are medians over the turns, by the clock.

- loader: images a second of ours over timm's, with as many worker processes each (goal: at least 1.0).
- training: images a second of training a ViT-Ti at 112 px with images decoded anew over those with images
  decoded once, and the share of the time that the loop waits for data (goal on a GPU with 16 workers: under
  5 %, for a ViT-S at 224 px: `--device cuda --workers 16`).
"""

from __future__ import annotations

import argparse
import io
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from PIL import Image

from vitkd_bench.engine import PackOptions, run_pack
from vitkd_bench.pipeline import Loading, TrainStream, load, open_splits, ready, resolve_dataset
from vitkd_bench.pipeline.tree import open_files
from vitkd_bench.records import Preparations, Store
from vitkd_bench.registry import DATASETS, TEACHERS
from vitkd_bench.spec import (
    IMAGENET_PIXELS,
    Augmentation,
    MethodUse,
    Pack,
    Plan,
    Recipe,
    ResolvedDataset,
    Run,
    resolve_student,
)
from vitkd_bench.spec.student import parse_student

SHORT, QUALITY, SIDE, CLASSES = 375, 95, 224, 4
CROP = Augmentation(crop_scale=(0.08, 1.0), flip=True)


def write_images(source: Path, root: Path, count: int) -> None:
    """Write `count` images of ImageNet's size, in `CLASSES` folders of train and test."""
    files = open_files(source)
    names = [name for name in files.names if name.lower().endswith((".jpg", ".jpeg"))]
    for i in range(count):
        image = Image.open(io.BytesIO(files.read(names[i % len(names)]))).convert("RGB")
        scale = SHORT / min(image.size)
        image = image.resize(
            (round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC
        )
        for split in ("train", *(["test"] if i < 2 * CLASSES else [])):
            folder = root / split / f"class{i % CLASSES}"
            folder.mkdir(parents=True, exist_ok=True)
            image.save(folder / f"{i:05d}.jpg", quality=QUALITY)


def dataset(root: Path, decode: str) -> ResolvedDataset:
    """The images as a data set."""
    settings = {"train": "train", "test": "test", "val": {"per_class": 2}, "decode": decode}
    return resolve_dataset(DATASETS.get("folder"), settings, (root,))


def ours(root: Path, workers: int, batch: int) -> Callable[[int], int]:
    """Make a pass of our loader; what it gives counts the images."""
    train = open_splits(dataset(root, "anew"), (root,), SIDE).train
    recipe = Recipe(epochs=1, batch_size=batch, lr=1e-3, augmentation=CROP)
    mean, deviation = (torch.tensor(v).view(1, 3, 1, 1) for v in (IMAGENET_PIXELS.mean, IMAGENET_PIXELS.std))

    def epoch(number: int) -> int:
        stream = TrainStream(train, recipe, 0, epoch=number)
        batches = load(stream.raw, len(stream), Loading(workers))
        return sum(len(ready(b).pixels.sub_(mean).div_(deviation)) for b in batches)

    return epoch


def timms(root: Path, workers: int, batch: int) -> Callable[[int], int]:
    """Make a pass of timm's loader with its prefetcher, which normalises a batch of bytes as ours does."""
    from timm.data import ImageDataset, create_loader  # after ours, which mends torchvision's import

    loader = create_loader(
        ImageDataset(str(root / "train")),
        input_size=(3, SIDE, SIDE),
        batch_size=batch,
        is_training=True,
        use_prefetcher=True,
        scale=(0.08, 1.0),
        hflip=0.5,
        color_jitter=None,
        interpolation="bicubic",
        mean=IMAGENET_PIXELS.mean,
        std=IMAGENET_PIXELS.std,
        num_workers=workers,
        persistent_workers=False,
        device=torch.device("cpu"),
    )
    return lambda _: sum(len(images) for images, _ in loader)


def turns(passes: dict[str, Callable[[int], int]], repeats: int) -> dict[str, list[tuple[float, float]]]:
    """Let each make passes in turn; images a second of each, by the clock and by this process's CPU time."""
    rates: dict[str, list[tuple[float, float]]] = {name: [] for name in passes}
    for turn in range(repeats + 1):
        for name, make in passes.items():
            began, worked = time.perf_counter(), time.process_time()
            count = make(turn)
            if turn:  # the first fills the caches of the disk
                clock, cpu = time.perf_counter() - began, time.process_time() - worked
                rates[name].append((count / clock, count / cpu))
    return rates


def ratios(rates: dict[str, list[tuple[float, float]]], which: int) -> list[float]:
    """Give ours over timm's, turn by turn, sorted; `which` is 0 for the clock and 1 for CPU time."""
    return sorted(o[which] / t[which] for o, t in zip(rates["ours"], rates["timm"], strict=True))


def training(root: Path, device: str, workers: int) -> Iterator[tuple[str, float, float]]:
    """Train with images decoded once and anew: images a second, and the share of time waited for data."""
    student, side = ("standard", 224) if device != "cpu" else ("standard@ti", 112)
    facts = TEACHERS.get("deit/s" if device != "cpu" else "deit/ti").architecture.with_(image_size=side)
    recipe = Recipe(
        epochs=3, batch_size=32 if device == "cpu" else 256, lr=1e-3, image_size=side, augmentation=CROP
    )
    for decode in ("once", "anew"):
        run = Run(
            student=resolve_student(parse_student(student), facts),
            method=MethodUse(name="none", version=1),
            dataset=dataset(root, decode),
            recipe=recipe,
            seed=0,
        )
        pack = Pack(id=run.id, runs=(run.id,))
        plan = Plan(
            suite="data", resolved={}, cells=(), runs={run.id: run}, packs=(pack,), teachers={}, methods={},
            evaluate={run.dataset.name: ("val",)},
        )  # fmt: skip
        with tempfile.TemporaryDirectory() as folder:
            store = Store(Path(folder))
            options = PackOptions(roots=(root,), device=device, data_workers=workers)
            began = time.perf_counter()
            run_pack(plan, pack, store, Preparations(Path(folder) / "made"), options)
            wall, record = time.perf_counter() - began, store.read(run.id)
        if record is None or record.status != "done":
            raise RuntimeError(f"the run failed: {record and record.error}")
        waited = record.cost["data_wait_s"] / (record.cost["data_wait_s"] + record.cost["wall_s"])
        yield f"{decode} ({wall:.0f} s)", record.cost["images_per_s"], waited


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=Path)
    parser.add_argument("--count", type=int, default=384)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    images = (
        asked.images or Path(os.environ.get("VITKD_DATA", "../shared/data")) / "imagenet_sample/images.tar"
    )
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_images(images, root, asked.count)
        print(f"{asked.count} images, batches of {asked.batch}, torch {torch.__version__}")
        print("workers   timm, images/s    ours   ratio  least to most  CPU time")
        for workers in asked.workers:
            makers = {"timm": timms(root, workers, asked.batch), "ours": ours(root, workers, asked.batch)}
            rates = turns(makers, asked.repeats)
            one, other = (statistics.median(clock for clock, _ in rates[name]) for name in ("timm", "ours"))
            clock, cpu = ratios(rates, 0), ratios(rates, 1)
            by_cpu = f"{statistics.median(cpu):>9.3f}" if not workers else f"{'':>9}"  # workers' is not ours
            spread = f"  {clock[0]:.2f} to {clock[-1]:.2f}"
            print(
                f"{workers:<9}{one:>15.1f}{other:>8.1f}{statistics.median(clock):>8.3f}{spread:<16}{by_cpu}"
            )
        print(f"\n{'training':<16}{'images/s':>10}{'waited for data':>18}")
        for name, rate, waited in training(root, asked.device, max(asked.workers)):
            print(f"{name:<16}{rate:>10.1f}{waited:>17.1%}")


if __name__ == "__main__":
    main()
