from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vitkd_bench.methods._prototypes import koleo_loss, prototype_loss, sharpened, sinkhorn_knopp
from vitkd_bench.methods.pretrain_clip import clip_loss
from vitkd_bench.methods.pretrain_mae import masked_pixel_loss
from vitkd_bench.methods.pretrain_mocov3 import info_nce_loss
from vitkd_bench.methods.pretrain_siglip2 import masked_token_loss, siglip_loss

# G1 of the reference: student and teacher logits of three samples and four classes
S = torch.tensor([[1, 0.5, -0.5, 0], [0.2, -0.3, 0.9, -0.6], [-1, 0.4, 0.1, 0.7]], dtype=torch.float64)
T = torch.tensor([[2, 0, -1, 0.5], [-0.4, 0.1, 1.5, -0.2], [-0.5, 0.3, 0.8, 1.2]], dtype=torch.float64)


def double(*shape: int, seed: int = 0) -> Tensor:
    """Draw a float64 tensor that wants gradients."""
    return torch.randn(
        *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
    ).requires_grad_()


def unit(*shape: int, seed: int = 0) -> Tensor:
    """Draw rows of length one."""
    return F.normalize(double(*shape, seed=seed).detach(), dim=-1).requires_grad_()


LABELS = torch.tensor([0, 3, 3, 1, 0])
MASK = torch.tensor([[True, False, True], [False, True, True]])
LOSSES: dict[str, tuple[Callable[..., Tensor], tuple[Tensor, ...]]] = {
    "prototypes": (lambda s: prototype_loss(s, F.softmax(T, 1), 0.3), (S.clone().requires_grad_(),)),
    "koleo": (koleo_loss, (double(6, 4),)),
    "contrast": (lambda q: info_nce_loss(q, double(5, 4, seed=9), 0.2), (double(5, 4),)),
    "pixels": (lambda g: masked_pixel_loss(g, double(2, 3, 4, seed=5).detach(), MASK), (double(2, 3, 4),)),
    "clip": (lambda i, t: clip_loss(i, t, LABELS, 5.0), (unit(5, 4), unit(4, 4, seed=3))),
    "siglip": (lambda i, t: siglip_loss(i, t, LABELS, 5.0, -1.0), (unit(5, 4), unit(4, 4, seed=3))),
    "masked tokens": (lambda g: masked_token_loss(g, double(6, 4, seed=4)), (double(6, 4),)),
}


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_are_those_of_finite_differences(name: str) -> None:
    """Every loss is differentiated rightly."""
    loss, inputs = LOSSES[name]
    assert torch.autograd.gradcheck(loss, inputs)


def test_clip_loss_with_one_image_a_class_is_clips() -> None:
    """With distinct labels the multi-positive form is the symmetric cross-entropy of the paper's figure."""
    images, texts = unit(4, 3).detach(), unit(4, 3, seed=1).detach()
    scores, own = 7 * images @ texts.T, torch.arange(4)
    expected = (F.cross_entropy(scores, own) + F.cross_entropy(scores.T, own)) / 2
    torch.testing.assert_close(clip_loss(images, texts, own, 7.0), expected)


def test_contrast_with_names_ignores_absent_classes_and_order() -> None:
    """A class without images in the batch takes no part, and the order of the images plays none."""
    images, texts, order = unit(5, 4).detach(), unit(9, 4, seed=3).detach(), torch.tensor([4, 2, 0, 1, 3])
    both: list[Callable[[Tensor, Tensor, Tensor], Tensor]] = [
        lambda i, t, y: clip_loss(i, t, y, 5.0),
        lambda i, t, y: siglip_loss(i, t, y, 5.0, -1.0),
    ]
    for loss in both:
        changed = texts.clone()
        changed[[2, 4, 5, 6, 7, 8]] *= -1
        torch.testing.assert_close(loss(images, changed, LABELS), loss(images, texts, LABELS))
        torch.testing.assert_close(loss(images[order], texts, LABELS[order]), loss(images, texts, LABELS))


def test_siglip_loss_is_its_definition() -> None:
    """Two images and two texts by hand: one right and one wrong pair each."""
    images = texts = torch.eye(2, dtype=torch.float64)
    softplus = F.softplus(torch.tensor([-(3.0 - 1.0), -1.0], dtype=torch.float64))
    assert siglip_loss(images, texts, torch.arange(2), 3.0, -1.0).item() == pytest.approx(
        softplus.sum().item()
    )


@given(st.integers(2, 40), st.integers(2, 12), st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_sinkhorn_uses_all_prototypes_alike(rows: int, prototypes: int, seed: int) -> None:
    """Each row is a probability; with enough rounds each prototype gets R / K."""
    scores = torch.rand(rows, prototypes, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    few, many = sinkhorn_knopp(scores, 0.5), sinkhorn_knopp(scores, 0.5, 200)
    for found in (few, many):
        torch.testing.assert_close(found.sum(dim=1), torch.ones(rows, dtype=torch.float64))
    torch.testing.assert_close(
        many.sum(dim=0),
        torch.full((prototypes,), rows / prototypes, dtype=torch.float64),
        atol=1e-6,
        rtol=1e-6,
    )


def test_centring_takes_out_what_all_images_share() -> None:
    """A score that all images share vanishes with the centre, and a low temperature sharpens."""
    scores = torch.tensor([[0.9, 0.1, 0.0], [0.9, 0.0, 0.1]])
    probabilities = sharpened(scores, scores.mean(dim=0), 0.01)
    assert probabilities.argmax(dim=1).tolist() == [1, 2]
    assert (sharpened(scores, scores.mean(dim=0), 10.0) - 1 / 3).abs().max() < 0.01


def test_koleo_prefers_spread_images() -> None:
    """Images that fall together cost more than those at right angles."""
    together = torch.ones(4, 4) + 0.01 * torch.eye(4)
    assert koleo_loss(together) > koleo_loss(torch.eye(4)) + 2


def test_masked_pixels_alone_count() -> None:
    """An error on a visible patch costs nothing."""
    target = torch.zeros(2, 3, 4)
    guess = torch.where(MASK.unsqueeze(-1), 2.0, 77.0).expand(2, 3, 4)
    assert masked_pixel_loss(guess, target, MASK).item() == 4.0
