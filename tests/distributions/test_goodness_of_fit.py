"""Statistical tests that draws follow the densities.

Each check has a false-alarm rate of 1e-4 (seeds are fixed by default), and also rejects a wrong
distribution.
"""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import special, stats

from cases import CASES, DISCRETE, RELAXED, Case, parameters
from harness import Backend

ALARM = 1e-4
BINS, NODES = 6, 8
cases = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def draws(
    backend: Backend, name: str, t: float, logits: np.ndarray, seed: int, n: int
) -> np.ndarray:
    """n draws of a distribution."""
    distribution = getattr(backend.names, name)(backend.array(t), logits=backend.array(logits))
    return backend.numpy(backend.draw(distribution, seed, (n,)))


def log_prob(
    backend: Backend, case: Case, t: float, logits: np.ndarray, x: np.ndarray
) -> np.ndarray:
    """Our log density of values from their numbers, without validation: a few are rounded to 1."""
    arrays = (backend.array(a) for a in (t, logits, x))
    return backend.numpy(density(type(backend), case.name)(*arrays))


@functools.cache
def density(backend: type[Backend], name: str) -> Callable[..., Any]:
    """The log density, as a function of temperature, logits and values, compiled in JAX."""
    made = backend()
    cls = getattr(made.names, name)
    return made.compiled(lambda t, x, v: cls(t, logits=x, validate_args=False).log_prob(v))


def two(case: Case, x: np.ndarray) -> np.ndarray:
    """The values of all categories: for a binary distribution, the logit and zero."""
    return x if case.one_hot else np.stack([x, np.zeros_like(x)], -1)


def cells(backend: Backend, case: Case, t: float, logits: np.ndarray) -> np.ndarray:
    """The mass, by our density, of each cell of a grid over a (and b), by Gauss-Legendre.

    With p = softmax(logits - t y) of two categories a is p_0. Of three, a = 1 - (1 - p_0)^2 and
    b = p_1 / (1 - p_0): coordinates in which the density is bounded, and should be constant.
    """
    node, weight = np.polynomial.legendre.leggauss(NODES)
    axis = ((np.arange(BINS)[:, None] + (node + 1) / 2) / BINS).ravel()
    full = two(case, logits)
    dims = len(full) - 1
    a, *b = np.meshgrid(*[axis] * dims, indexing="ij")
    rest = (1 - a) ** (1 / dims)
    p = np.stack([1 - rest, *((rest * b[0], rest * (1 - b[0])) if b else [rest])], -1)
    log_x = special.log_softmax((full - np.log(p)) / t, -1)
    x = np.exp(log_x)
    value, volume = {
        "ExpRelaxedOneHotCategorical": (log_x, 1.0),
        "RelaxedOneHotCategorical": (x, x.prod(-1)),
        "LogitRelaxedBernoulli": (log_x[..., 0] - log_x[..., -1], 1.0),
        "RelaxedBernoulli": (x[..., 0], x.prod(-1)),
    }[case.name]
    # The Jacobian of the log ratios to the last category, with respect to a and b.
    jacobian = 1 / (special.gamma(dims + 1) * t**dims * p.prod(-1))
    mass = np.exp(log_prob(backend, case, t, logits, value)) * volume * jacobian
    for dim in range(dims):
        mass = mass.reshape(*mass.shape[:dim], BINS, NODES, *mass.shape[dim + 1 :])
        mass = np.tensordot(mass, weight / 2 / BINS, ([dim + 1], [0]))
    return mass


def counts(case: Case, t: float, logits: np.ndarray, x: np.ndarray) -> np.ndarray:
    """The number of draws in each cell."""
    p = special.softmax(two(case, logits) - t * two(case, case.to_log(x)), -1)
    dims = p.shape[-1] - 1
    places = [1 - (1 - p[:, 0]) ** dims, p[:, 1] / (1 - p[:, 0])][:dims]
    return np.histogramdd(places, [np.linspace(0, 1, BINS + 1)] * dims)[0]


def chi_square(found: np.ndarray, mass: np.ndarray) -> float:
    """The p-value of counts where the masses need not sum to one."""
    expected = found.sum() * mass
    return float(stats.chi2.sf(((found - expected) ** 2 / expected).sum(), found.size - 1))


settings = pytest.mark.parametrize(("t", "k"), [(0.5, 2), (2.5, 3)])


@cases
@settings
def test_density_integrates_to_one(backend: Backend, case: Case, t: float, k: int) -> None:
    """The density integrates to one over two or three categories, which checks t and (K - 1)!."""
    logits = parameters(np.random.default_rng(1), case.one_hot, k, ())
    assert abs(cells(backend, case, t, logits).sum() - 1) < 1e-9


@cases
@settings
def test_draws_follow_the_density(
    backend: Backend, case: Case, t: float, k: int, seed: int
) -> None:
    """A chi-square test of 100,000 draws over the cells rejects a temperature 4 % off.

    It also rejects a density without the factor t of each dimension.
    """
    logits = parameters(np.random.default_rng(1), case.one_hot, k, ())
    mass = cells(backend, case, t, logits)
    right, wrong = (
        counts(case, t, logits, draws(backend, case.name, drawn, logits, seed, 100_000))
        for drawn in (t, 1.04 * t)
    )
    assert chi_square(right, mass) > ALARM
    assert chi_square(wrong, mass) < ALARM
    assert chi_square(right, mass / t) < ALARM


@cases
def test_density_of_draws(backend: Backend, case: Case, seed: int) -> None:
    """log q of a draw has the distribution of lgamma(K) + (K-1) log t + sum log E - K log sum E.

    On the simplex, sum y is subtracted, where y is the log of the draw. A two-sample
    Kolmogorov-Smirnov test with 50,000 each rejects a density without (K - 1)! or t^(K - 1), and
    one with negated logits.
    """
    n, t = 50_000, 0.4
    logits = parameters(np.random.default_rng(3), case.one_hot, 6, ())
    e = np.random.default_rng(seed + 1).exponential(size=(n, 6 if case.one_hot else 2))
    k = e.shape[-1]
    expected = special.gammaln(k) + (k - 1) * np.log(t)
    expected = expected + np.log(e).sum(-1) - k * np.log(e.sum(-1))
    if not case.name.startswith(("Exp", "Logit")):
        y = special.log_softmax((two(case, logits) - np.log(e)) / t, -1)
        expected = expected - y.sum(-1)
    x = draws(backend, case.name, t, logits, seed, n)
    found = log_prob(backend, case, t, logits, x)
    assert stats.ks_2samp(found, expected).pvalue > ALARM
    wrong = [found - (k - 1) * np.log(t), log_prob(backend, case, t, -logits, x)]
    wrong += [found - special.gammaln(k)] if case.one_hot else []
    for other in wrong:
        assert stats.ks_2samp(other, expected).pvalue < ALARM


def slack(terms: np.ndarray) -> np.ndarray:
    """How far each entry of a mean may be from its expectation: about 4 standard errors."""
    return stats.norm.isf(ALARM / 2 / terms[0].size) * terms.std(0) / np.sqrt(len(terms))


@cases
def test_entropy_of_draws(backend: Backend, case: Case, seed: int) -> None:
    """The entropy is the mean of -log q over 100,000 draws, to 0.02 in log space and 0.2 on the
    simplex.

    The entropy of the discrete distribution in its place is rejected.
    """
    n, t = 100_000, 0.3
    logits = parameters(np.random.default_rng(4), case.one_hot, 5, ())
    distribution = getattr(backend.names, case.name)(backend.array(t), logits=backend.array(logits))
    terms = -log_prob(backend, case, t, logits, draws(backend, case.name, t, logits, seed, n))
    assert abs(backend.numpy(distribution.entropy()) - terms.mean()) < slack(terms)
    assert abs(backend.numpy(distribution.discrete.entropy()) - terms.mean()) > slack(terms)


@pytest.mark.share("backend")
@pytest.mark.parametrize("name", [name for name in RELAXED if name[0] != "E"])
@pytest.mark.parametrize("t", [0.3, 3.0])
def test_moments_of_draws(backend: Backend, name: str, t: float, seed: int) -> None:
    """Mean and variance are those of 100,000 draws, to 0.006 on the simplex.

    The discrete distribution's moments are rejected, except for straight-through, which has the
    same. Each distribution runs one of the temperatures, or both with --whole.
    """
    logits = parameters(np.random.default_rng(6), "OneHot" in name, 5, ())
    distribution = getattr(backend.names, name)(backend.array(t), logits=backend.array(logits))
    x = draws(backend, name, t, logits, seed, 100_000)
    for moment, terms in (("mean", x), ("variance", (x - x.mean(0)) ** 2)):
        ours, substitute = (
            abs(backend.numpy(getattr(made, moment)) - terms.mean(0)) / slack(terms)
            for made in (distribution, distribution.discrete)
        )
        assert (ours < 1).all()
        assert name.endswith("StraightThrough") or (substitute > 1).any()


@pytest.mark.parametrize("case", CASES[2:], ids=lambda case: case.name)
def test_cdf_of_draws(backend: Backend, case: Case, seed: int) -> None:
    """The cdf of 100,000 draws is uniform, by Kolmogorov-Smirnov, and is the inverse of icdf.

    A cdf at a temperature 4 % off is rejected.
    """
    for t in (0.4, 2.0):
        logits = backend.array(-1.2)
        distribution, wrong = (
            getattr(backend.names, case.name)(backend.array(used), logits=logits)
            for used in (t, 1.04 * t)
        )
        x = backend.draw(distribution, seed, (100_000,))
        assert stats.kstest(backend.numpy(distribution.cdf(x)), "uniform").pvalue > ALARM
        assert stats.kstest(backend.numpy(wrong.cdf(x)), "uniform").pvalue < ALARM
        q = np.linspace(0.001, 0.999, 50)
        back = distribution.cdf(distribution.icdf(backend.array(q)))
        np.testing.assert_allclose(backend.numpy(back), q, rtol=1e-10)


def first_at(x: np.ndarray, name: str) -> np.ndarray:
    """How often each category is the largest."""
    if "Bernoulli" in name:
        x = np.stack([0 * x + (0 if name.startswith("Logit") else 0.5), x], -1)
    return np.bincount(x.argmax(-1), minlength=x.shape[-1])


@pytest.mark.parametrize("name", RELAXED + DISCRETE)
def test_first_category_does_not_depend_on_temperature(
    backend: Backend, name: str, seed: int
) -> None:
    """The largest category of a draw has the discrete probabilities, at each temperature.

    A chi-square test of 40,000 draws, also with estimators, rejects frequencies off by 0.015. It
    rejects noise that isn't divided by the temperature, and uniform noise in place of Gumbel noise.
    """
    rng, n, rows = np.random.default_rng(5), 40_000, "OneHot" in name
    names, logits = backend.names, parameters(rng, rows, 5, ())
    full = logits if rows else np.stack([0.0, logits])
    expected = n * special.softmax(full)
    cls, array = getattr(names, name), backend.array(logits)
    distributions = (
        [cls(t, logits=array) for t in (0.01, 1.0, 10.0)]
        if name in RELAXED
        else [
            cls(logits=array, estimator=estimator)
            for estimator in (None, names.StraightThrough(), names.GumbelSoftmax(0.1))
        ]
    )
    for place, distribution in enumerate(distributions):
        found = first_at(backend.numpy(backend.draw(distribution, seed + place, (n,))), name)
        assert stats.chisquare(found, expected).pvalue > ALARM
    undivided = full / 0.5 + rng.gumbel(size=(n, len(full)))
    imitation = np.exp(full) * rng.uniform(size=(n, len(full)))
    for wrong in (undivided, imitation):
        assert stats.chisquare(first_at(wrong, "OneHot"), expected).pvalue < 1e-12
