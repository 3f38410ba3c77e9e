"""The whole command, killed for real, with the real engine."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from random import Random

import pytest

from vitkd_bench.api import run_suite
from vitkd_bench.records import Store

SUITE = """
suite: killed
version: 1
datasets: [digits]
recipe: {base: micro_short, epochs: 3}
teachers: [micro/deit]
students: [standard, {as: scaled, components: [layer_scale]}]
methods: [none]
seeds: [0, 1]
evaluate: [test]
"""


def start(suite: Path, out: Path, *options: str) -> "subprocess.Popen[bytes]":
    """Start `vitkd run` in a process group of its own."""
    command = [sys.executable, "-c", "from vitkd_bench.cli import main; main()", "run", str(suite)]
    with (suite.parent / f"{out.name}.log").open("a") as log:
        return subprocess.Popen(
            [*command, "--out", str(out), "--device", "cpu", *options],
            start_new_session=True,
            stdout=log,
            stderr=log,
        )


@pytest.mark.parametrize(
    "signals",
    [
        pytest.param((signal.SIGKILL, signal.SIGINT), id="twice"),
        pytest.param((signal.SIGKILL, signal.SIGINT, signal.SIGTERM) * 5, id="often", marks=pytest.mark.soak),
    ],
)
def test_a_killed_command_ends_with_the_metrics_of_an_undisturbed_one(
    tmp_path: Path, signals: tuple[signal.Signals, ...]
) -> None:
    """Killed and interrupted at random moments, then let run: the records are those of one calm process."""
    suite = tmp_path / "killed.yaml"
    suite.write_text(SUITE)
    calm, stormy = tmp_path / "calm", tmp_path / "stormy"
    assert run_suite(str(suite), out=calm, executor="inline").exit_code == 0
    random = Random(4)
    for jobs, number in enumerate(signals):
        started = start(suite, stormy, "--jobs", str(2 - jobs % 2))
        _until_begun(stormy, started)
        time.sleep(random.uniform(0, 1.5))
        os.kill(started.pid, number)
        assert started.wait(60) in {-number, 130, 0}
    assert run_suite(str(suite), out=stormy, executor="inline").exit_code == 0
    expected = {id_: record.result() for id_, record in Store(calm).records().items()}
    assert len(expected) == 4
    assert expected == {id_: record.result() for id_, record in Store(stormy).records().items()}
    assert _predictions(calm) == _predictions(stormy)


def _predictions(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (out / "predictions").iterdir()}


def _until_begun(out: Path, started: "subprocess.Popen[bytes]") -> None:
    end = time.monotonic() + 120
    while started.poll() is None and not list((out / "live").glob("*.json")):
        assert time.monotonic() < end, "nothing began"
        time.sleep(0.05)
