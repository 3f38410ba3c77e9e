import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from tests.methods.conftest import MakeCell, MakeMethod, as_teacher, network
from tests.methods.laws import G1_LABELS, G1_STUDENT, G1_TEACHER, G2_STUDENT, G2_TEACHER, LossLaws, laws_of
from vitkd_bench.contracts import Batch, TeacherRun
from vitkd_bench.methods.kd import kd_loss
from vitkd_bench.methods.remem import middle, mutual_information_bound, remem_loss
from vitkd_bench.registry import METHODS
from vitkd_bench.spec import ResolvedDataset

test_the_laws_hold = laws_of(
    {
        "remem": LossLaws(remem_loss, G1_STUDENT, G1_TEACHER),
        "one class": LossLaws(remem_loss, G1_STUDENT[:, :1], G1_TEACHER[:, :1]),
    }
)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_its_loss_is_that_of_kd(temperature: float) -> None:
    """Beside the labels, KL of softened probabilities: here by torch's own divergence."""
    one, other = (torch.distributions.Categorical(logits=t / temperature) for t in (G1_TEACHER, G1_STUDENT))
    expected = temperature**2 * torch.distributions.kl_divergence(one, other).mean()
    assert remem_loss(G1_STUDENT, G1_TEACHER, temperature).item() == pytest.approx(expected.item(), abs=1e-12)
    assert remem_loss(G1_STUDENT, G1_TEACHER, temperature) == kd_loss(G1_STUDENT, G1_TEACHER, temperature)
    assert len(G1_LABELS) == len(G1_STUDENT)


def test_its_teacher_is_fine_tuned_as_the_settings_say(make_cell: MakeCell) -> None:
    """The teacher's own architecture, whoever the student is; the controls are settings of that run."""
    kind = METHODS.get("remem").method
    cell = make_cell("micro/dinov2_reg", "standard")
    run = kind.teacher_run(kind.Config(), cell)
    assert run is not None
    assert (run.method, run.student, run.reads) == ("finetune_sam", cell.teacher_architecture, "cell")
    assert run.settings == {"rho": 0.05, "gamma": 0.5, "branch": "mlp", "share": 0.25, "end": "last"}
    plain = kind.teacher_run(kind.Config.parse({"rho": 0.0, "gamma": 1.0, "teacher_epochs": 2}), cell)
    assert plain == TeacherRun(
        "finetune_sam",
        {"rho": 0.0, "gamma": 1.0, "branch": "mlp", "share": 0.25, "end": "last"},
        student=cell.teacher_architecture,
        reads="cell",
        epochs=2,
    )


def test_it_tells_how_soft_its_teacher_is(
    batch: Batch, make_cell: MakeCell, make_method: MakeMethod, digits: ResolvedDataset
) -> None:
    """The mean entropy over images, whatever their batches, in nats."""
    cell = make_cell("micro/deit")
    teacher = as_teacher(network(cell.student, digits, seed=5))
    method = make_method("remem", cell)
    assert method.notes() == ()
    method.fit(network(cell.student, digits), teacher, [batch, batch])
    logits = teacher(batch.pixels, frozenset({"logits"})).logits
    assert logits is not None
    expected = torch.distributions.Categorical(logits=logits).entropy().mean().item()
    softness, information = method.notes()
    assert softness.endswith(f"{expected:.4f} nats")
    size = len(batch.ids)
    assert information.endswith(f"of at most {math.log(size):.4f} nats, in batches of {size}")


def test_the_bound_has_its_golden_value() -> None:
    """Log B less the contrastive loss of the first two axes of G2 at temperature .07."""
    first = F.normalize(G2_STUDENT, dim=1)
    second = F.normalize(G2_TEACHER, dim=1)[:, :2]
    found = mutual_information_bound(first, second, 0.07).item()
    assert math.log(3) - found == pytest.approx(0.5333832176, abs=1e-9)


@given(seed=st.integers(0, 2**32 - 1), rows=st.integers(2, 9), temperature=st.sampled_from([0.02, 0.2, 1.0]))
def test_no_bound_is_above_its_ceiling(seed: int, rows: int, temperature: float) -> None:
    """Log B at most, reached where each image is told from all others; 0 where all look the same."""
    draw = torch.Generator().manual_seed(seed)
    one, other = (F.normalize(torch.randn(rows, 5, generator=draw, dtype=torch.float64), dim=1) for _ in "ab")
    assert mutual_information_bound(one, other, temperature).item() <= math.log(rows)
    same = one[:1].expand(rows, -1)
    assert mutual_information_bound(same, same, temperature).item() == pytest.approx(0, abs=1e-12)
    apart = torch.eye(rows, dtype=torch.float64)
    assert mutual_information_bound(apart, apart, 0.02).item() == pytest.approx(math.log(rows), abs=1e-9)


def test_the_second_view_is_the_middle() -> None:
    """Three quarters a side, at the size of the image; what is constant stays."""
    pixels = torch.zeros(2, 1, 8, 8)
    pixels[:, :, 1:7, 1:7] = 0.5
    assert torch.equal(middle(pixels), torch.full((2, 1, 8, 8), 0.5))


def test_a_cell_without_a_teacher_is_refused(make_cell: MakeCell) -> None:
    """There is nothing to fine-tune."""
    entry = METHODS.get("remem")
    assert entry.refuses(entry.method.Config(), make_cell(None)) == "remem needs a teacher"
