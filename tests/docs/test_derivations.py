"""The script that checks the page of derivations, run as a reader runs it."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "docs/examples/check_derivations.py"

# A program that runs the check with an error in one formula: first a millionth, then NaN.
WRONG = """
import sys, types
sys.path.insert(0, {folder!r})
import check_derivations, derivation_formulas
right = derivation_formulas.one_hot
derivation_formulas.one_hot = types.SimpleNamespace(**vars(right))
check_derivations.FRAMEWORKS = {{{name!r}: check_derivations.FRAMEWORKS[{name!r}]}}
check_derivations.groups = lambda quick: [derivation_formulas.own_samples()]
for error in (1e-6, float("nan")):
    wrong = lambda *given: right.exp_concrete_log_prob(*given) + error
    derivation_formulas.one_hot.exp_concrete_log_prob = wrong
    print("status", check_derivations.main())
"""


def run(*options: str) -> subprocess.CompletedProcess[str]:
    """Run Python in a new process, in which warnings are errors."""
    pytest.importorskip("rich")
    command = [sys.executable, "-W", "error", *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def test_every_formula_holds() -> None:
    """All formulas hold, in each framework that is installed."""
    result = run(str(SCRIPT), "--quick")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "All are within their bounds." in result.stdout
    assert ("NumPyro" in result.stdout) == bool(find_spec("numpyro"))
    assert (" Pyro" in result.stdout) == bool(find_spec("pyro"))


def test_a_wrong_formula_is_found() -> None:
    """The check fails where a formula is off by a millionth, and where it is NaN."""
    name = "pyro" if find_spec("pyro") else "numpyro"
    result = run("-c", WRONG.format(folder=str(SCRIPT.parent), name=name))
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.count("1 of 4 are off.") == result.stdout.count("status 1") == 2
