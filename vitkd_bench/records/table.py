"""One table from many records."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitkd_bench.records.store import Store
from vitkd_bench.spec import Record

if TYPE_CHECKING:
    import pandas as pd

_FIRST = (
    "out",
    "run_id",
    "teacher",
    "student",
    "method",
    "dataset",
    "recipe",
    "seed",
    "status",
    "split",
    "n",
    "top1",
)


def table(source: Store | Path | Iterable[Store | Path]) -> pd.DataFrame:
    """Gather the records of one or more output folders into a frame, one row a (run, split).

    Columns are the cell's canonical names, `seed`, `status`, `split`, the metrics (accuracies as fractions,
    `nll` and `kl` in nats), what the run cost, and the hashes by which rows can be compared. A failed run has
    one row without split, with `error`. A run that stands in several folders has rows for each, told apart by
    `out`. Damaged records are left out, as everywhere; `status` names them. No file is touched.
    """
    import pandas as pd

    sources = [source] if isinstance(source, Store | Path) else list(source)
    folders = [item.folder if isinstance(item, Store) else Path(item) for item in sources]
    stores = [Store(folder, look_only=True) for folder in folders]
    rows = [row for store in stores for record in store.records().values() for row in _rows(store, record)]
    frame = pd.DataFrame(rows, columns=None if rows else list(_FIRST))
    first = [name for name in _FIRST if name in frame.columns]
    return frame[first + [name for name in frame.columns if name not in first]]


def _rows(store: Store, record: Record) -> Iterator[dict[str, Any]]:
    common = {
        "out": str(store.folder),
        "run_id": record.run_id,
        **record.cell.plain(),
        "seed": record.seed,
        "status": record.status,
        "needs_teacher_at_test": record.needs_teacher_at_test,
        "baseline": record.baseline,
        "cell_key": record.cell_key,
        "protocol": record.protocol,
        "label_space": record.label_space,
        "split_hash": record.split_hash,
        "weights_sha256": record.weights_sha256,
        "created": record.created,
        **record.cost,
    }
    if record.error:
        yield {**common, "split": None, "error": f"{record.error.kind}: {record.error.message}"}
        return
    for split, metrics in record.metrics.items():
        yield {**common, "split": split, **metrics}
