"""The demo, run as a user runs it, for a few steps. Its numbers are for a whole run to judge."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "docs/examples"
DEMO = EXAMPLES / "digits_vae.py"


def run(*options: str, script: Path = DEMO) -> subprocess.CompletedProcess[str]:
    """The script in a process of its own, where warnings are errors, too."""
    command = [sys.executable, "-W", "error", str(script), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize("framework", ["pyro", "numpyro"])
def test_demo_ends_in_the_table_and_the_picture(framework: str, tmp_path: Path) -> None:
    """Four rows' worth of numbers, all finite, and a PNG."""
    pytest.importorskip(framework)
    pytest.importorskip("sklearn"), pytest.importorskip("rich"), pytest.importorskip("matplotlib")
    out = tmp_path / "demo.png"
    result = run("--backend", framework, "--steps", "20", "--out", str(out))
    assert result.returncode == 0, result.stderr
    name = {"pyro": "Pyro", "numpyro": "NumPyro"}[framework]
    for row in (f"{name}, annealed", f"{name}, held at 1"):
        numbers = re.search(rf"^ *{row} +20 +[\d.]+((?: +-\d+\.\d+){{3}})", result.stdout, re.M)
        assert numbers, result.stdout
    assert re.search(r"independent pixels( +- +-)( +-\d+\.\d+){3}", result.stdout)
    assert out.read_bytes().startswith(b"\x89PNG")


def test_bad_options() -> None:
    """Said before any training."""
    assert "--steps got 0; expected at least 1" in run("--steps", "0").stderr
