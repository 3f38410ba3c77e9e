"""Vision models of transformers, configured from the contract, and the names of their checkpoints."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable
from typing import Any

from torch import nn

from vitkd_bench.networks.optional import optional_package
from vitkd_bench.spec import Architecture, BadInputError, Teacher, WeightSource, nearest

ACTIVATIONS = {"gelu": "gelu", "gelu_tanh": "gelu_pytorch_tanh", "quick_gelu": "quick_gelu"}


def build_transformers(teacher: Teacher, source: WeightSource, architecture: Architecture) -> nn.Module:
    """Build a class of transformers, every field of its configuration that the contract knows taken from it.

    `arguments` are further fields. Dropout and drop path are 0, attention is the fused one; poolers that
    pretraining left untrained (of ViT, DeiT) and mask tokens are not built.

    Raises:
        BadInputError: transformers knows no such class or field, or takes no such value.
        WorldError: transformers is not installed.
    """
    library = optional_package("transformers", "transformers", teacher)
    where = f"teacher {teacher.name!r}: model: transformers {source.model!r}"
    built: Any = getattr(library, source.model, None)
    if getattr(built, "config_class", None) is None:
        known = [name for name in dir(library) if name.endswith(("Model", "ForImageClassification"))]
        raise BadInputError(f"{where}: no such model{nearest(source.model, known)}")
    fields = _fields(architecture, teacher.head.num_classes if teacher.head else 0)
    own = built.config_class()
    unknown = sorted(name for name in source.arguments if not hasattr(own, name))
    if unknown:
        raise BadInputError(
            f"{where}: arguments: no field {unknown[0]!r}{nearest(unknown[0], own.to_dict())}"
        )
    known_fields = {name: value for name, value in fields.items() if hasattr(own, name)}
    try:
        config = built.config_class(**{**known_fields, **source.arguments}, attn_implementation="sdpa")
        pooler = "add_pooling_layer" in inspect.signature(built).parameters and not _averages(config)
        module: Any = built(config, add_pooling_layer=False) if pooler else built(config)
    except (TypeError, ValueError) as error:
        raise BadInputError(f"{where}: {' '.join(str(error).split())}") from None
    for part in module.modules():
        if isinstance(getattr(part, "mask_token", None), nn.Parameter):
            part.mask_token = None
    bare: nn.Module = module
    return bare


def _averages(config: Any) -> bool:
    """Whether the pooler is BEiT's mean and norm, which are trained, and no dense layer."""
    return bool(getattr(config, "use_mean_pooling", False))


def _fields(architecture: Architecture, num_classes: int) -> dict[str, Any]:
    """Say in transformers' words what the architecture is."""
    size, components = architecture.size, architecture.components
    return {
        "hidden_size": size.width,
        "num_hidden_layers": size.depth,
        "num_attention_heads": size.heads,
        "intermediate_size": int(size.width * size.mlp_ratio),
        "mlp_ratio": int(size.mlp_ratio) if size.mlp_ratio.is_integer() else size.mlp_ratio,
        "hidden_act": ACTIVATIONS[components.activation],
        "layer_norm_eps": components.norm_eps,
        "image_size": architecture.image_size,
        "patch_size": architecture.patch,
        "num_channels": architecture.channels,
        "qkv_bias": components.qkv_bias == "full",
        "layerscale_value": components.layer_scale or 1.0,
        "layer_scale_init_value": components.layer_scale or 0.0,
        "num_register_tokens": architecture.registers,
        "use_swiglu_ffn": components.mlp == "swiglu",
        "use_relative_position_bias": components.relative_position_bias,
        "use_absolute_position_embeddings": components.position != "none",
        "num_labels": num_classes,
        "use_mask_token": False,
        "drop_path_rate": 0.0,
    }


def names_in_module(module: nn.Module, keys: Iterable[str], where: str) -> dict[str, str]:
    """Rename keys of a checkpoint as transformers does when it loads one into the class of `module`.

    The classes have changed their names since the checkpoints were written, so transformers keeps a list of
    renamings for each. Keys that it leaves aside are not in the answer.

    Raises:
        BadInputError: a tensor that transformers would also reshape.
    """
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import WeightConverter, WeightRenaming, rename_source_key

    model: Any = module
    steps = get_model_conversion_mapping(model)
    renamings = [step for step in steps if isinstance(step, WeightRenaming)]
    converters = [step for step in steps if isinstance(step, WeightConverter)]
    ignored = [re.compile(pattern) for pattern in model._keys_to_ignore_on_load_unexpected or ()]  # noqa: SLF001
    own = model.state_dict()
    renamed = {}
    for key in keys:
        name, converted = rename_source_key(key, renamings, converters, model.base_model_prefix, own)
        if converted is not None:
            raise BadInputError(f"{where}: {key} is of a form that transformers converts, not only renames")
        if name in own or not any(pattern.search(name) for pattern in ignored):
            renamed[key] = name
    return renamed
