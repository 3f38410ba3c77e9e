"""Where a number's code came from, as git says."""

import subprocess
from pathlib import Path

from vitkd_bench.engine.provenance import code_state


def test_only_the_checkout_that_follows_a_file_is_its_code(tmp_path: Path) -> None:
    """A package installed inside somebody's repository has none of its commits; a followed file has."""
    git = ["git", "-C", str(tmp_path), "-c", "user.name=n", "-c", "user.email=e@example.org"]
    ours, installed = tmp_path / "ours.py", tmp_path / "site-packages" / "package.py"
    installed.parent.mkdir()
    for file in (ours, installed):
        file.write_text("1\n")
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "add", "ours.py"], check=True)
    subprocess.run([*git, "commit", "-q", "-m", "one"], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True)
    assert code_state(ours) == {"commit": head.stdout.strip(), "dirty": False}
    assert code_state(installed) == {"commit": None, "dirty": None}
    ours.write_text("2\n")
    assert code_state(ours)["dirty"] is True
