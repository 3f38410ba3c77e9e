"""Text heads through plan and engine: from class names to the logits that a student learns from."""

from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from open_clip import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from PIL import Image

from tests.fixtures.narrow_texts import clip, siglip2, stored, stored_tensors, whole_model, write_tokenizer
from vitkd_bench.api import load_suite, plan_suite
from vitkd_bench.engine import PackOptions, run_pack
from vitkd_bench.engine.teacher import read_teacher
from vitkd_bench.pipeline import eval_batches, open_splits
from vitkd_bench.records import Preparations, Store
from vitkd_bench.spec import Plan, Run, WorldError

pytestmark = pytest.mark.usefixtures("own_shelf")

CLASSES = ("red", "green_square", "blue")
EXTENSION = """from tests.fixtures.narrow_texts import clip, siglip2
from vitkd_bench.registry import RECIPES, TEACHERS
from vitkd_bench.spec import Recipe

TEACHERS.register(clip(), siglip2())
if "narrow" not in RECIPES.names():
    RECIPES.add("narrow", Recipe(name="narrow", epochs=1, batch_size=16, lr=1e-3), __file__)
"""
SUITE = """suite: texts
version: 1
datasets: [{DATA}]
extensions: [texts.py]
recipe: narrow
teachers: [{TEACHERS}]
students: [standard]
methods: [METHODS]
seeds: [0]
"""
DATA = "name: folder, train: train, test: test, val: {per_class: 2}"
TEXTS = "name: narrow/clip, weights: open_clip_model.safetensors, head: text"


def write_pictures(folder: Path, names: tuple[str, ...] = CLASSES) -> None:
    """Squares of three colours with noise, eight a class to train on and four to test."""
    random = np.random.default_rng(0)
    for split, count in (("train", 8), ("test", 4)):
        for index, name in enumerate(names):
            place = folder / split / name
            place.mkdir(parents=True)
            for i in range(count):
                pixels = random.integers(0, 90, (32, 32, 3), dtype=np.uint8)
                pixels[..., index % 3] += 150
                Image.fromarray(pixels).save(place / f"{i}.png")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A suite's folder with pictures, an extension that registers the teachers, and CLIP's weights."""
    write_pictures(tmp_path)
    (tmp_path / "texts.py").write_text(EXTENSION)
    stored(whole_model(clip()), tmp_path)
    return tmp_path


def planned(
    folder: Path, *, teachers: str = TEXTS, data: str = DATA, methods: str = "none, kd, attn_copy"
) -> Plan:
    """Plan the suite with some of its lines changed; weights are looked for beside it."""
    text = SUITE.replace("DATA", data).replace("TEACHERS", teachers).replace("METHODS", methods)
    (folder / "suite.yaml").write_text(text)
    return plan_suite(load_suite(str(folder / "suite.yaml")))


def run_of(plan: Plan, method: str) -> Run:
    """The run of a method's cell."""
    (cell,) = (cell for cell in plan.cells if cell.method == method)
    return plan.runs[cell.runs["0"]]


def test_a_student_learns_from_class_names(folder: Path) -> None:
    """`kd` is trained whole, and its teacher says what open_clip's own zero-shot classifier says."""
    plan = planned(folder, methods="none, kd, sparse_kd, attn_copy")
    assert not plan.refusals
    store, made = Store(folder / "out"), Preparations(folder / "cache")
    for pack in plan.packs:
        run_pack(plan, pack, store, made, PackOptions(roots=(folder,)))
    assert {record.status for record in store.records().values()} == {"done"}
    run = run_of(plan, "kd")
    record = store.read(run.id)
    assert record is not None
    with np.load(store.predictions_path(run.id)) as kept:
        chosen, labels = kept["test/top5"][:, 0], kept["test/label"]
    (batch,) = eval_batches(open_splits(run.dataset, (folder,), 32).test, 64)
    assert batch.labels.tolist() == labels.tolist()
    said = zero_shot(batch.pixels, [info.name.replace("_", " ") for info in run.dataset.classes])
    assert record.metrics["test"]["agreement"] == pytest.approx(np.mean(said == chosen))
    read = read_teacher(plan, [run], made, torch.device("cpu"))
    assert read is not None
    assert read.contract.head is not None
    assert read.contract.head.kind == "text"
    logits = read.network(batch.pixels, frozenset({"logits"})).logits
    assert logits is not None
    assert logits.argmax(1).tolist() == said.tolist()


@torch.no_grad()
def zero_shot(pixels: torch.Tensor, names: list[str]) -> Any:
    """The class that open_clip itself finds in each image."""
    model, tokenize = whole_model(clip()), open_clip.get_tokenizer("narrow-clip")
    texts = open_clip.build_zero_shot_classifier(model, tokenize, names, ["a photo of a {}."])
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (OPENAI_DATASET_MEAN, OPENAI_DATASET_STD))
    return (model.encode_image((pixels - mean) / std, normalize=True) @ texts).argmax(1).numpy()


def test_what_makes_the_head_stands_in_the_id_of_what_reads_it(folder: Path) -> None:
    """Templates and the head rename `kd` alone; saying the templates of the entry renames nothing."""
    plain = planned(folder, teachers=TEXTS.replace(", head: text", ""), methods="none, attn_copy")
    texts = planned(folder)
    for method in ("none", "attn_copy"):
        assert run_of(plain, method).id == run_of(texts, method).id
    said = planned(folder, data=f"{DATA}, templates: ['a photo of a {{}}.']")
    other = planned(folder, data=f"{DATA}, templates: ['a photo of a {{}}.', 'a bad photo of a {{}}.']")
    assert run_of(said, "kd").id == run_of(texts, "kd").id
    assert run_of(other, "kd").id != run_of(texts, "kd").id
    assert run_of(other, "kd").cell_key != run_of(texts, "kd").cell_key
    for method in ("none", "attn_copy"):
        assert run_of(other, method).id == run_of(texts, method).id
    use = run_of(texts, "kd").teacher
    assert use is not None
    assert use.head == "text"
    assert (use.head_pin or "").startswith("text:1:")


def test_two_templates_of_one_data_set_make_two_packs(folder: Path) -> None:
    """Runs that read other logits share no teacher, though they see the same pixels."""
    other = "name: folder, as: bad, train: train, test: test, val: {per_class: 2}, templates: ['a bad {}.']"
    plan = planned(folder, data=f"{DATA}}}, {{{other}", methods="kd")
    packs = [pack.runs for pack in plan.packs]
    assert sorted(map(len, packs)) == [1, 1]


@pytest.mark.parametrize(
    ("teachers", "reason"),
    [
        ("name: narrow/clip, weights: tower.safetensors, head: text", "the file holds the image tower alone"),
        (
            "name: clip/b16, head: text",
            "timm's file of clip/b16 holds the image tower alone; head: text needs",
        ),
        ("name: deit/ti, head: text", "has no text tower for head: text; head: probe fits"),
        ("name: micro/clip, head: text", "the head of micro/clip is one of texts itself"),
        (
            "name: narrow/clip, weights: open_clip_model.safetensors",
            "; head: text makes one of class names, ",
        ),
    ],
)
def test_a_teacher_without_texts_is_refused(folder: Path, teachers: str, reason: str) -> None:
    """In one sentence, whether its weights are here or not; what reads no logits is planned all the same."""
    tower = {k: t for k, t in whole_model(clip()).state_dict().items() if k.startswith("visual.")}
    (folder / "tower").mkdir()
    stored_tensors({k: t for k, t in tower.items() if k != "visual.proj"}, folder / "tower").rename(
        folder / "tower.safetensors"
    )
    plan = planned(folder, teachers=teachers)
    (refusal,) = (r for r in plan.refusals if r.method == "kd")
    assert reason in refusal.reason
    assert refusal.kind == "impossible"
    assert all(reason not in r.reason for r in plan.refusals if r.method == "attn_copy")


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (("n01440764", "n01443537", "n01484850"), "class 'n01440764' of folder is an id and no name"),
        (("0", "1", "2"), "class '0' of folder is an id and no name"),
        (("red_square", "red square", "blue"), "two classes of folder are called 'red square'"),
    ],
)
def test_classes_without_names_are_refused(tmp_path: Path, names: tuple[str, ...], reason: str) -> None:
    """A sentence with an id in it says nothing, and two equal sentences tell nothing apart."""
    write_pictures(tmp_path, names)
    (tmp_path / "texts.py").write_text(EXTENSION)
    stored(whole_model(clip()), tmp_path)
    (refusal,) = planned(tmp_path).refusals
    assert refusal.reason.startswith(reason)
    assert refusal.method == "kd"


def test_controls_keep_or_lose_the_texts(folder: Path) -> None:
    """Another network has no text tower, and another head needs none."""
    methods = "{name: kd, control: random_teacher}, {name: kd, control: HEAD}"
    plan = planned(folder, methods=methods.replace("HEAD", "random_head"))
    (refusal,) = plan.refusals
    assert refusal.reason.startswith("random_teacher draws an image tower, and no text tower")


def test_a_tokenizer_is_looked_for_and_pinned(folder: Path) -> None:
    """Without it the cell is not fetched; another is another run, and one changed after the plan fails."""
    weights = stored(whole_model(siglip2()), folder / "siglip")
    teachers = f"name: narrow/siglip2, weights: {weights}, head: text"
    (refusal,) = planned(folder, teachers=teachers).refusals
    assert refusal.kind == "not_fetched"
    assert "hf download example/narrow-siglip2" in refusal.reason
    write_tokenizer(folder / "siglip")
    plan = planned(folder, teachers=teachers)
    assert not plan.refusals
    first = run_of(plan, "kd").id
    write_tokenizer(folder / "siglip", words=("photo", "red"))
    assert run_of(planned(folder, teachers=teachers), "kd").id != first
    (pack,) = (pack for pack in plan.packs if first in pack.runs)
    with pytest.raises(WorldError, match="the tokenizer of its text tower has changed"):
        run_pack(plan, pack, Store(folder / "out"), Preparations(folder), PackOptions(roots=(folder,)))
