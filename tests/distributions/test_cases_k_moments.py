"""Mean and variance of the log of a relaxed sample; mean, variance and entropy of subsets.

Where a case has two dtypes, each framework runs one of them; with the flag --whole it runs both.
"""

import importlib
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import special

from harness import Backend
from quadratures import binary_expectation, log_density, over_plane, plane

INF = np.inf
DTYPES = pytest.mark.parametrize(("dtype", "bound"), [("float64", 1e-10), ("float32", 1e-6)])


def log_law(backend: Backend, t: Any, logits: Any, dtype: str = "float64") -> Any:
    """The distribution of the log of a relaxed sample."""
    name = backend.names.ExpRelaxedOneHotCategorical
    return name(backend.array(t, dtype), logits=backend.array(logits, dtype))


@pytest.mark.share
@DTYPES
def test_k6_log_moments_of_two_categories(backend: Backend, dtype: str, bound: float) -> None:
    """Moments agree with sums over a grid, where the log is -softplus(-(d + L) / t), L logistic.

    Bounds are relative to the scale max(1, 1 / t) of (d + L) / t, or its square.
    Two cases have one temperature for all rows, for which the library uses other code.
    """
    d, t = np.array([0.0, 0.5, -3.0, 20.0, -50.0]), np.array([1e-3, 0.1, 1.0, 2.0, 30.0])[:, None]
    d, t = np.broadcast_arrays(d.astype(dtype), t.astype(dtype))

    def log_sigmoid(y: np.ndarray) -> np.ndarray:
        return -np.logaddexp(0, -y)

    def moments(d: float, t: float) -> tuple[float, float]:
        mean = binary_expectation(log_sigmoid, d, t)
        return mean, binary_expectation(lambda y: (log_sigmoid(y) - mean) ** 2, d, t)

    mean, variance = np.vectorize(moments)(d.astype(float), t.astype(float))

    def both(t: Any, logits: Any) -> tuple[Any, Any]:
        distribution = backend.names.ExpRelaxedOneHotCategorical(t, logits=logits)
        return distribution.mean, distribution.variance

    compiled = backend.compiled(both)
    rows, scale = np.stack([0 * d, d], -1), np.maximum(1, 1 / t)
    cases = [(t, rows, mean, variance, scale)]
    cases += [(t[i, 0], rows[i], mean[i], variance[i], scale[i]) for i in (1, 3)]
    for at, logits, m, v, s in cases:
        arrays = (backend.array(x, dtype) for x in (at, logits))
        ours = [backend.numpy(x)[..., 1] for x in compiled(*arrays)]
        # In float32 the result itself is rounded, relative to a mean far from 0.
        assert (np.abs(ours[0] - m) <= bound * np.maximum(s, np.abs(m))).all()
        np.testing.assert_allclose(ours[1] / s**2, v / s**2, rtol=0, atol=bound)


@pytest.mark.parametrize("t", [0.5, 1.0, 2.5])
def test_k6_log_moments_of_three_categories(backend: Backend, t: float) -> None:
    """Moments agree with the integral over the plane of log ratios, to 1e-8.

    The test would see simpler formulas: log probabilities differ by 0.3 and more from the means.
    """
    logits = np.array([0.5, -1.0, 0.2])
    axis, y = plane(t)
    q = np.exp(log_density(logits, t, y))
    mean = np.array([over_plane(axis, q * y[..., k]) for k in range(3)])
    square = [over_plane(axis, q * (y[..., k] - mean[k]) ** 2) for k in range(3)]
    distribution = log_law(backend, t, logits)
    np.testing.assert_allclose(backend.numpy(distribution.mean), mean, atol=1e-8)
    np.testing.assert_allclose(backend.numpy(distribution.variance), square, atol=1e-8)
    assert (abs(special.log_softmax(logits) - mean) > 0.1).any()


def test_k6_log_moments_of_many_categories(backend: Backend, seed: int) -> None:
    """40 means and variances agree with those of 100,000 draws, to 5 standard errors (3 %).

    A false alarm comes once in 20,000 runs.
    """
    rng = np.random.default_rng(seed)
    logits, t = rng.normal(0, 2, 20), np.array([0.4, 3.0])[:, None]
    distribution = log_law(backend, t[:, 0], np.stack([logits, logits]))
    noise = rng.gumbel(size=(100_000, 1, 20))
    draws = special.log_softmax((logits + noise) / t, -1)
    square = draws.var(0)
    error = np.sqrt((((draws - draws.mean(0)) ** 4).mean(0) - square**2) / len(draws))
    assert (abs(backend.numpy(distribution.variance) - square) < 5 * error).all()
    assert (
        abs(backend.numpy(distribution.mean) - draws.mean(0)) < 5 * np.sqrt(square / len(draws))
    ).all()


def test_k6_log_moments_with_masks(backend: Backend) -> None:
    """A masked category has mean -inf and variance 0; a single unmasked one has 0 and 0."""
    rows = np.array([[0.3, -INF, -1.2, 0.9], [-INF, 2.0, -INF, -INF]])
    for dtype, bound in (("float64", 1e-12), ("float32", 1e-6), ("bfloat16", 0.01)):
        distribution = log_law(backend, np.array([0.5, 3.0]), rows, dtype)
        mean, variance = backend.numpy(distribution.mean), backend.numpy(distribution.variance)
        np.testing.assert_array_equal(mean[0, 1], -INF)
        np.testing.assert_array_equal(mean[1], [-INF, 0, -INF, -INF])
        np.testing.assert_array_equal(variance[:, 1], 0)
        np.testing.assert_array_equal(variance[1], 0)
        assert distribution.mean.dtype == distribution.variance.dtype == distribution.logits.dtype
        kept = log_law(backend, 0.5, rows[0, [0, 2, 3]])
        for ours, theirs in ((mean, kept.mean), (variance, kept.variance)):
            np.testing.assert_allclose(ours[0, [0, 2, 3]], backend.numpy(theirs), rtol=bound)


@pytest.mark.share
@pytest.mark.parametrize(("dtype", "bound"), [("float64", 1e-6), ("float32", 3e-3)])
def test_k6_log_variance_at_high_temperatures(backend: Backend, dtype: str, bound: float) -> None:
    """The variance, about 1 / t^2, has a small relative error, where plain integrals give noise."""
    t = np.array([20.0, 40.0, 1000.0, 5000.0])
    d = np.array([0.5, 30.0, -300.0, 8000.0])

    def variance(d: float, t: float) -> float:
        mean = binary_expectation(lambda y: -np.logaddexp(0, -y), d, t)
        return binary_expectation(lambda y: (-np.logaddexp(0, -y) - mean) ** 2, d, t)

    distribution = log_law(backend, t, np.stack([0 * d, d], -1), dtype)
    expected = np.vectorize(variance)(d, t)
    np.testing.assert_allclose(backend.numpy(distribution.variance)[:, 1], expected, rtol=bound)


def derivatives(backend: Backend, f: Callable[[Any], Any]) -> Callable[[Any, Any], Any]:
    """A function from x and v to the gradient of f at x, and the Hessian times v."""
    if backend.framework == "numpyro":
        import jax

        return jax.jit(lambda x, v: jax.jvp(jax.grad(f), (x,), (v,)))
    import torch

    def both(x: Any, v: Any) -> Any:
        leaf = x.detach().clone().requires_grad_()
        (gradient,) = torch.autograd.grad(f(leaf), leaf, create_graph=True)
        return gradient, torch.autograd.grad((gradient * v).sum(), leaf)[0]

    return both


def check_derivatives(backend: Backend, f: Callable[[Any], Any], *points: np.ndarray) -> None:
    """Check gradient and Hessian against central differences, to 1e-6 and 1e-4 of the largest."""
    rng, compiled, both = np.random.default_rng(0), backend.compiled(f), derivatives(backend, f)

    def value(x: np.ndarray) -> float:
        return float(backend.numpy(compiled(backend.array(x))))

    for x in points:
        v, h = rng.normal(size=x.shape), 1e-4
        found = both(backend.array(x), backend.array(v))
        gradient, second = (backend.numpy(y) for y in found)
        slopes = np.array([(value(x + e) - value(x - e)) / (2 * h) for e in np.eye(x.size) * h])
        np.testing.assert_allclose(gradient, slopes, atol=1e-6 * abs(slopes).max())
        steps = [value(x + h * v), value(x), value(x - h * v)]
        curve = (steps[0] - 2 * steps[1] + steps[2]) / h**2
        np.testing.assert_allclose((second * v).sum(), curve, atol=1e-4 * max(1, abs(curve)))


def test_k6_derivatives_of_log_moments(backend: Backend) -> None:
    """First and second derivatives by logits and temperature are right, on both sides of 1."""
    logits = np.array([0.3, -0.8, 1.1])
    weights = [backend.array(w) for w in np.random.default_rng(1).normal(size=(2, 3))]

    def total(x: Any) -> Any:
        distribution = backend.names.ExpRelaxedOneHotCategorical(x[3], logits=x[:3])
        return (distribution.mean * weights[0] + distribution.variance * weights[1]).sum()

    check_derivatives(backend, total, *(np.append(logits, t) for t in (0.7, 1.6)))


# Tests of subsets, by enumeration.


def masses(k: int, logits: np.ndarray) -> dict[tuple[int, ...], float]:
    """The probability of each subset: the sum over the orders in which it may be drawn."""
    weights = np.exp(logits - logits.max())
    found: dict[tuple[int, ...], float] = {}
    for order in itertools.permutations(np.flatnonzero(weights), k):
        left, mass = weights.copy(), 1.0
        for i in order:
            mass *= left[i] / left.sum()
            left[i] = 0
        members = tuple(sorted(order))
        found[members] = found.get(members, 0.0) + mass
    return found


def brute(k: int, logits: np.ndarray) -> tuple[np.ndarray, float]:
    """The inclusion probabilities and the entropy of a subset, by enumeration."""
    each = masses(k, logits)
    inclusion = np.zeros(len(logits))
    for members, mass in each.items():
        inclusion[list(members)] += mass
    return inclusion, -sum(mass * np.log(mass) for mass in each.values())


@pytest.mark.share("dtype")
@DTYPES
@pytest.mark.parametrize("k", [1, 2, 4])
def test_k6_moments_and_entropy_of_subsets(
    backend: Backend, k: int, dtype: str, bound: float
) -> None:
    """Moments and entropy agree with enumeration; probs as the mean would be off by 0.2."""
    rng = np.random.default_rng(k)
    logits = (rng.normal(size=(4, 6)) * np.array([[0.1], [1.0], [5.0], [20.0]])).astype(dtype)
    logits[1, 2] = logits[2, :2] = -INF
    inclusion, entropy = zip(*(brute(k, row.astype(float)) for row in logits), strict=True)
    distribution = backend.names.Subset(k, logits=backend.array(logits, dtype))
    p = np.array(inclusion)
    np.testing.assert_allclose(backend.numpy(distribution.mean), p, atol=bound)
    np.testing.assert_allclose(backend.numpy(distribution.variance), p * (1 - p), atol=bound)
    np.testing.assert_allclose(backend.numpy(distribution.entropy()), entropy, atol=10 * bound)
    hard = backend.names.RelaxedSubset(0.5, k, logits=backend.array(logits, dtype), hard=True)
    np.testing.assert_array_equal(backend.numpy(hard.mean), backend.numpy(distribution.mean))
    np.testing.assert_array_equal(
        backend.numpy(hard.variance), backend.numpy(distribution.variance)
    )
    if k > 1:
        assert abs(backend.numpy(distribution.probs) * k - p).max() > 0.2


def test_k6_the_subset_of_the_report(backend: Backend) -> None:
    """A known example, and a subset of all unmasked categories, which is certain."""
    distribution = backend.names.Subset(2, logits=backend.array([2.0, 0.0, 0.0, -1.0]))
    expected = [0.960, 0.438, 0.438, 0.164]
    np.testing.assert_allclose(backend.numpy(distribution.mean), expected, atol=5e-4)
    full = backend.names.Subset(2, logits=backend.array([2.0, -INF, 0.0, -INF]))
    np.testing.assert_array_equal(backend.numpy(full.mean), [1, 0, 1, 0])
    np.testing.assert_array_equal(backend.numpy(full.entropy()), 0)


def test_k6_means_of_large_subsets(backend: Backend) -> None:
    """Means of 60 of 90 sum to 60, and are 2/3 for equal logits, with nodes in several blocks."""
    rng = np.random.default_rng(0)
    rows = np.stack([np.zeros(90), rng.normal(0, 3, 90)])
    mean = backend.numpy(backend.names.Subset(60, logits=backend.array(rows)).mean)
    np.testing.assert_allclose(mean[0], 2 / 3, rtol=1e-10)
    np.testing.assert_allclose(mean.sum(-1), 60, rtol=1e-10)


def test_k6_derivatives_of_subsets(backend: Backend) -> None:
    """Derivatives of mean, variance and entropy are right, and 0 at a masked category."""
    weights = [backend.array(w) for w in np.random.default_rng(1).normal(size=(2, 4))]

    def total(x: Any) -> Any:
        distribution = backend.names.Subset(2, logits=x)
        return (
            distribution.mean * weights[0] + distribution.variance * weights[1]
        ).sum() + distribution.entropy()

    check_derivatives(backend, total, np.array([0.3, -0.8, 1.4, 0.1]))
    masked = backend.array([0.3, -INF, 1.4, 0.1])
    (gradient,) = backend.grad(backend.compiled(total), masked)
    assert np.isfinite(gradient).all()
    assert gradient[1] == 0


@pytest.mark.parametrize("guide", ["AutoNormalMessenger", "AutoHierarchicalNormalMessenger"])
def test_k7_messengers_run_on_a_relaxed_model(backend: Backend, guide: str, seed: int) -> None:
    """Pyro's guides that start from prior means run, and the loss falls."""
    if backend.framework != "pyro":
        pytest.skip("NumPyro has no such guides")
    pyro = importlib.import_module("pyro")
    torch = importlib.import_module("torch")
    autoguide = importlib.import_module("pyro.infer.autoguide")
    names, means = backend.names, torch.tensor([-2.0, 0.0, 2.0])

    def model(x: Any) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", names.OneHotCategorical(probs=torch.ones(3)))
            pyro.sample("x", pyro.distributions.Normal(z @ means, 0.7), obs=x)

    pyro.set_rng_seed(seed)
    relaxed = names.relax(model, 0.5)
    adam, elbo = pyro.optim.Adam({"lr": 0.05}), pyro.infer.Trace_ELBO()
    svi = pyro.infer.SVI(relaxed, getattr(autoguide, guide)(relaxed), adam, elbo)
    losses = [svi.step(torch.tensor([-2.0, 0.0, 2.0])) for _ in range(150)]
    assert np.isfinite(losses).all()
    assert np.mean(losses[-30:]) < np.mean(losses[:10]) - 3
