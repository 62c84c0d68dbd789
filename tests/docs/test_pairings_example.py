"""The script that prints the objective of each pairing of model and guide, and its page."""

import functools
import re
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from scipy.special import log_softmax, softmax
from scipy.stats import norm

from numpy_ops import concrete_density
from test_demo import EXAMPLES, run

PAGE = Path(EXAMPLES).parent / "pairings.md"
WEIGHTS, MEANS, X = np.array([0.5, 0.3, 0.2]), np.array([-1.0, 0.0, 2.0]), 1.0
TEMPERATURES = [0.5, 0.2, 0.1, 0.05]
MASS = WEIGHTS * norm.pdf(X, MEANS)
POSTERIOR = MASS / MASS.sum()
FRAMEWORKS = ["pyro", "numpyro"]
NUMBER = r"-?\d+\.\d{3}"


@functools.cache
def printed(seed: int = 0) -> str:
    """The output of the script, run once for all tests, with the installed frameworks."""
    pytest.importorskip("rich")
    here = [name for name in FRAMEWORKS if find_spec(name)]
    backend = "both" if len(here) == 2 else (*here, "none")[0]
    result = run("--backend", backend, "--seed", str(seed), script=EXAMPLES / "pairings.py")
    assert result.returncode == 0, result.stderr
    return result.stdout


def rows(text: str, mark: str) -> dict[str, list[str]]:
    """The rows of numbers of all tables, by their name and their number of cells."""
    found = {}
    for line in text.splitlines():
        name, *cells = re.split(r"\s*\|\s*" if mark == "|" else r"\s{2,}", line.strip(f" {mark}"))
        numbers = [cell for cell in cells if re.fullmatch(NUMBER, cell)]
        if numbers:
            found[f"{name}, {len(numbers)}"] = numbers
    return found


def test_the_page_shows_what_the_script_prints(seed: int) -> None:
    """The rows of the page's tables and the numbers of its text are those of the output."""
    text, page = printed(seed), PAGE.read_text()
    shown, here = rows(page, "|"), rows(text, " ")
    assert len(shown) == 12
    assert all(here[name] == numbers for name, numbers in shown.items())
    assert set(re.findall(NUMBER, page)) <= set(re.findall(NUMBER, text))


def test_the_objectives_by_draws(seed: int) -> None:
    """The numbers at falling temperatures agree with draws, within 5 standard errors.

    A false alarm comes once in 100,000 runs. The standard errors are 0.001 to 0.03.
    """
    got = rows(printed(seed), " ")
    noise = np.random.default_rng(0).gumbel(size=(200_000, 3))
    for n, t in enumerate(TEMPERATURES[:2]):

        def expect(name: str, x: np.ndarray, n: int = n, log: bool = False) -> None:
            mean, error = x.mean(), x.std() / len(x) ** 0.5
            mean, error = (np.log(mean), error / mean) if log else (mean, error)
            assert error < 0.03
            assert abs(float(got[f"{name}, 4"][n]) - mean) < 5 * error + 5e-4

        prior = softmax((np.log(WEIGHTS) + noise) / t, -1)
        expect("log evidence, relaxed", norm.pdf(X, prior @ MEANS), log=True)
        log_z = log_softmax((np.log(POSTERIOR) + noise) / t, -1)
        z = np.exp(log_z)
        log_p, log_q = (np.log(concrete_density(np.log(p), t, z)) for p in (WEIGHTS, POSTERIOR))
        likelihood, hard = norm.logpdf(X, z @ MEANS), POSTERIOR @ np.log(MASS)
        kl = POSTERIOR @ np.log(POSTERIOR / WEIGHTS)
        expect("relaxed / relaxed", likelihood + log_p - log_q)
        expect("discrete / soft", likelihood - kl)
        expect("discrete / relaxed", hard - log_q)
        expect("relaxed / discrete", likelihood + log_p - z @ np.log(POSTERIOR))
        expect("discrete / relaxed, in log space", hard - log_q - log_z.sum(-1))


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_the_frameworks_optimise_what_the_page_says(framework: str, seed: int) -> None:
    """ELBOs, by 20 means of 2,000 draws, are within 5 standard errors: a false alarm in 20,000."""
    pytest.importorskip(framework)
    column = [name for name in FRAMEWORKS if find_spec(name)].index(framework)
    row = rf"^ +\S+ / \S+ +({NUMBER}) +{NUMBER} +(.*)$"
    found = []
    for objective, rest in re.findall(row, printed(seed), re.M):
        estimates = re.findall(r"(-?[\d.]+) ± ([\d.]+) ", rest)
        found += [(objective, *estimates[column])] if estimates else []
    assert len(found) == 5
    for objective, estimate, error in found:
        assert float(error) < 0.02
        assert abs(float(objective) - float(estimate)) < 5 * float(error) + 6e-4


def test_which_are_bounds_of_which_evidence(seed: int) -> None:
    """At temperature 0.5, the best value of a bound is below its evidence."""
    text = printed(seed)
    relaxed = float(re.search(rf"relaxed ({NUMBER})$", text, re.M)[1])
    best = {name: float(of[0]) for name, of in rows(text, " ").items() if name.endswith(" 2")}
    discrete = round(np.log(MASS.sum()), 3)
    assert discrete < best["relaxed / relaxed, 2"] < relaxed
    assert best["discrete / hard, 2"] == discrete
    assert best["discrete / soft, 2"] > max(discrete, relaxed)
    assert best["discrete / relaxed, 2"] < discrete - np.log(6)
    assert best["relaxed / discrete, 2"] > 0
