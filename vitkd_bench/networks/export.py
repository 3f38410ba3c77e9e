"""A student as plain timm loads it: weights, configuration and card in one folder, checked by timm itself."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import safetensors.torch
import timm
import torch
from torch import Tensor, nn

from vitkd_bench.contracts.taps import LOGITS, POOLED
from vitkd_bench.networks.network import ViTNetwork
from vitkd_bench.networks.timm_form import TimmForm, timm_form
from vitkd_bench.networks.timm_state import timm_state
from vitkd_bench.networks.vit import ViT
from vitkd_bench.spec import BadInputError, Run, WorldError

WEIGHTS, CONFIG, CARD = "model.safetensors", "config.json", "README.md"
TOLERANCE = 1e-5  # of the larger of 1 and the largest output
IMAGES = 4  # that an export is checked on


@dataclass(frozen=True, slots=True)
class TimmModel:
    """A student in the form of a timm model: its form, its state, and what of it is not as it was trained."""

    form: TimmForm
    state: dict[str, Tensor]
    notes: tuple[str, ...]


def load_student(run: Run, weights: Path) -> ViTNetwork:
    """Build the student of a run from its kept weights, in eval mode.

    Args:
        run: as its record's `config` declares it.
        weights: the safetensors file that the run left.

    Raises:
        BadInputError: the file holds more or less than this student (a distillation token, say), which no
            timm model takes.
    """
    state = safetensors.torch.load_file(weights)
    head = state.get("head.weight")
    with torch.random.fork_rng(devices=[]):
        vit = ViT(run.student, 0 if head is None else len(head))
    expected = vit.state_dict()
    more, less = sorted(state.keys() - expected.keys()), sorted(expected.keys() - state.keys())
    if more:
        raise BadInputError(
            f"run {run.id} ({run.method.canonical}): its result is more than a student: {', '.join(more)}; "
            "no timm model has these beside a mean over patches"
        )
    if less:
        raise BadInputError(
            f"run {run.id} ({run.method.canonical}): its result is less than a student: no {', '.join(less)}"
        )
    vit.load_state_dict(state)
    return ViTNetwork(vit, run.student, run.dataset.pixels).eval()


def as_timm(network: ViTNetwork) -> TimmModel:
    """Bring a student into the form of the timm model that computes the same function.

    Raises:
        BadInputError: no timm model has all of its components.
        TypeError: the network is a foreign one.
    """
    if not isinstance(network.module, ViT):
        raise TypeError(f"{type(network.module).__name__} is not ours, and no student")
    form = timm_form(network.architecture, _outputs(network))
    state, notes = timm_state(network.module.state_dict(), network.architecture, form)
    return TimmModel(form, state, notes)


def write_timm(
    network: ViTNetwork, model: TimmModel, to: Path, *, labels: Sequence[str] = (), card: str
) -> float:
    """Write `model.safetensors`, `config.json` and `README.md` for `timm.create_model("local-dir:...")`.

    They are written aside, loaded by timm and run on random pixels; only then are they moved to `to`, where
    files of these names are replaced.

    Args:
        network: the student.
        model: what `as_timm` gives for it.
        to: the folder; it is made where there is none.
        labels: names of the classes in the order of the outputs.
        card: the text of `README.md`.

    Returns:
        The largest difference between timm's outputs and the student's.

    Raises:
        WorldError: what timm computes from the files is another function.
    """
    to.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".{to.name}.", dir=to.parent) as name:
        aside = Path(name)
        safetensors.torch.save_file(model.state, aside / WEIGHTS, {"format": "pt"})
        config = json.dumps(timm_config(network, model.form, labels), indent=2, ensure_ascii=False)
        (aside / CONFIG).write_text(f"{config}\n", encoding="utf-8")
        (aside / CARD).write_text(card, encoding="utf-8")
        apart = _difference(network, _loaded(aside))
        to.mkdir(exist_ok=True)
        for file in (WEIGHTS, CARD, CONFIG):
            (aside / file).replace(to / file)
    return apart


def timm_config(network: ViTNetwork, form: TimmForm, labels: Sequence[str] = ()) -> dict[str, Any]:
    """Write the configuration of an exported student in timm's terms.

    Pixels are those in [0, 1] minus mean over standard deviation; the image is resized by its shorter side,
    bicubic, and cropped in the middle.
    """
    side, outputs = network.architecture.image_size, _outputs(network)
    return {
        "architecture": form.architecture,
        "num_classes": outputs,
        "num_features": network.architecture.size.width,
        "global_pool": "avg",
        **({"label_names": list(labels)} if labels else {}),
        "model_args": form.model_args,
        "pretrained_cfg": {
            "input_size": [network.architecture.channels, side, side],
            "fixed_input_size": True,
            "interpolation": "bicubic",
            "crop_pct": 1.0,
            "crop_mode": "center",
            "mean": list(network.pixels.mean),
            "std": list(network.pixels.std),
            "num_classes": outputs,
            "pool_size": None,
            "first_conv": "patch_embed.proj",
            "classifier": "head",
        },
    }


def _outputs(network: ViTNetwork) -> int:
    head = network.module.get_submodule("head")
    return head.out_features if isinstance(head, nn.Linear) else 0


def _loaded(folder: Path) -> nn.Module:
    with torch.random.fork_rng(devices=[]):  # timm draws weights that it then replaces
        model: nn.Module = timm.create_model(f"local-dir:{folder}", pretrained=True)
    return model.eval()


@torch.no_grad()
def _difference(network: ViTNetwork, model: nn.Module) -> float:
    """Give the largest difference of two networks' outputs on random pixels.

    Raises:
        WorldError: it is more than rounding.
    """
    shape = network.architecture.channels, network.architecture.image_size, network.architecture.image_size
    pixels = torch.rand(IMAGES, *shape, generator=torch.Generator().manual_seed(0))
    features = network(pixels, frozenset({LOGITS if network.has_head else POOLED}))
    wanted = features.logits if network.has_head else features.pooled
    if wanted is None:
        raise TypeError("the student gave no output")
    apart = (model(network.normalise(pixels)) - wanted).abs().max().item()
    if not apart <= TOLERANCE * max(1.0, wanted.abs().max().item()):
        raise WorldError(
            f"timm {timm.__version__} computes another function from the export, outputs {apart:.2g} apart; "
            "nothing was written; the version in constraints.txt computes the same"
        )
    return float(apart)
