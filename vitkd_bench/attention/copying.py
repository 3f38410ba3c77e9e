"""Attention copy: the teacher's map with the student's values, the map never made."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from vitkd_bench.attention import interception
from vitkd_bench.attention.call import AttentionCall

# Keys from which torch's fused attention is the better one on a CPU. Its backward computes gradients of q and
# k too, which a teacher does not want: at 17 keys a small student's whole step takes up to 1.15 times as
# long, at 197 the difference is lost in it and the memory counts.
FUSED_FROM = 64


def copied_attention(teacher: AttentionCall, v: Tensor, dropout_p: float = 0.0) -> Tensor:
    """Apply the teacher's attention maps to the student's values.

    `v` is (B, H, N, e) with the teacher's batch, heads and keys; e may differ from the teacher's head width.
    The result is (B, H, M, e) in the dtype of `v` (of autocast, where that is on). `dropout_p` is the
    student's attention dropout, a probability. Equal to ``teacher.maps() @ v`` without dropout; from 64 keys
    on, and on a GPU, the maps are not made and memory is linear in tokens. Gradients reach all that requires
    them: detach the teacher's call to keep it out.

    Source: Li et al., NeurIPS 2024 (arXiv:2411.09702), "attention copy".

    Raises:
        ValueError: batch, heads, tokens or device differ.
    """
    _refuse_misfit(teacher, v)
    if v.device.type == "cpu" and v.shape[2] < FUSED_FROM and not dropout_p:
        return teacher.maps().to(v.dtype) @ v
    width, needed = v.shape[-1], max(v.shape[-1], teacher.q.shape[-1])
    # The fused kernels of the CPU want one width for q, k and v. Zeros change neither a logit nor what is
    # kept.
    q, k, values = (_widened(t.to(v.dtype), needed) for t in (teacher.q, teacher.k, v))
    bias = None if teacher.bias is None else teacher.bias.to(v.dtype)
    out = interception.untapped(q, k, values, attn_mask=bias, dropout_p=dropout_p, scale=teacher.scale)
    return out if width == needed else out[..., :width]


def _widened(tensor: Tensor, width: int) -> Tensor:
    missing = width - tensor.shape[-1]
    return F.pad(tensor, (0, missing)) if missing else tensor


def _refuse_misfit(teacher: AttentionCall, v: Tensor) -> None:
    if v.shape[:3] != teacher.k.shape[:3]:
        asked = "batch {}, {} heads, {} tokens".format(*v.shape[:3])
        given = "batch {}, {} heads, {} tokens".format(*teacher.k.shape[:3])
        raise ValueError(
            f"the teacher's attention ({given}) cannot be applied to values of {asked}: copying needs equal "
            "batch, heads and tokens"
        )
    if v.device != teacher.q.device:
        raise ValueError(f"the teacher's attention is on {teacher.q.device}, the values are on {v.device}")
