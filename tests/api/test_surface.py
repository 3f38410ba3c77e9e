"""The Python surface."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import vitkd_bench
from vitkd_bench.spec import WorldError


def test_every_public_name_is_there_and_documented() -> None:
    """What `__all__` names can be got, and says what it does."""
    for name in vitkd_bench.__all__:
        assert getattr(vitkd_bench, name).__doc__
    assert set(dir(vitkd_bench)) == set(vitkd_bench.__all__)
    with pytest.raises(AttributeError, match="create_pupil"):
        vitkd_bench.create_pupil  # noqa: B018


def test_a_student_is_built_from_a_teacher_and_a_word() -> None:
    """A native student of a teacher with registers reads its pixels and gives so many logits."""
    student = vitkd_bench.create_student("native", "micro/dinov2_reg", num_classes=7, seed=3)
    assert student.architecture.registers > 0
    assert student.architecture.components.layer_scale is not None
    logits = student(torch.rand(2, 1, 8, 8)).logits
    assert logits is not None
    assert logits.shape == (2, 7)


def test_a_teacher_not_made_yet_names_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is trained or fetched on the way: the error says how to make it or get it."""
    monkeypatch.setenv("VITKD_CACHE", str(tmp_path))
    with pytest.raises(WorldError, match="vitkd teachers fetch micro/deit"):
        vitkd_bench.create_teacher("micro/deit")
    with pytest.raises(WorldError, match="vitkd teachers fetch deit/ti"):
        vitkd_bench.create_teacher("deit/ti")


def test_losses_are_functions_of_tensors() -> None:
    """KD of equal logits is zero, and its gradient is T (p_s - p_t) / B."""
    s = torch.randn(4, 5, dtype=torch.float64, requires_grad=True)
    t = torch.randn(4, 5, dtype=torch.float64)
    assert vitkd_bench.kd_loss(t, t, 3.0).item() == pytest.approx(0, abs=1e-12)
    vitkd_bench.kd_loss(s, t, 3.0).backward()
    expected = 3.0 * ((s / 3).softmax(1) - (t / 3).softmax(1)) / 4
    assert s.grad is not None
    assert torch.allclose(s.grad, expected)
