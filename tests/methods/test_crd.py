import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.methods.conftest import MakeCell, MakeMethod, as_teacher, network
from tests.methods.laws import LossLaws, laws_of
from tests.methods.stepping import parts_of, reaches_the_student
from tests.methods.two_steps import two_steps
from vitkd_bench.contracts import Batch, Method
from vitkd_bench.methods.crd import ContrastiveRepresentation, crd_loss, other_classes
from vitkd_bench.networks import ViTNetwork
from vitkd_bench.registry import METHODS
from vitkd_bench.spec import SIZES, ResolvedDataset

GOLDEN = torch.tensor([[0.5, 0.1, 0.2], [0.4, 0.3, 0.05]], dtype=torch.float64)


def of_ten(log_density: Tensor) -> Tensor:
    """The loss over ten training images."""
    return crd_loss(log_density, train_size=10)


test_the_laws_hold = laws_of(
    {
        "golden": LossLaws(of_ten, GOLDEN.log()),
        "one negative": LossLaws(of_ten, GOLDEN.log()[:, :2]),
    }
)


def test_crd_has_its_golden_value() -> None:
    """Two images, two negatives each, of ten; the released code's 1e-7 in the denominator adds its share."""
    released = 1e-7 * (1 / (GOLDEN + 0.2)).sum().item() / 2
    assert of_ten(GOLDEN.log()).item() + released == pytest.approx(1.4899927047, abs=1e-9)


@given(st.integers(1, 4), st.integers(1, 6), st.integers(2, 500), st.integers(0, 999))
@settings(max_examples=25, deadline=None)
def test_crd_is_its_definition(images: int, negatives: int, train_size: int, seed: int) -> None:
    """Minus the logarithms of the two probabilities, image by image."""
    h = np.random.default_rng(seed).uniform(1e-3, 2, (images, negatives + 1))
    noise = negatives / train_size
    total = 0.0
    for row in h:
        total -= math.log(row[0] / (row[0] + noise))
        total -= sum(math.log(noise / (each + noise)) for each in row[1:])
    found = crd_loss(torch.from_numpy(h).log(), train_size)
    assert found.item() == pytest.approx(total / images, abs=1e-9)


def test_a_low_temperature_does_not_overflow() -> None:
    """Densities beyond the range of float32 give a finite loss, of the right size."""
    log_density = torch.tensor([[200.0, 190.0], [-200.0, -190.0]])
    shift = math.log(100)  # minus log m / n
    assert crd_loss(log_density, 100).item() == pytest.approx((190 + shift + 200 - shift) / 2, rel=1e-6)


@given(st.lists(st.integers(-1, 3), min_size=5, max_size=40), st.integers(0, 999))
@settings(max_examples=30, deadline=None)
def test_negatives_are_of_other_classes(known: list[int], seed: int) -> None:
    """No draw has the image's class; every other image can be drawn, unseen ones included."""
    torch.manual_seed(seed)
    classes = torch.tensor([*known, 0, 1])
    labels = torch.tensor([0, 1, 3])
    drawn = other_classes(classes, labels, 3000)
    assert drawn.shape == (3, 3000)
    for label, row in zip(labels.tolist(), drawn, strict=True):
        eligible = [i for i, of in enumerate(classes.tolist()) if of != label]
        assert sorted(set(row.tolist())) == eligible


def test_negatives_are_drawn_evenly() -> None:
    """Each eligible image is as likely as any other: counts stay within five deviations."""
    classes = torch.tensor([2, 0, 1, 1, 0, 2, -1, 0])
    counts = torch.bincount(other_classes(classes, torch.tensor([1]), 60000)[0], minlength=8)
    assert counts[[2, 3]].tolist() == [0, 0]
    assert (counts[[0, 1, 4, 5, 6, 7]] - 10000).abs().max() < 5 * math.sqrt(60000 * (1 / 6) * (5 / 6))


def test_one_class_is_refused(make_cell: MakeCell) -> None:
    """By plan where the data set has one, and by the draw where the training images are of one."""
    with pytest.raises(ValueError, match="all training images are of one class"):
        other_classes(torch.zeros(5, dtype=torch.long), torch.tensor([0]), 2)
    entry, cell = METHODS.get("crd"), make_cell()
    one = make_cell(
        "micro/deit", "native", cell.dataset.model_copy(update={"classes": cell.dataset.classes[:1]})
    )
    assert entry.refuses(entry.method.Config(), one) == "crd contrasts classes, and data set digits has one"
    assert entry.refuses(entry.method.Config(), cell) is None


Pair = tuple[ContrastiveRepresentation, ViTNetwork, ViTNetwork]


@pytest.fixture
def pair(make_cell: MakeCell, make_method: MakeMethod, digits: ResolvedDataset) -> Pair:
    """A method of few negatives with a student narrower than the teacher."""
    cell = make_cell("micro/deit", make_cell().student.with_(size=SIZES["micro_small"]))
    assert cell.teacher_architecture is not None
    method: Method = make_method("crd", cell, negatives=50, width=16)
    assert isinstance(method, ContrastiveRepresentation)
    teacher = as_teacher(network(cell.teacher_architecture, digits, seed=3))
    return method, network(cell.student, digits), teacher


def test_both_embeddings_learn(pair: Pair, batch: Batch) -> None:
    """The student and both linear maps move within two steps; banks are state, not parameters."""
    method, student, teacher = pair
    assert reaches_the_student(parts_of(method, student, teacher, batch)["crd"], student)
    assert two_steps(method, student, teacher, batch).still == set()
    assert {name for name, _ in method.named_parameters()} == {
        f"embed_{side}.{part}" for side in ("student", "teacher") for part in ("weight", "bias")
    }
    assert {"student_bank", "teacher_bank", "known", "log_normalisers"} <= method.state_dict().keys()


def test_the_first_loss_is_the_definition(pair: Pair, batch: Batch) -> None:
    """Both directions against banks of noise, Z from this batch, by numpy, on the same draws."""
    method, student, teacher = pair
    before = torch.get_rng_state()  # the student has no dropout: negatives are all that is drawn
    found = parts_of(method, student, teacher, batch)["crd"].item()
    torch.set_rng_state(before)
    seen = torch.full((method.cell.train_size,), -1)
    seen[batch.ids] = batch.labels
    rows = np.hstack([batch.ids.numpy()[:, None], other_classes(seen, batch.labels, 50).numpy()])
    total = 0.0
    for net, embed, bank in (
        (student, method.embed_student, method.teacher_bank),
        (teacher, method.embed_teacher, method.student_bank),
    ):
        pooled = net(batch.pixels, frozenset({"pooled"})).pooled
        assert pooled is not None
        raw = embed(pooled).detach().numpy()
        vectors = raw / np.linalg.norm(raw, axis=1, keepdims=True)
        h = np.exp(np.einsum("be,bme->bm", vectors, bank.numpy()[rows]) / 0.07)
        h = h / (h.mean() * method.cell.train_size)
        noise = 50 / method.cell.train_size
        total += -np.log(h[:, 0] / (h[:, 0] + noise)).sum() - np.log(noise / (h[:, 1:] + noise)).sum()
    assert found == pytest.approx(0.8 * total / len(rows), rel=1e-4)


def test_banks_move_after_the_step(pair: Pair, batch: Batch) -> None:
    """Half-way to the new embedding and back to length 1, at the batch's rows alone; Z stays."""
    method, student, teacher = pair
    before = method.student_bank.clone()
    parts_of(method, student, teacher, batch)
    normalisers = method.log_normalisers.clone()
    assert torch.equal(method.student_bank, before)
    pooled = student(batch.pixels).pooled
    assert pooled is not None
    vectors = nn.functional.normalize(method.embed_student(pooled), dim=1).detach()
    method.after_step(student, 0.0)
    moved = nn.functional.normalize(before[batch.ids] / 2 + vectors / 2, dim=1)
    torch.testing.assert_close(method.student_bank[batch.ids], moved)
    others = torch.ones(len(before), dtype=torch.bool).index_fill(0, batch.ids, value=False)
    assert torch.equal(method.student_bank[others], before[others])
    assert torch.equal(method.known[batch.ids], batch.labels)
    parts_of(method, student, teacher, batch)
    assert torch.equal(method.log_normalisers, normalisers)
    assert normalisers.isfinite().all()


def test_a_resumed_run_goes_on(pair: Pair, batch: Batch, make_method: MakeMethod) -> None:
    """A fresh method with the state of another gives the same loss under the same draws."""
    method, student, teacher = pair
    parts_of(method, student, teacher, batch)
    method.after_step(student, 0.0)
    other = make_method("crd", method.cell, negatives=50, width=16)
    assert isinstance(other, ContrastiveRepresentation)
    other.load_state_dict(method.state_dict())
    found = []
    for each in (method, other):
        torch.manual_seed(7)
        found.append(parts_of(each, student, teacher, batch)["crd"].item())
    assert found[0] == found[1]
