"""What README and docs show is run as it stands there: files, commands and Python."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from vitkd_bench.diagnose.method_conformance import METHOD_CHECKS
from vitkd_bench.plan import shipped_suites

BLOCK = re.compile(
    r"^```(?P<language>\w+)(?: title=\"(?P<file>[^\"]+)\")?\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE
)
QUICK = {"OMP_NUM_THREADS": "1", "NO_COLOR": "1"}


def shown_files(page: Path) -> dict[str, str]:
    """The code blocks of a page that are whole files, by name."""
    return {m["file"]: m["text"] for m in BLOCK.finditer(page.read_text(encoding="utf-8")) if m["file"]}


def python(code: str, folder: Path) -> str:
    """Run some Python in a fresh process inside `folder`; what it printed."""
    environment = {**os.environ, **QUICK, "VITKD_CACHE": str(folder / "cache")}
    command = [sys.executable, "-W", "error::SyntaxWarning", "-c", code]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def written(root: Path, tmp_path: Path) -> Path:
    """A folder with every file that the README shows, and nothing else."""
    files = shown_files(root / "README.md")
    assert set(files) == {"mine.yaml", "hint.py", "no_class_token.py", "use.py"}
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


def test_the_readmes_suite_method_teacher_and_python_run_as_shown(written: Path) -> None:
    """Whoever copies the README's four files gets a trained teacher, students of the method, a report."""
    said = python((written / "use.py").read_text(encoding="utf-8"), written)
    report = (written / "runs/mine/report/leaderboard.md").read_text(encoding="utf-8")
    assert "15 runs" in said  # with the trials of the search; what it chooses comes on top
    assert "17 done, 0 failed" in said
    assert "attn_copy+shuffled_maps" in said
    assert re.search(r"^hint +0\.\d+$", said, re.MULTILINE)  # the method was trained and measured
    assert "mine/no\\_class\\_token" in report
    assert "the report prints this sentence" in report


def test_the_readmes_teacher_conforms(written: Path) -> None:
    """What the README shows passes the check that the README names."""
    asked = "import sys; sys.argv = ['vitkd', 'teachers', 'test', 'no_class_token.py']"
    said = python(f"{asked}\nfrom vitkd_bench.cli import main\nmain()", written)
    assert "fails" not in said
    assert said.count("holds") == 6


def test_the_readmes_method_passes_the_kit(written: Path) -> None:
    """The command that the README names for it finds nothing wrong."""
    asked = "import sys; sys.argv = ['vitkd', 'methods', 'test', 'hint.py']"
    said = python(f"{asked}\nfrom vitkd_bench.cli import main\nmain()", written)
    assert "fails" not in said
    assert said.count("holds") == len(METHOD_CHECKS)


def test_the_teacher_of_the_page_on_own_ones_conforms(root: Path, tmp_path: Path) -> None:
    """Its contract passes the kit, and every command with it names its file."""
    page = root / "docs/own_teachers.md"
    (name,) = files = shown_files(page)
    (tmp_path / name).write_text(files[name], encoding="utf-8")
    asked = f"import sys; sys.argv = ['vitkd', 'teachers', 'test', {name!r}]"
    said = python(f"{asked}\nfrom vitkd_bench.cli import main\nmain()", tmp_path)
    assert said.count("holds") == 6


def test_the_page_on_attention_shows_code_that_runs(root: Path, tmp_path: Path) -> None:
    """The example of the tap copies one network's attention into another."""
    page = (root / "docs/attention.md").read_text(encoding="utf-8")
    blocks = [match["text"] for match in BLOCK.finditer(page) if match["language"] == "python"]
    assert len(blocks) == 1
    check = "print((copied.logits - student(pixels).logits).abs().max().item() > 1e-6)"
    assert python(f"{blocks[0]}\n{check}", tmp_path).strip() == "True"


def test_commands_of_the_readme_exist(root: Path) -> None:
    """Every `vitkd` command that the README shows has those options, and its suite is shipped or shown."""
    text = (root / "README.md").read_text(encoding="utf-8")
    shells = [match["text"] for match in BLOCK.finditer(text) if match["language"] == "sh"]
    lines = [line.partition("#")[0].split() for shell in shells for line in shell.splitlines()]
    in_blocks = [line for line in lines if line and line[0].endswith("vitkd")]
    in_sentences = [span.split() for span in re.findall(r"`(vitkd [^`]+)`", text)]
    assert {line[1] for line in in_blocks} == {
        *("plan", "run", "status", "report", "validate", "diagnose", "teachers")
    }
    assert {line[1] for line in in_sentences} >= {"export", "methods"}
    for line in (*in_blocks, *in_sentences):
        if line[1] in {"plan", "run"} and len(line) > 2:
            assert line[2] in shipped_suites() or line[2] in shown_files(root / "README.md")
        names = line[1:3] if line[1] in {"teachers", "methods", "datasets"} else line[1:2]
        asked = f"import sys; sys.argv = ['vitkd', *{names!r}, '--help']"
        shown = python(f"{asked}\nfrom vitkd_bench.cli import main\nmain()", root)
        assert [option for option in line if option.startswith("--") and option not in shown] == []
