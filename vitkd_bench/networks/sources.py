"""From the names of a file to those of the network that it is for, one way for each source of a contract."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase

from torch import Tensor, nn

from vitkd_bench.networks.anatomy import Anatomy, anatomy_of, part
from vitkd_bench.networks.build_transformers import names_in_module
from vitkd_bench.networks.components import STORED_PRECISION
from vitkd_bench.networks.positions import (
    apart_from_fixed,
    fixed_position,
    position_length,
    resample_position,
    resample_relative,
)
from vitkd_bench.networks.vit import ViT
from vitkd_bench.registry import TEACHERS
from vitkd_bench.registry.placing import placed
from vitkd_bench.spec import Architecture, BadInputError, Teacher, WeightSource

VISUAL = "visual."  # of open_clip's whole models; a tower stored by itself has no such prefix


def named_for(
    module: nn.Module,
    tensors: Mapping[str, Tensor],
    teacher: Teacher,
    source: WeightSource | None,
    architecture: Architecture,
    where: str,
) -> dict[str, Tensor]:
    """Rename the tensors of a file for the network that its source builds, and bring tables to its grid.

    What the source calls unused is left aside, and a head that the contract does not claim. Tensors may be on
    the meta device: then names and shapes alone are known.

    Raises:
        BadInputError: the file is not what the source's layout is made for; two tensors are for one place; or
            the contract claims a fixed position embedding, and the file's table is another.
    """
    anatomy = anatomy_of(module)
    kept = _Kept(tensors, source.unused if source else ())
    renamed = _renamed(module, kept, source, architecture, where)
    if teacher.head is None and anatomy.head is not None:
        renamed = {name: t for name, t in renamed.items() if not name.startswith(f"{anatomy.head}.")}
    if architecture.components.position == "fixed" and anatomy.position in renamed:
        _refuse_other_positions(anatomy.position, renamed[anatomy.position], architecture, where)
    return _at_grid(module, anatomy, renamed, teacher, architecture)


class _Kept(Mapping[str, Tensor]):
    """The tensors of a file without those that a pattern of `unused` names, each read when asked for."""

    def __init__(self, tensors: Mapping[str, Tensor], unused: Iterable[str]) -> None:
        self._tensors = tensors
        patterns = tuple(unused)
        self._names = [name for name in tensors if not any(fnmatchcase(name, p) for p in patterns)]

    def __getitem__(self, name: str) -> Tensor:
        """Read one tensor."""
        if name not in self._names:
            raise KeyError(name)
        return self._tensors[name]

    def __iter__(self) -> Iterator[str]:
        """Go through the names."""
        return iter(self._names)

    def __len__(self) -> int:
        """Count the tensors."""
        return len(self._names)


def _renamed(
    module: nn.Module,
    tensors: Mapping[str, Tensor],
    source: WeightSource | None,
    architecture: Architecture,
    where: str,
) -> dict[str, Tensor]:
    if source is None or source.backend == "timm" or (source.backend == "official" and not source.layout):
        return dict(tensors)
    if source.layout and source.backend == "official":
        return TEACHERS.layout(source.layout)(tensors, architecture)
    if source.backend == "transformers":
        names = names_in_module(module, tensors, where)
        return placed((key, name, tensors[key]) for key, name in names.items())
    return placed((name, name.removeprefix(VISUAL), tensor) for name, tensor in tensors.items())


def _refuse_other_positions(name: str, table: Tensor, architecture: Architecture, where: str) -> None:
    """Hold a table that is claimed to be fixed against the sin-cos one, before it is resampled."""
    if table.is_meta or not table.is_floating_point():
        return
    apart = apart_from_fixed(table, position_length(architecture) - architecture.grid**2)
    if apart is None or apart[0] <= STORED_PRECISION:
        return
    other = "; it is that table with rows and columns exchanged" if apart[1] <= STORED_PRECISION else ""
    raise BadInputError(
        f"{where}: components.position: fixed claimed, but {name} is up to {apart[0]:.3g} from the 2D "
        f"sin-cos table{other}: give a file that has it, or a contract that says learned"
    )


def _at_grid(
    module: nn.Module,
    anatomy: Anatomy,
    tensors: dict[str, Tensor],
    teacher: Teacher,
    architecture: Architecture,
) -> dict[str, Tensor]:
    """Resample the position tables among `tensors`; our own fixed embedding is computed again instead."""
    at_grid = dict(tensors)
    for name in _tables(tensors):
        at_grid[name] = resample_relative(tensors[name], architecture)
    own, name = part(module, anatomy.position), anatomy.position
    if name not in tensors or own is None:
        return at_grid
    table = tensors[name]
    if isinstance(module, ViT) and architecture.components.position == "fixed":
        at_grid[name] = fixed_position(architecture)
    elif table.dim() in {2, 3} and table.shape[:-2] == own.shape[:-2]:
        prefix = own.shape[-2] - architecture.grid**2
        batched = table if table.dim() == 3 else table[None]
        way, registers = teacher.position_interpolation, architecture.registers
        moved = resample_position(batched, architecture.grid, prefix, way, registers=registers)
        at_grid[name] = moved if table.dim() == 3 else moved[0]
    return at_grid


def _tables(names: Iterable[str]) -> list[str]:
    return [name for name in names if name.endswith("relative_position_bias_table")]
