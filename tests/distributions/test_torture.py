"""A small part of the torture command's grid: our distributions must pass, the peers fail."""

import numpy as np
import pytest

import benchmarks.torture.__main__ as torture
from benchmarks.torture import accuracy, grid, subjects
from harness import Backend


def test_the_quick_part(backend: Backend, capsys: pytest.CaptureFixture[str]) -> None:
    """The command exits with 0, and prints a row for each distribution."""
    pytest.importorskip("rich")
    assert torture.main(["--quick", "--ours", "--backend", backend.framework]) == 0
    printed = capsys.readouterr().out
    assert "Ours: nothing fails." in printed
    for name in subjects.SPACES:
        assert f"{name} " in printed, name


def test_the_grid_sees_failures() -> None:
    """torch's relaxed categorical fails every check at temperature 0.001."""
    pytest.importorskip("pyro")
    (peer,) = (s for s in subjects.peers("pyro")[0] if s.name == "RelaxedOneHotCategorical")
    counts = grid.count(peer, grid.QUICK, False)
    assert all(counts.failed[check] > 0 for check in grid.CHECKS)
    found = torture.Results([(peer, False, counts)])
    assert found.wrong() == []  # lists only our distributions


def test_the_bounds_see_a_threshold() -> None:
    """The bounds reject a softplus like torch's: x above 20, so 2e-9 off in float64."""
    worst = 0.0
    for logits, t, y in accuracy.points("logit", "float64", True):
        points = zip(logits, y, strict=True)
        exact = np.array([accuracy.reference("logit", a, t, x)[0] for a, x in points])
        d = logits - t * y
        softplus = np.where(d > 20, d, np.logaddexp(d, 0))
        worst = max(worst, accuracy.worst(np.log(t) + d - 2 * softplus, exact))
    assert worst > accuracy.BOUNDS["float64"][1]
