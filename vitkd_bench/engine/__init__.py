"""The only training loop: a pack of runs in, records out."""

from vitkd_bench.engine.options import Interrupted, PackOptions
from vitkd_bench.engine.outcome import failed_record
from vitkd_bench.engine.pack import run_pack

__all__ = ["Interrupted", "PackOptions", "failed_record", "run_pack"]
