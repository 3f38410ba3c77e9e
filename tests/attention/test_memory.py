from collections.abc import Callable
from typing import Any, get_args

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from vitkd_bench.attention import AttentionCall, Loss, attention_distillation, copied_attention

MakeCall = Callable[..., AttentionCall]
TOKENS = 1370  # a DINOv2 at 518 pixels


class Largest(TorchDispatchMode):
    """Remembers the entries of the largest tensor that any operator gave, forward and backward."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.entries = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run the operator and look at what it gave."""
        out = func(*args, **(kwargs or {}))
        sizes = [leaf.numel() for leaf in tree_leaves(out) if isinstance(leaf, Tensor)]
        self.entries = max([self.entries, *sizes])
        return out


class Whole(TorchDispatchMode):
    """Counts the tensors of so many entries that operators made in memory of their own."""

    def __init__(self, entries: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.entries = entries
        self.pieces: set[int] = set()
        self.kept: list[Tensor] = []  # so that no memory is used twice

    @property
    def count(self) -> int:
        """How many there were."""
        return len(self.pieces)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run the operator and note where what it gave lies."""
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor) and leaf.numel() == self.entries:
                self.pieces.add(leaf.untyped_storage().data_ptr())
                self.kept.append(leaf)
        return out


def largest_of_distillation(student: AttentionCall, teacher: AttentionCall, form: Any, loss: Any) -> int:
    """Run loss and gradients, and give the entries of the largest tensor."""
    leaves = student.q.requires_grad_(), student.k.requires_grad_()
    with Largest() as largest:
        torch.autograd.grad(attention_distillation(student, teacher, loss=loss, form=form), leaves)
    return largest.entries


@pytest.mark.parametrize("loss", get_args(Loss))
def test_fused_distillation_makes_no_map(make_call: MakeCall, loss: Loss) -> None:
    """At 1370 tokens no operator of the fused form gives a tensor of tokens x tokens; the plain form does."""
    student, teacher = (make_call(1, 1, TOKENS, 8, dtype=torch.float32, seed=seed) for seed in (0, 1))
    assert largest_of_distillation(student, teacher, "fused", loss) < TOKENS**2 / 4
    assert largest_of_distillation(student, teacher, "plain", loss) >= TOKENS**2


@pytest.mark.parametrize("width", [8, 6])
def test_copy_makes_no_map(make_call: MakeCall, width: int) -> None:
    """At 1370 tokens no operator of the copy gives a tensor of tokens x tokens, also at unequal widths."""
    teacher = make_call(1, 1, TOKENS, 8, dtype=torch.float32)
    v = make_call(1, 1, TOKENS, width, dtype=torch.float32, seed=1).v.requires_grad_()
    with Largest() as largest:
        torch.autograd.grad(copied_attention(teacher, v).sum(), v)
    assert 0 < largest.entries < TOKENS**2 / 4
    with Largest() as largest:
        torch.autograd.grad((teacher.maps() @ v).sum(), v)
    assert largest.entries >= TOKENS**2


def test_copy_of_fewer_tokens_makes_one_map(make_call: MakeCall) -> None:
    """At 577 tokens a copy makes the map and its logits in tiles; the plain form makes three tensors."""
    teacher = make_call(2, 3, 577, 8, dtype=torch.float32)
    v = make_call(2, 3, 577, 8, dtype=torch.float32, seed=1).v.requires_grad_()
    entries = 2 * 3 * 577**2
    made = []
    for attend in (copied_attention, lambda call, values: call.maps() @ values):
        with Whole(entries) as whole:
            torch.autograd.grad(attend(teacher, v).sum(), v)
        made.append(whole.count)
    assert made == [1, 3]
