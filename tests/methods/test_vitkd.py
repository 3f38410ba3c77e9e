import pytest
import torch
from torch import Tensor

from tests.methods.conftest import MakeCell, MakeMethod, as_teacher, network
from tests.methods.laws import G3_STUDENT, G3_TEACHER, LossLaws, laws_of
from tests.methods.two_steps import student_gradients, two_steps
from vitkd_bench.contracts import Batch
from vitkd_bench.methods.vitkd import Generator, ViTKD, vitkd_generation_loss, vitkd_loss
from vitkd_bench.registry import TEACHERS
from vitkd_bench.spec import SIZES, ResolvedDataset

MASK = torch.tensor([[True, False, True, False], [False, True, True, True]])


def masked(student: Tensor, teacher: Tensor) -> Tensor:
    """The generation's loss under a fixed mask."""
    return vitkd_generation_loss(student, teacher, MASK[: len(student)])


test_the_laws_hold = laws_of(
    {
        "mimicking": LossLaws(vitkd_loss, G3_STUDENT, G3_TEACHER),
        "generation": LossLaws(masked, G3_STUDENT, G3_TEACHER),
    }
)


def test_the_golden_value() -> None:
    """G3, one block: the published sum over B with weight 3e-5 is this mean with weight 3e-5 N D."""
    published = 3e-5 * G3_STUDENT[0].numel() * vitkd_loss(G3_STUDENT, G3_TEACHER)
    assert published.item() == pytest.approx(1.35e-4, abs=1e-12)


@pytest.mark.parametrize(("width", "mimic", "generation"), [(384, 4.516, 0.2258), (768, 9.032, 0.4516)])
def test_default_weights_are_the_published_ones(width: int, mimic: float, generation: float) -> None:
    """Sums over two blocks of 196 tokens, 3e-5 and 3e-6, against means with the weights of that width."""
    generator = torch.Generator().manual_seed(0)
    s, t = (torch.randn(3, 196, width, generator=generator, dtype=torch.float64) for _ in range(2))
    mask = torch.zeros(3, 196, dtype=torch.bool)
    mask[:, ::2] = True
    summed = 2 * 3e-5 * (s - t).square().sum() / 3
    assert mimic * vitkd_loss(s, t).item() == pytest.approx(summed.item(), rel=1e-3)
    summed = 3e-6 / 0.5 * ((s - t) * mask.unsqueeze(-1)).square().sum() / 3
    assert generation * vitkd_generation_loss(s, t, mask).item() == pytest.approx(summed.item(), rel=1e-3)


def test_generation_against_loops() -> None:
    """The mean over masked tokens and channels, one by one; shown tokens play no part."""
    s, t = G3_STUDENT.tolist(), G3_TEACHER.tolist()
    terms = [
        (s[b][n][d] - t[b][n][d]) ** 2 for b in range(2) for n in range(4) for d in range(2) if MASK[b, n]
    ]
    assert masked(G3_STUDENT, G3_TEACHER).item() == pytest.approx(sum(terms) / len(terms), abs=1e-14)
    elsewhere = G3_STUDENT + 100 * ~MASK.unsqueeze(-1)
    assert masked(elsewhere, G3_TEACHER).item() == masked(G3_STUDENT, G3_TEACHER).item()
    assert vitkd_generation_loss(G3_STUDENT, G3_TEACHER, torch.zeros_like(MASK)).item() == 0


def test_the_generator_sees_shown_neighbours_alone() -> None:
    """A masked token's own value never reaches the output; a shown one reaches two places around it."""
    generator = Generator(3).double()
    tokens = torch.randn(1, 49, 3, dtype=torch.float64, requires_grad=True)
    mask = torch.zeros(1, 49, dtype=torch.bool)
    mask[0, 24] = True  # the centre of the 7 x 7 grid
    (gradient,) = torch.autograd.grad(generator(tokens, mask)[0, 24].sum(), tokens)
    reached = gradient[0].abs().sum(dim=1).reshape(7, 7) > 0
    expected = torch.zeros(7, 7, dtype=torch.bool)
    expected[1:6, 1:6] = True
    expected[3, 3] = False
    assert torch.equal(reached, expected)


def test_the_grid_is_not_transposed() -> None:
    """Generation knows rows from columns: an image turned over its diagonal needs kernels turned too."""
    generator = Generator(2).double()
    tokens = torch.randn(1, 16, 2, dtype=torch.float64)
    mask = torch.zeros(1, 16, dtype=torch.bool)
    mask[0, 6] = True
    turned = torch.arange(16).reshape(4, 4).T.flatten()
    plain = generator(tokens, mask)[:, turned]
    other = generator(tokens[:, turned], mask[:, turned])
    assert not torch.allclose(plain, other)
    with torch.no_grad():
        for layer in (generator.convolutions[0], generator.convolutions[2]):
            layer.get_parameter("weight").copy_(layer.get_parameter("weight").transpose(2, 3).clone())
    torch.testing.assert_close(generator(tokens[:, turned], mask[:, turned]), plain)


@pytest.mark.parametrize("size", ["micro", "micro_small"])
def test_everything_learned_moves(
    size: str, batch: Batch, make_cell: MakeCell, make_method: MakeMethod, digits: ResolvedDataset
) -> None:
    """Mask token, convolutions and, where widths differ, linear layers: all trained from the first step."""
    cell = make_cell("micro/deit", TEACHERS.get("micro/deit").architecture.with_(size=SIZES[size]))
    assert cell.teacher_architecture is not None
    student = network(cell.student, digits)
    teacher = as_teacher(network(cell.teacher_architecture, digits, seed=4))
    method = make_method("vitkd", cell)
    steps = two_steps(method, student, teacher, batch)
    assert not steps.still
    linear = {name.split(".")[0] for name in steps.moved} - {"generator"}
    assert linear == (set() if size == "micro" else {"aligned", "aligned_last"})
    assert "generator.mask_token" in steps.moved


def test_each_part_reaches_its_blocks(
    batch: Batch, make_cell: MakeCell, make_method: MakeMethod, digits: ResolvedDataset
) -> None:
    """Mimicking trains the low blocks alone, generation all of them; the teacher's head is not asked."""
    cell = make_cell("micro/deit", "standard")
    assert cell.teacher_architecture is not None
    student = network(cell.student, digits)
    teacher = as_teacher(network(cell.teacher_architecture, digits, seed=4))
    reached = {}
    for part in ("mimic", "generation"):
        method = make_method("vitkd", cell, **{part: 0.0})
        assert method.teacher_taps() == {"tokens/0", "tokens/1", "tokens/3"}
        seen = teacher(batch.pixels, method.teacher_taps())
        found = student_gradients(method.step(student, seen, batch)["vitkd"], student)
        reached[part] = {i for i in range(4) if found.get(f"blocks.{i}.mlp.fc2.weight", 0) > 0}
    assert reached == {"generation": {0, 1}, "mimic": {0, 1, 2, 3}}


def test_the_share_of_masked_tokens(
    batch: Batch, make_cell: MakeCell, make_method: MakeMethod, digits: ResolvedDataset
) -> None:
    """The mask is drawn anew for every image and step, by torch's global generator, at its share."""
    cell = make_cell("micro/deit", "standard")
    assert cell.teacher_architecture is not None
    student = network(cell.student, digits)
    teacher = as_teacher(network(cell.teacher_architecture, digits, seed=4))
    method = make_method("vitkd", cell, mask=0.25)
    assert isinstance(method, ViTKD)
    masks: list[Tensor] = []
    method.generator.register_forward_hook(lambda _module, args, _out: masks.append(args[1]))
    seen = teacher(batch.pixels, method.teacher_taps())
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        method.step(student, seen, batch)
    assert all((mask.sum(dim=1) == 4).all() for mask in masks)
    assert torch.equal(masks[0], masks[1])
    assert not torch.equal(masks[0], masks[2])
    assert not torch.equal(masks[0][0], masks[0][1])
