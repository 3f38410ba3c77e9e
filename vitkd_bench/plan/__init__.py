"""From a suite to cells, refusals, runs, preparations and packs. Pure: nothing is started or written."""

from vitkd_bench.plan.baseline import BASELINE, baseline_of
from vitkd_bench.plan.inventory import Inventory
from vitkd_bench.plan.packs import make_packs, views_of
from vitkd_bench.plan.suite_file import SuiteFile, find_suite, read_suite, shipped_suites
from vitkd_bench.plan.suite_plan import plan_suite, resolve_recipe
from vitkd_bench.plan.teachers import Preparations, contract_of, planned_teachers
from vitkd_bench.plan.texts import text_pin
from vitkd_bench.plan.uses import PROBE, headed, probed
from vitkd_bench.plan.variants import MAKERS, Variant, variants

__all__ = [
    "BASELINE",
    "MAKERS",
    "PROBE",
    "Inventory",
    "Preparations",
    "SuiteFile",
    "Variant",
    "baseline_of",
    "contract_of",
    "find_suite",
    "headed",
    "make_packs",
    "plan_suite",
    "planned_teachers",
    "probed",
    "read_suite",
    "resolve_recipe",
    "shipped_suites",
    "text_pin",
    "variants",
    "views_of",
]
