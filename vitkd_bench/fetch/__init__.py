"""Weights of teachers from elsewhere: brought here once, recorded, and checked from then on."""

from vitkd_bench.fetch.cache import Found, State, WeightCache
from vitkd_bench.fetch.files import Watch

__all__ = ["Found", "State", "Watch", "WeightCache"]
