"""The demo runs for a few steps as a user runs it, too few for its numbers to be checked."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "docs/examples"
DEMO = EXAMPLES / "digits_vae.py"


def run(*options: str, script: Path = DEMO) -> subprocess.CompletedProcess[str]:
    """Run the script in a new process, in which warnings are errors."""
    command = [sys.executable, "-W", "error", str(script), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize("framework", ["pyro", "numpyro"])
def test_demo_ends_in_the_table_and_the_picture(framework: str, tmp_path: Path) -> None:
    """The script prints rows of finite numbers and writes a PNG."""
    pytest.importorskip(framework)
    pytest.importorskip("sklearn"), pytest.importorskip("rich"), pytest.importorskip("matplotlib")
    picture = tmp_path / "demo.png"
    result = run("--backend", framework, "--steps", "20", "--out", str(picture))
    assert result.returncode == 0, result.stderr
    name = {"pyro": "Pyro", "numpyro": "NumPyro"}[framework]
    for row in (f"{name}, annealed", f"{name}, held at 1"):
        numbers = re.search(rf"^ *{row} +20 +[\d.]+((?: +-\d+\.\d+){{3}})", result.stdout, re.M)
        assert numbers, result.stdout
    assert re.search(r"independent pixels( +- +-)( +-\d+\.\d+){3}", result.stdout)
    assert picture.read_bytes()[:4] == b"\x89PNG"


def test_bad_options() -> None:
    """A bad option raises its error before any training."""
    assert "--steps got 0; expected at least 1" in run("--steps", "0").stderr
