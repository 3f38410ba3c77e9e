"""Builds and loads teachers and students."""

from vitkd_bench.networks.components import differences, read_architecture
from vitkd_bench.networks.initialise import initialise
from vitkd_bench.networks.network import ViTNetwork
from vitkd_bench.networks.students import create_student, fingerprint
from vitkd_bench.networks.teachers import build_teacher, draw_teacher, load_teacher
from vitkd_bench.networks.text_head import text_head
from vitkd_bench.networks.text_tokens import tokenizer_sha256
from vitkd_bench.networks.text_tower import why_textless
from vitkd_bench.networks.vit import ViT
from vitkd_bench.networks.weights import weights_sha256

__all__ = [
    "ViT",
    "ViTNetwork",
    "build_teacher",
    "create_student",
    "differences",
    "draw_teacher",
    "fingerprint",
    "initialise",
    "load_teacher",
    "read_architecture",
    "text_head",
    "tokenizer_sha256",
    "weights_sha256",
    "why_textless",
]
