"""The examples on real data, run as a user runs them, for fewer steps."""

import re
from pathlib import Path

import pytest

from test_demo import EXAMPLES, run


def numbers(text: str) -> list[float]:
    """The decimal numbers of a line."""
    return [float(x) for x in re.findall(r"-?\d+\.\d+", text)]


def test_gates_are_those_of_the_exact_posterior(tmp_path: Path) -> None:
    """Gates agree with the exact posterior where it is below 0.1 or above 0.9."""
    pytest.importorskip("pyro")
    out = tmp_path / "gates.png"
    result = run("--steps", "1500", "--out", str(out), script=EXAMPLES / "diabetes_gates.py")
    assert result.returncode == 0, result.stderr
    rows = dict(re.findall(r"│ (\w+) +│ (.*)│$", result.stdout, re.M))
    assert len(rows) == 10
    gates = {name: numbers(row)[:2] for name, row in rows.items()}
    decided = {name: pair for name, pair in gates.items() if not 0.1 < pair[1] < 0.9}
    assert len(decided) >= 5
    for name, (gate, exact) in decided.items():
        assert abs(gate - exact) < 0.2, name
    assert out.read_bytes().startswith(b"\x89PNG")


def test_the_mixture_finds_the_species(tmp_path: Path) -> None:
    """The bounds are below the evidence, and the clusters agree with the species."""
    pytest.importorskip("numpyro")
    out = tmp_path / "iris.png"
    result = run("--steps", "2000", "--out", str(out), script=EXAMPLES / "iris_mixture.py")
    assert result.returncode == 0, result.stderr
    evidence, weighted, elbo, _, rand = (numbers(x)[0] for x in result.stdout.splitlines())
    assert elbo < weighted + 0.1 < evidence + 1
    assert evidence > -180  # the best mixture has -163.8, a single normal -469
    assert rand > 0.7
    assert out.read_bytes().startswith(b"\x89PNG")
