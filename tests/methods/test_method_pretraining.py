import copy
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tests.methods.conftest import MakeCell, MakeMethod, as_teacher, network
from vitkd_bench.contracts import Batch, Features, Method
from vitkd_bench.methods._average import average_of, momentum_at, move_average
from vitkd_bench.methods._masking import masked_embedding, partial_mask, random_mask, window_tokens
from vitkd_bench.methods._stages import pooled
from vitkd_bench.methods.pretrain_beitv2 import fit_codebook, nearest_word
from vitkd_bench.methods.pretrain_mae import patches_of
from vitkd_bench.networks import ViTNetwork
from vitkd_bench.registry import METHODS, TEACHERS
from vitkd_bench.spec import ResolvedDataset

MICRO = {t.name: t.training for t in TEACHERS if t.training is not None}
AVERAGED = {"pretrain_dino", "pretrain_ibot", "pretrain_dinov2"}
Made = tuple[Method, ViTNetwork, Features | None]
Make = Callable[[str], Made]


@pytest.fixture
def make(make_cell: MakeCell, make_method: MakeMethod, digits: ResolvedDataset, batch: Batch) -> Make:
    """Make a micro teacher's method and its student, fitted, and what it reads of a teacher of its own."""

    def made(name: str) -> Made:
        facts, training = TEACHERS.get(name), MICRO[name]
        cell = make_cell(training.teacher, facts.architecture)
        method = make_method(training.method, cell)
        student = network(facts.architecture, digits, classes=10 if facts.head else 0)
        teacher = None
        if cell.teacher_architecture is not None:
            teacher = as_teacher(network(cell.teacher_architecture, digits, seed=4))
        method.fit(student, teacher, [batch])
        read = teacher(batch.pixels, method.teacher_taps()) if teacher and method.teacher_taps() else None
        return method, student, read

    return made


def parameters(method: Method, student: ViTNetwork) -> list[nn.Parameter]:
    """Give all that the engine would train."""
    modules = [student, *([method] if isinstance(method, nn.Module) else [])]
    return [p for module in modules for p in module.parameters() if p.requires_grad]


def fixed_loss(made: Made, batch: Batch) -> float:
    """Measure the loss with the same masks each time."""
    method, student, read = made
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(3)
        return float(sum(part.item() for part in method.step(student, read, batch).values()))


@pytest.mark.parametrize("name", sorted(MICRO))
def test_a_few_steps_learn(name: str, make: Make, batch: Batch) -> None:
    """On one batch the objective falls, everything that is trained moves, and the result is sound."""
    made = method, student, read = make(name)
    trained = parameters(method, student)
    before = [p.detach().clone() for p in trained]
    # targets that move with the student hide its progress: hold them
    still = type(method).after_step
    start = fixed_loss(made, batch)
    optimiser = torch.optim.AdamW(trained, lr=2e-3)
    used = [False] * len(trained)
    for step in range(6):
        parts = method.step(student, read, batch)
        assert all(part.ndim == 0 and torch.isfinite(part) for part in parts.values())
        optimiser.zero_grad()
        torch.stack(list(parts.values())).sum().backward()
        used = [u or p.grad is not None for u, p in zip(used, trained, strict=True)]
        optimiser.step()
        if step == 5:
            still(method, student, 1.0)
    assert fixed_loss(made, batch) < start
    moved = [not torch.equal(a, b.detach()) for a, b in zip(before, trained, strict=True)]
    assert moved == used
    assert sum(moved) / len(moved) > 0.8
    result = method.result(student)
    assert isinstance(result, ViTNetwork)
    assert all(torch.isfinite(value).all() for value in result.module.state_dict().values())
    assert (result is not student) == (MICRO[name].method in AVERAGED)
    assert result.module.state_dict().keys() == student.module.state_dict().keys()


@pytest.mark.parametrize("name", ["micro/dino", "micro/ibot", "micro/mae", "micro/beitv2", "micro/siglip2"])
def test_the_global_stream_decides_every_draw(name: str, make: Make, batch: Batch) -> None:
    """Equal seeds give equal losses to the last bit, also of what `fit` draws; another seed gives others."""

    def once(seed: int) -> float:
        torch.manual_seed(seed)
        method, student, read = make(name)
        return float(sum(part.item() for part in method.step(student, read, batch).values()))

    assert once(1) == once(1)
    assert once(1) != once(2)


def test_every_pretraining_method_makes_a_teacher() -> None:
    """No objective is without a family, and every micro teacher's objective is on the shelf."""
    on_shelf = {entry.name for entry in METHODS if entry.kind == "pretraining"}
    assert {training.method for training in MICRO.values()} == on_shelf


@pytest.mark.parametrize(
    "name", ["micro/dino", "micro/ibot", "micro/dinov2", "micro/mocov3", "micro/siglip2"]
)
def test_averages_are_not_trained(name: str, make: Make, batch: Batch) -> None:
    """The average gets no gradient and no place in the optimiser, and travels in the method's state."""
    method, student, read = make(name)
    assert isinstance(method, nn.Module)
    average = method.get_submodule("average")
    assert not any(p.requires_grad for p in average.parameters())
    assert any(key.startswith("average.module.blocks.0") for key in method.state_dict())
    before = copy.deepcopy(average.state_dict())
    torch.stack(list(method.step(student, read, batch).values())).sum().backward()
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(1.0)
    method.after_step(student, 0.0)
    moved = [(average.state_dict()[k] - v).flatten()[0].item() for k, v in before.items() if "blocks" in k]
    assert moved == pytest.approx([0.02] * len(moved), abs=1e-4)


def test_moco_keeps_its_patch_projection(make: Make) -> None:
    """MoCo v3's patch projection stays as it was drawn."""
    method, student, _ = make("micro/mocov3")
    frozen = {id(p) for p in student.module.get_submodule("patch_embed").parameters()}
    assert frozen
    assert frozen.isdisjoint({id(p) for p in parameters(method, student)})


@pytest.mark.parametrize("name", ["micro/clip", "micro/siglip2"])
def test_the_head_is_made_of_names(name: str, make: Make, batch: Batch) -> None:
    """The written head orders the classes of every image as the cosines with their names do."""
    method, student, read = make(name)
    method.step(student, read, batch)
    towers = method.get_submodule("towers") if isinstance(method, nn.Module) else None
    assert towers is not None
    result = method.result(student)
    student.eval()
    images, names = towers(pooled(student, batch.pixels))
    logits = result(batch.pixels).logits
    assert logits is not None
    assert torch.equal(logits.argsort(dim=1), (images @ names.T).argsort(dim=1))
    assert names.shape[0] == logits.shape[1] == 10
    assert (names @ names.T).fill_diagonal_(0).max() < 0.999


def test_masks_of_siglip2_set_in_late(make: Make, batch: Batch) -> None:
    """The masked term is there in the last fifth of training alone."""
    method, student, read = make("micro/siglip2")
    early = method.step(student, read, batch)
    late = method.step(student, read, Batch(batch.pixels, batch.labels, batch.ids, progress=0.85))
    assert (set(early), set(late)) == ({"contrast"}, {"contrast", "masked"})


def test_mae_sees_nothing_of_dropped_patches(
    make: Make, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the decoder is given does not change with the pixels of masked patches."""
    method, student, _ = make("micro/mae")
    mask = random_mask(len(batch.pixels), 16, 0.5)
    monkeypatch.setattr("vitkd_bench.methods.pretrain_mae.random_mask", lambda *_: mask)
    seen: list[torch.Tensor] = []
    assert isinstance(method, nn.Module)
    method.get_submodule("decoder").register_forward_pre_hook(lambda _, given: seen.append(given[0].detach()))
    hidden = mask.view(-1, 1, 4, 4).repeat_interleave(2, 2).repeat_interleave(2, 3)
    changed = torch.where(hidden, 1 - batch.pixels, batch.pixels)
    for pixels in (batch.pixels, changed):
        method.step(student, None, Batch(pixels, batch.labels, batch.ids))
    assert torch.equal(seen[0], seen[1])
    assert seen[0].shape == (len(batch.pixels), 8, 48)


def test_patches_stand_in_the_order_of_tokens(batch: Batch) -> None:
    """Patch k of a grid of 4 is row k // 4, column k % 4."""
    patches = patches_of(batch.pixels, 2)
    for k in (0, 1, 4, 15):
        row, column = divmod(k, 4)
        box = batch.pixels[:, 0, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
        assert torch.equal(patches[:, k], box.flatten(1))


@pytest.mark.parametrize("family", ["deit", "clip", "beitv2", "dinov2_reg", "siglip2"])
def test_masked_tokens_show_their_place_and_not_their_pixels(
    family: str, make_cell: MakeCell, digits: ResolvedDataset, batch: Batch
) -> None:
    """A masked token is the same whatever its pixels, differs from place to place, and spares all others."""
    student = network(make_cell(f"micro/{family}").student, digits)
    pixels, prefix = batch.pixels[:4], student.architecture.prefix
    pixels = torch.cat([pixels, pixels.flip(3)])
    token, mask = nn.Parameter(torch.randn(48)), random_mask(8, 16, 0.5)
    mask[4:] = mask[:4]
    whole = masked_embedding(student, pixels, torch.zeros_like(mask), token)
    tokens = masked_embedding(student, pixels, mask, token)
    assert torch.equal(tokens[:, :prefix], whole[:, :prefix])
    assert torch.equal(tokens[:, prefix:][~mask], whole[:, prefix:][~mask])
    assert torch.equal(tokens[:4, prefix:][mask[:4]], tokens[4:, prefix:][mask[4:]])
    first = tokens[0, prefix:][mask[0]]
    assert (family == "beitv2") == bool((first == first[0]).all())


@given(st.integers(1, 6), st.integers(0, 3), st.data())
@settings(max_examples=40, deadline=None)
def test_a_window_is_a_square_of_neighbours(grid: int, prefix: int, data: st.DataObject) -> None:
    """All prefix tokens and a side x side square of patches, row by row; the whole grid at full side."""
    side = data.draw(st.integers(1, grid))
    names = torch.arange(prefix + grid**2).float().view(1, -1, 1).expand(7, -1, 2)
    kept = window_tokens(names, prefix, grid, side)
    assert kept.shape == (7, prefix + side**2, 2)
    assert torch.equal(kept[:, :prefix], names[:, :prefix])
    for image in kept[:, prefix:, 0].long() - prefix:
        rows, columns = image // grid, image % grid
        assert [int(v) for v in image] == sorted({int(v) for v in image})
        assert int(rows.max() - rows.min()) == int(columns.max() - columns.min()) == side - 1


@given(st.integers(2, 40), st.integers(2, 30), st.floats(0.01, 0.99), st.floats(0.01, 1.0))
@settings(max_examples=40, deadline=None)
def test_masks_have_the_share_that_was_asked_for(
    images: int, patches: int, ratio: float, share: float
) -> None:
    """Each masked image loses the same number of patches, at least one and never all."""
    counts = random_mask(images, patches, ratio).sum(dim=1)
    assert set(counts.tolist()) == {min(max(round(ratio * patches), 1), patches - 1)}
    part = partial_mask(images, patches, ratio, share).sum(dim=1)
    assert int((part > 0).sum()) == min(max(round(share * images), 2), images)


@given(st.floats(0, 0.999), st.floats(0, 1), st.floats(0, 1))
def test_momentum_rises_to_one(start: float, a: float, b: float) -> None:
    """From its start, never falling, to 1 at the end."""
    assert momentum_at(start, 0) == pytest.approx(start)
    assert momentum_at(start, 1) == 1
    low, high = momentum_at(start, min(a, b)), momentum_at(start, max(a, b))
    assert start - 1e-12 <= low <= high + 1e-12


def test_average_moves_by_its_momentum() -> None:
    """Momentum 1 stands still, 0 copies, .75 goes a quarter of the way; buffers follow."""
    module = nn.BatchNorm1d(3)
    average = average_of(module)
    with torch.no_grad():
        module.weight.fill_(5.0)
        module.running_mean.fill_(2.0)  # type: ignore[union-attr]
    for momentum, expected in ((1.0, 1.0), (0.75, 2.0), (0.0, 5.0)):
        move_average(average, module, momentum)
        assert average.weight.tolist() == pytest.approx([expected] * 3)
    assert torch.equal(average.get_buffer("running_mean"), module.get_buffer("running_mean"))


def test_codebook_finds_clusters() -> None:
    """k-means on the sphere tells well separated directions apart, whatever the lengths."""
    directions = torch.eye(6)
    tokens = torch.cat([d * torch.rand(50, 1).add(0.1) + 0.01 * torch.randn(50, 6) for d in directions])
    found = max(
        (fit_codebook(tokens, 6, 20) for _ in range(20)),
        key=lambda c: len(nearest_word(directions, c).unique()),
    )
    assert len(nearest_word(directions, found).unique()) == 6
    torch.testing.assert_close(found.norm(dim=1), torch.ones(6))
    words = nearest_word(tokens, found).view(6, 50)
    assert (words == words[:, :1]).all()


def test_beit_words_are_the_teachers(make: Make) -> None:
    """The codebook is fitted on the teacher's patch tokens: filled, of unit vectors, many words in use."""
    method, _, read = make("micro/beitv2")
    assert isinstance(method, nn.Module)
    assert read is not None
    codebook = method.get_buffer("codebook")
    torch.testing.assert_close(codebook.norm(dim=1), torch.ones(len(codebook)))
    words = nearest_word(read.tokens[3][:, 1:] - method.get_buffer("mean"), codebook)
    assert len(words.unique()) > len(codebook) / 2


def test_what_cannot_be_pretrained_so_is_refused(make_cell: MakeCell) -> None:
    """MAE and a relative bias; BEiT v2 without a teacher."""
    beit = TEACHERS.get("micro/beitv2").architecture
    mae, words = METHODS.get("pretrain_mae").method, METHODS.get("pretrain_beitv2").method
    assert "relative position bias" in str(mae.refuses(mae.Config(), make_cell(None, beit)))
    assert "needs a teacher" in str(words.refuses(words.Config(), make_cell(None, beit)))
    dino, micro = METHODS.get("pretrain_dino").method, TEACHERS.get("micro/dino").architecture
    assert "set window: 0" in str(dino.refuses(dino.Config(), make_cell(None, beit)))
    assert dino.refuses(dino.Config.parse({"window": 0}), make_cell(None, beit)) is None
    assert "window 5 is larger" in str(dino.refuses(dino.Config.parse({"window": 5}), make_cell(None, micro)))
    other = beit.with_(image_size=16)
    assert "patch grids differ" in str(words.refuses(words.Config(), make_cell("micro/clip", other)))
