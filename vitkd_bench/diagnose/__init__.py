"""Is a teacher what its contract says, what is a model made of, and what does that mean for a student?"""

from vitkd_bench.diagnose.conformance import conformance
from vitkd_bench.diagnose.labelled import LabelledImages, read_labelled
from vitkd_bench.diagnose.model import ModelFacts, describe
from vitkd_bench.diagnose.preflight import preflight
from vitkd_bench.diagnose.recommendation import Advice, advise
from vitkd_bench.diagnose.remedy import next_step
from vitkd_bench.diagnose.suite import write_suite
from vitkd_bench.diagnose.verdict import Check, Verdict
from vitkd_bench.diagnose.verdicts import ensure_preflight, images_at_hand, store_verdict, stored_verdict

__all__ = [
    "Advice",
    "Check",
    "LabelledImages",
    "ModelFacts",
    "Verdict",
    "advise",
    "conformance",
    "describe",
    "ensure_preflight",
    "images_at_hand",
    "next_step",
    "preflight",
    "read_labelled",
    "store_verdict",
    "stored_verdict",
    "write_suite",
]
