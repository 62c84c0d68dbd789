"""HardConcrete in inference: gradients, extremes, wrappers, ELBOs and refusals."""

import importlib
from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.stats import norm

from fits import fit
from gates import density, expectation, make, masses, slack
from harness import Backend
from languages import Language

INF = np.inf


def ratio(z: Any, p: Any, t: float, logits: float) -> Any:
    """log p minus the log density, or mass, of another distribution at z."""
    q = masses(t, logits)[int(z)] if np.ndim(z) == 0 else density(z, t, logits)
    return np.log(np.maximum(p, 1e-300) / q)


def slopes(f: Any, t: float, logits: float, h: float = 1e-4) -> np.ndarray:
    """Derivatives of E f(z) by the temperature and by the logits, by central differences."""
    by = [(h, 0.0), (0.0, h)]
    return np.array(
        [
            (expectation(f, t + a, logits + b) - expectation(f, t - a, logits - b)) / (2 * h)
            for a, b in by
        ]
    )


def test_gradients_of_draws_are_unbiased(backend: Backend, seed: int) -> None:
    """Gradients of E z and of the sampled KL, which jumps at 0 and 1, are unbiased.

    With 100,000 draws, each with its own parameters, half of them masked in the KL, errors are
    below 0.005 and 0.01. Without the stored masses of a draw the KL's gradient is off by 0.2.
    """
    n, t, logits, t_prior, prior = 100_000, 0.6, 0.4, 0.8, -1.0
    mask = np.arange(n) % 2 == 0
    theirs = make(backend, np.full(n, t_prior), np.full(n, prior))

    def z(t: Any, logits: Any) -> Any:
        return backend.draw(backend.names.HardConcrete(t, logits=logits), seed)

    def divergence(copy: bool) -> Any:
        def f(t: Any, logits: Any) -> Any:
            distribution = backend.names.HardConcrete(t, logits=logits)
            value = backend.draw(distribution, seed)
            value = value + 0.0 if copy else value
            distributions = (x.mask(backend.array(mask, "bool")) for x in (distribution, theirs))
            mine, its = (x.log_prob(value) for x in distributions)
            return (mine - its).sum()

        return f

    given = backend.array(np.full(n, t)), backend.array(np.full(n, logits))
    draws = backend.numpy(backend.compiled(z)(*given))
    found = np.stack(backend.grad(backend.compiled(lambda *x: z(*x).sum()), *given), -1)
    assert (found[(draws == 0) | (draws == 1)] == 0).all()
    assert (found[(draws > 0) & (draws < 1), 1] > 0).all()
    expected = slopes(lambda z, p: z, t, logits)
    assert (abs(found.mean(0) - expected) < slack(found)).all()
    expected = slopes(lambda z, p: ratio(z, p, t_prior, prior), t, logits)
    right, wrong = (
        np.stack(backend.grad(backend.compiled(divergence(copy)), *given), -1)
        for copy in (False, True)
    )
    assert (right[~mask] == 0).all()
    assert (abs(right[mask].mean(0) - expected) < slack(right[mask])).all()
    assert (abs(wrong[mask].mean(0) - expected) > slack(wrong[mask])).all()


def test_gradients_of_the_exact_numbers(backend: Backend) -> None:
    """Gradients of mean, entropy, KL and P(z != 0) agree with central differences, to 1e-6."""
    t, logits = 0.7, -0.4
    other = make(backend, 0.5, 0.3)

    def ours(t: Any, logits: Any) -> Any:
        distribution = backend.names.HardConcrete(t, logits=logits)
        parts = (
            distribution.mean,
            distribution.entropy(),
            backend.divergence(distribution, other),
            distribution.prob_nonzero,
        )
        return sum(weight * x for weight, x in zip((1.0, 2.0, 3.0, 4.0), parts, strict=True))

    def f(z: Any, p: Any) -> Any:
        surprise = -np.log(np.maximum(p, 1e-300))
        return z + 2 * surprise + 3 * ratio(z, p, 0.5, 0.3) + 4 * (z != 0)

    found = backend.grad(backend.compiled(ours), backend.array(t), backend.array(logits))
    np.testing.assert_allclose(found, slopes(f, t, logits), rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_extremes(backend: Backend, dtype: str) -> None:
    """Point masses, logits to 2^23 and extreme temperatures give right numbers and no NaN.

    The gradients are finite; in bfloat16, float32 computes them.
    """
    t = np.array([[2.0**-20], [1.0], [2.0**20]])
    logits = np.array([-INF, INF, -(2.0**23), 2.0**23, 0.0, -90.0])

    def numbers(t: Any, logits: Any) -> list[Any]:
        distribution = backend.names.HardConcrete(t, logits=logits, validate_args=False)
        other = backend.names.HardConcrete(0.5 * t, logits=-logits, validate_args=False)
        z = backend.draw(distribution, 0)
        at = (backend.array(x, dtype) for x in (0.0, 1.0, 0.5))
        scores = [distribution.log_prob(x) for x in at]
        exact = [
            distribution.mean,
            distribution.variance,
            distribution.prob_nonzero,
            distribution.cdf(backend.array(0.5, dtype)),
        ]
        return [
            *scores,
            z,
            *exact,
            distribution.log_prob(z),
            distribution.entropy(),
            backend.divergence(distribution, other),
        ]

    arrays = backend.array(t, dtype), backend.array(logits, dtype)
    zero, one, half, z, mean, variance, nonzero, cdf, *rest = (
        backend.numpy(x) for x in backend.compiled(numbers)(*arrays)
    )
    cold = np.array([0, 1, 0, 1])
    assert (z[:2, :4] == cold).all()
    np.testing.assert_allclose(mean[:2, :4] - cold, 0, atol=1e-6)
    assert (nonzero[:2, :4] == cold).all()
    assert (cdf[:2, :4] == 1 - cold).all()
    np.testing.assert_allclose(variance[:2, :4], 0, atol=1e-6)
    assert (zero[0, [0, 2]] == 0).all()
    assert (one[0, [1, 3]] == 0).all()
    assert (zero[:, 1] == -INF).all()
    assert (one[:, 0] == -INF).all()
    assert (half[:, :2] == -INF).all()
    np.testing.assert_allclose(
        z[2, 4:], 0.5, atol=0.01
    )  # a temperature of 2^20 makes the noise negligible
    np.testing.assert_allclose(mean[2, 4:], 0.5, atol=0.01)
    assert not any(np.isnan(x).any() for x in (zero, one, half, cdf, *rest))

    def total(t: Any, logits: Any) -> Any:
        return sum(x.sum() for x in numbers(t, logits))

    for gradient in backend.grad(backend.compiled(total), *arrays) if dtype == "float32" else []:
        assert np.isfinite(gradient).all()


def test_only_what_is_clipped_is_at_an_end(backend: Backend) -> None:
    """Equal noise gives equal zeros and ones in bfloat16 and float32; a cast gives others."""
    t, logits = 0.5, np.full(20_000, 0.5)
    fine, coarse = (
        backend.numpy(backend.draw(make(backend, t, logits, dtype), 0))
        for dtype in ("float32", "bfloat16")
    )
    cast = backend.numpy(backend.array(fine, "bfloat16"))
    for end in (0, 1):
        assert ((coarse == end) == (fine == end)).all()
    assert ((cast == 1) != (fine == 1)).any()
    np.testing.assert_allclose(coarse, fine, atol=0.005)


def test_wrappers_and_bounds(backend: Backend) -> None:
    """Expanded, masked and independent gates with other ends have the paper's numbers."""
    logits, z = np.array([0.3, -1.0]), np.array([[0.0, 0.4], [1.0, 0.7], [0.2, 0.0]])
    distribution = make(backend, 0.5, logits, low=-0.3, high=1.2)
    mask = np.array([True, False, True])
    wrapped = distribution.expand((3, 2)).to_event(1).mask(backend.array(mask, "bool"))
    zero, one = masses(0.5, logits, -0.3, 1.2)
    inside = density(z, 0.5, logits, -0.3, 1.2)
    expected = np.log(np.where(z == 0, zero, np.where(z == 1, one, inside))).sum(-1) * mask
    found = backend.numpy(wrapped.log_prob(backend.array(z)))
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert (distribution.low, distribution.high) == (-0.3, 1.2)
    assert tuple(backend.draw(wrapped, 0).shape) == (3, 2)


def test_the_discrete_counterpart(backend: Backend, language: Language) -> None:
    """The discrete counterpart is the Bernoulli of z != 0; a site of HardConcrete is relaxed."""
    distribution = make(backend, 0.5, np.array([0.3, -1.0]))
    expected = 1 - masses(0.5, np.array([0.3, -1.0]))[0]
    np.testing.assert_allclose(backend.numpy(distribution.discrete.probs), expected, rtol=1e-12)
    np.testing.assert_allclose(
        backend.numpy(distribution.discrete.expand((2,)).probs), expected, rtol=1e-12
    )
    sites = importlib.import_module(f"relaxed_dists_{backend.framework}.distributions.sites")
    assert sites.kind(distribution.to_event(1)) == "relaxed"

    def model() -> None:
        language.sample("z", distribution.to_event(1))

    found = language.trace(backend.names.discretize(model), 0)["z"]["fn"]
    assert sites.kind(found) == "discrete"
    np.testing.assert_allclose(backend.numpy(sites.innermost(found).probs), expected, rtol=1e-12)


@pytest.mark.parametrize("elbo", ["Trace_ELBO", "TraceMeanField_ELBO"])
def test_svi_finds_the_best_gates(backend: Backend, elbo: str, seed: int) -> None:
    """Each of four gates is within 0.2 of the logits of the largest exact ELBO, by SciPy.

    Trained on copies of the draws, which lack the stored masses, Trace_ELBO is off by 3.
    """
    x, scale, t, t_prior, prior = np.array([-0.3, 0.2, 0.6, 1.1]), 0.5, 0.5, 2 / 3, -0.5
    ppl = backend.ppl
    dist, names = backend.dist, backend.names
    data = backend.array(x)

    def model(temperature: Any) -> None:
        with ppl.plate("rows", 4):
            distribution = names.HardConcrete(t_prior, logits=backend.array(prior))
            z = ppl.sample("z", distribution)
            ppl.sample("x", dist.Normal(z, scale), obs=data)

    def guide(temperature: Any) -> None:
        logits = ppl.param("logits", backend.array(np.zeros(4)))
        with ppl.plate("rows", 4):
            ppl.sample("z", names.HardConcrete(temperature, logits=logits))

    def loss(logits: float, x: float) -> float:
        def f(z: Any, p: Any) -> Any:
            return ratio(z, p, t_prior, prior) - norm.logpdf(x, z, scale)

        return expectation(f, t, logits)

    best = [minimize_scalar(loss, args=(v,), bounds=(-10, 10)).x for v in x]
    found = fit(backend, model, guide, lambda step: t + 0.0 * step, seed, elbo)["logits"]
    assert abs(backend.numpy(found) - best).max() < 0.2


@pytest.mark.parametrize(
    ("low", "high"), [(0.0, 1.1), (0.1, 1.1), (-0.1, 1.0), (-0.1, 0.9), (np.nan, 1.1), (-INF, 2.0)]
)
def test_bad_ends(backend: Backend, low: float, high: float) -> None:
    """Ends inside [0, 1], infinite ends, and arrays raise."""
    text = (
        "HardConcrete got low=.* and high=.*; expected Python numbers, low below 0 and high above"
    )
    for ends in ((low, high), (backend.array(-0.1), 1.1), (-0.1, "1.1")):
        with pytest.raises(ValueError, match=text):
            make(backend, 0.5, 0.0, low=ends[0], high=ends[1])


def test_what_is_refused(backend: Backend, language: Language) -> None:
    """Values off [0, 1], other KLs, the mode, and inference that uses the density raise."""
    distribution, names = make(backend, 0.5, np.zeros(2)), backend.names
    for bad in (-0.1, 1.1, np.nan):
        with pytest.raises(
            ValueError, match=r"HardConcrete.log_prob got .* from 0 to 1. Clip them"
        ):
            distribution.log_prob(backend.array([bad, 0.5]))
    unchecked = make(backend, 0.5, np.zeros(3), validate_args=False)
    assert (backend.numpy(unchecked.log_prob(backend.array([-0.1, 1.1, np.nan]))) == -INF).all()
    with pytest.raises(ValueError, match=r"icdf got .* expected probabilities from 0 to 1"):
        distribution.icdf(backend.array(1.5))
    with pytest.raises(ValueError, match=r"with low and high of \(-0.1, 1.1\) and \(-0.2, 1.1\)"):
        backend.divergence(distribution, make(backend, 0.5, np.zeros(2), low=-0.2))
    with pytest.raises(ValueError, match="different spaces"):
        backend.divergence(
            distribution, names.RelaxedBernoulli(0.5, logits=backend.array(np.zeros(2)))
        )
    with pytest.raises(ValueError, match="a density has no divergence from a mass"):
        backend.divergence(distribution, distribution.discrete)
    with pytest.raises(NotImplementedError, match=r"asked for its mode.* Use .deterministic for"):
        _ = distribution.mode

    def model() -> None:
        language.sample(
            "x",
            language.normal(language.sample("z", distribution), 1 + distribution.mean),
            obs=distribution.mean,
        )

    with pytest.raises(ValueError, match="HardConcrete, whose point masses at 0 and 1 it would"):
        language.hmc("NUTS", model)
    with pytest.raises(ValueError, match=r"\['z'\]|'z'"):
        language.trace(names.relax(model, 0.5, sites=["z"]), 0)
