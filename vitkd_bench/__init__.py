"""A benchmark of what can be passed from pretrained Vision Transformers to fresh students."""

from vitkd_bench import _torchvision

_torchvision.install()
