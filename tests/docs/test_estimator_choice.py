"""The comparison of estimators on four problems, and the page that shows its results."""

import json
import warnings
from argparse import Namespace
from itertools import product
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("numpyro")
for package in ("optax", "rich", "sklearn", "tqdm"):
    pytest.importorskip(package)

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpyro  # noqa: E402
from numpyro.infer import Trace_ELBO  # noqa: E402
from numpyro.infer.util import log_density  # noqa: E402

from benchmarks.estimators import __main__ as comparison  # noqa: E402
from benchmarks.estimators import problems, report  # noqa: E402
from benchmarks.estimators.compare import compare  # noqa: E402
from benchmarks.estimators.training import choose, labels  # noqa: E402
from relaxed_dists import numpyro as ours  # noqa: E402

PAGE = Path(__file__).parents[2] / "docs/how-to/estimator.md"


class ShortChain(problems.Chain):
    """Paths of three states, of which there are 125."""

    length = 3


def one_hot(sizes: list[int]) -> list[np.ndarray]:
    """All values of variables of the given numbers of categories, one-hot."""
    return [
        np.stack([np.eye(k)[i] for i, k in zip(x, sizes, strict=True)])
        for x in product(*map(range, sizes))
    ]


@pytest.mark.parametrize("name", ["mixture", "chain", "table"])
def test_the_exact_score_is_the_sum_over_the_models_values(name: str) -> None:
    """The score is the log of the model's density, summed over every value of its variable."""
    rng = np.random.default_rng(0)
    if name == "mixture":
        problem, sizes = problems.Mixture(points=101), [100]
        params = {"means": rng.normal(size=(100, 2))}
    elif name == "chain":
        problem, sizes = ShortChain(sequences=2), [5] * 3
        params = {"levels": rng.normal(size=5), "transitions": rng.normal(size=(5, 5))}
    else:
        problem, sizes = problems.Table(categories=7, rows=2, tested=1), [7]
        shapes = {"1.weight": (2, 64), "1.bias": 64, "2.weight": (64, 8), "2.bias": 8}
        params = {f"decoder.{k}": rng.normal(size=shape) for k, shape in shapes.items()}
    params = {k: jnp.asarray(v, jnp.float32) for k, v in params.items()}
    x, rows = problem.parts.test[:1], jnp.arange(1)
    each = []
    for value in one_hot(sizes):
        z = value[:, None] if name == "chain" else value
        each.append(
            float(
                log_density(
                    problem.model, (x, rows), {}, params | {"z": jnp.asarray(z, jnp.float32)}
                )[0]
            )
        )
    expected = np.logaddexp.reduce(each)
    assert abs(problem.scores(params, 0, x)["evidence"] - expected) < 1e-4


def test_the_digits_bounds_are_those_of_the_library() -> None:
    """The bounds that are compiled once agree with evidence_bounds, within their errors."""
    problem = problems.Digits()
    x, rows = problem.parts.test[:5], jnp.arange(5)
    svi = numpyro.infer.SVI(problem.model, problem.guide, numpyro.optim.Adam(1e-3), Trace_ELBO())
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".* does not support models with discrete latent")
        params = svi.get_params(svi.init(jax.random.key(0), x, rows))
    found = problem.scores(params, 0, x)
    how = {"num_samples": 1000, "progress_bar": False}
    bounds = ours.evidence_bounds(
        jax.random.key(1), params, problem.model, problem.guide, x, rows, **how
    )
    # The score has a tenth of the samples, so that its variance is ten times theirs.
    assert abs(found["ELBO"] - bounds.elbo / 5) < 4 * 11**0.5 * bounds.elbo_error / 5
    assert found["ELBO"] < found["importance-weighted"] < bounds.importance_weighted / 5 + 0.5
    assert found["importance-weighted"] > bounds.importance_weighted / 5 - 1


@pytest.mark.parametrize(("best", "tried"), [(0.03, 3), (0.3, 5), (1e-5, 9)])
def test_the_best_step_size_is_no_edge(best: float, tried: int) -> None:
    """Step sizes are added until the best one has neighbours, or the grid ends."""
    problem = SimpleNamespace(rates=(0.01, 0.03, 0.1), parts=SimpleNamespace(validation=None))
    problem.scores = lambda rate, seed, x: {"score": -abs(np.log(rate / best)), "other": rate}
    found: dict[float, float] = {}
    training = SimpleNamespace(problem=problem, fit=lambda seed, rate: rate)
    assert choose(training, {}, found) == best
    assert len(found) == tried


def test_a_tiny_comparison(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The best step size by validation is tested for each seed, and a second run trains nothing."""
    small = {"chain": lambda: ShortChain(sequences=20)}
    monkeypatch.setattr(problems, "PROBLEMS", small)
    options = Namespace(
        results=tmp_path, steps=20, seeds=2, quick=False, only=["enumeration", "StraightThrough()"]
    )
    compare("chain", "a command", options)
    result = json.loads((tmp_path / "chain.json").read_text())
    assert result["command"] == "a command"
    assert [result["steps"], result["data"]] == [20, [20, 20, 20]]
    enumerated, through = (result["ways"][label] for label in options.only)
    for way in (enumerated, through):
        best = max(way["validation"].values())
        assert way["validation"][f"{way['rate']:g}"] == best
        assert len({test["evidence"] for test in way["test"]}) == 2
        assert way["ms"] > 0
    assert through["ratio"] == 1
    # The best of the start's, with levels at 0, is about -7.
    assert report.scores(enumerated).mean() > report.scores(through).mean() > -20
    before = (tmp_path / "chain.json").read_text()
    compare("chain", "another command", options)
    assert (tmp_path / "chain.json").read_text() == before
    with pytest.raises(SystemExit, match=r"chain\.json is of another run; expected one of these"):
        compare("chain", "a command", Namespace(**vars(options) | {"seeds": 3}))
    comparison.main(["--table", "--results", str(tmp_path)])
    shown = capsys.readouterr().out
    assert "hidden Markov model" in shown
    assert report.spread(report.scores(enumerated)) in shown


def test_every_estimator_is_compared() -> None:
    """All estimators and losses of the package are in the tables, and enumeration if possible."""
    found = report.results(comparison.FOLDER)
    assert [r["problem"] for r in found] == list(report.ORDER)
    estimators = {x for x in ours.__all__ if isinstance(getattr(ours, x), type)}
    estimators = {
        x for x in estimators if issubclass(getattr(ours, x), ours.StraightThrough.__base__)
    }
    estimators |= {x for x in ours.__all__ if x.endswith("_ELBO")}
    assert len(estimators) == 10
    for result in found:
        assert list(result["ways"]) == labels(problems.PROBLEMS[result["problem"]]())
        named = {label.partition("(")[0] for label in result["ways"]}
        assert estimators - named <= {"REBAR_ELBO", "RELAX_ELBO"}
        assert ("enumeration" in named) == (result["problem"] != "digits")
        assert {"command", "machine", "versions"} <= set(result)
        assert all(len(way["test"]) == result["seeds"] == 3 for way in result["ways"].values())


def test_the_page_has_the_tables(capsys: pytest.CaptureFixture[str]) -> None:
    """The page shows the tables that the command prints from the JSONs."""
    comparison.main(["--table", "--markdown"])
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert len(rows) > 50
    shown = PAGE.read_text().splitlines()
    assert [row for row in rows if row not in shown] == []


def test_bad_steps(capsys: pytest.CaptureFixture[str]) -> None:
    """A number of steps that makes no whole chunks is refused before any training."""
    with pytest.raises(SystemExit):
        comparison.main(["--steps", "15"])
    assert "--steps got 15; expected a multiple of 10" in capsys.readouterr().err
