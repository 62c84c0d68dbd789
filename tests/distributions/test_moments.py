"""Exact mean, variance, entropy, cdf, icdf and mode, against integrals done another way.

The larger grids run in float64 in one framework and in float32 in the other; --whole runs all.
"""

import mpmath
import numpy as np
import pytest
from scipy import special, stats

from harness import Backend
from quadratures import binary_expectation, grouped_moments, log_density, over_plane, plane

TEMPERATURES = [1e-3, 0.01, 0.1, 0.5, 2 / 3, 1.0, 10.0]
DTYPES = [("float64", 1e-10), ("float32", 1e-6)]
dtypes = pytest.mark.parametrize(("dtype", "bound"), DTYPES)


def distribution(
    backend: Backend, name: str, t: object, logits: object, dtype: str = "float64"
) -> object:
    """The distribution of a class's name."""
    return getattr(backend.names, name)(
        backend.array(t, dtype), logits=backend.array(logits, dtype)
    )


@pytest.mark.share
@dtypes
def test_binary_moments(backend: Backend, dtype: str, bound: float) -> None:
    """Binary moments agree with sums over the logistic density and with two categories."""
    d, t = np.array([0.0, 0.5, -3.0, 20.0, -50.0]), np.array(TEMPERATURES)[:, None]
    d, t = np.broadcast_arrays(d.astype(dtype), t.astype(dtype))
    mean = np.vectorize(lambda d, t: binary_expectation(special.expit, d, t))(d, t)
    square = np.vectorize(lambda d, t: binary_expectation(lambda y: special.expit(y) ** 2, d, t))(
        d, t
    )

    def moments(t: object, d: object, rows: object) -> tuple[object, ...]:
        binary = backend.names.RelaxedBernoulli(t, logits=d)
        two = backend.names.RelaxedOneHotCategorical(t, logits=rows)
        return binary.mean, two.mean[..., 0], binary.variance, two.variance[..., 1]

    arrays = (backend.array(x, dtype) for x in (t, d, np.stack([d, 0 * d], -1)))
    ours = [backend.numpy(x) for x in backend.compiled(moments)(*arrays)]
    for found in ours[:2]:
        np.testing.assert_allclose(found, mean, rtol=0, atol=bound)
    for found in ours[2:]:
        np.testing.assert_allclose(found, square - mean**2, rtol=0, atol=bound)


@pytest.mark.parametrize("t", [0.5, 1.0, 2.5])
def test_moments_and_entropy_of_three_categories(backend: Backend, t: float) -> None:
    """Moments agree with integrals over the plane of log ratios, to 1e-9; softmax doesn't."""
    logits = np.array([0.5, -1.0, 0.2])
    axis, y = plane(t)
    log_q = log_density(logits, t, y)
    mean = [over_plane(axis, np.exp(log_q + y[..., k])) for k in range(3)]
    square = [over_plane(axis, np.exp(log_q + 2 * y[..., k])) for k in range(3)]
    three = distribution(backend, "RelaxedOneHotCategorical", t, logits)
    np.testing.assert_allclose(backend.numpy(three.mean), mean, atol=1e-9)
    np.testing.assert_allclose(backend.numpy(three.variance), square - np.square(mean), atol=1e-9)
    assert abs(special.softmax(logits) - mean).max() > (0.02 if t > 0.5 else 0.005)
    entropy = over_plane(axis, np.exp(log_q) * (y.sum(-1) - log_q))
    np.testing.assert_allclose(backend.numpy(three.entropy()), entropy, rtol=1e-7)
    hard = distribution(backend, "RelaxedOneHotCategoricalStraightThrough", t, logits)
    np.testing.assert_allclose(backend.numpy(hard.entropy()), entropy, rtol=1e-7)


@pytest.mark.share
@dtypes
def test_moments_of_many_categories(backend: Backend, dtype: str, bound: float) -> None:
    """The moments of 1,000 categories in three groups agree with sums over a fine grid.

    The sums have the temperature before its rounding to the dtype, of 6e-8 at most.
    """
    counts, values = np.array([1, 299, 700]), np.array([7.0, 2.0, 0.0])
    logits, first = np.repeat(values, counts), np.array([0, 1, 300])
    t = np.array(TEMPERATURES).astype(dtype)
    many = distribution(backend, "RelaxedOneHotCategorical", t, np.tile(logits, (len(t), 1)), dtype)
    expected = np.stack([grouped_moments(tuple(values), tuple(counts), x) for x in TEMPERATURES])
    mean, square = expected[..., 0], expected[..., 1]
    np.testing.assert_allclose(backend.numpy(many.mean)[:, first], mean, rtol=0, atol=bound)
    variance = backend.numpy(many.variance)[:, first]
    np.testing.assert_allclose(variance, square - mean**2, rtol=0, atol=bound)
    np.testing.assert_allclose(backend.numpy(many.mean).sum(-1), 1, atol=1e-5)


@pytest.mark.parametrize("t", [0.5, 10.0])
def test_variance_at_one_temperature(backend: Backend, t: float) -> None:
    """It has a formula of its own. In float32 it is 0, to 1e-6, where one category is sure."""
    for logits in ([0.0], [200.0, 0.0, 1.0]):
        sure = distribution(backend, "RelaxedOneHotCategorical", t, logits, "float32")
        np.testing.assert_allclose(backend.numpy(sure.variance), 0, atol=1e-6)


def test_binary_entropy(backend: Backend) -> None:
    """The entropy agrees with a sum of -log q, to a relative 1e-9."""
    d, t = np.broadcast_arrays([0.0, 0.5, -3.0], np.array([[0.1], [0.5], [1.0], [3.0]]))

    def surprise(d: float, t: float) -> float:
        def minus_log_q(y: float) -> float:
            s = d - t * y
            jacobian = np.logaddexp(0, y) + np.logaddexp(0, -y)
            return -(np.log(t) + s - 2 * np.logaddexp(0, s) + jacobian)

        return binary_expectation(minus_log_q, d, t)

    expected = np.vectorize(surprise)(d, t)
    ours = distribution(backend, "RelaxedBernoulli", t, d).entropy()
    np.testing.assert_allclose(backend.numpy(ours), expected, rtol=1e-9, atol=1e-9)
    uniform = distribution(backend, "RelaxedBernoulli", 1.0, 0.0)
    np.testing.assert_allclose(backend.numpy(uniform.entropy()), 0, atol=1e-10)


def test_gradients_of_the_moments(backend: Backend) -> None:
    """Gradients agree with central differences of sums over the logistic density, to 1e-6."""
    d, t, h = 0.7, 0.6, 1e-4

    def total(d: float, t: float) -> float:
        mean = binary_expectation(special.expit, d, t)
        return mean + 3 * (binary_expectation(lambda y: special.expit(y) ** 2, d, t) - mean**2)

    def ours(logits: object, t: object) -> object:
        made = backend.names.RelaxedBernoulli(t, logits=logits)
        return made.mean + 3 * made.variance

    expected = [
        (total(d + h, t) - total(d - h, t)) / (2 * h),
        (total(d, t + h) - total(d, t - h)) / (2 * h),
    ]
    gradients = backend.grad(backend.compiled(ours), backend.array(d), backend.array(t))
    np.testing.assert_allclose(gradients, expected, atol=1e-6)


def test_cdf_in_both_tails(backend: Backend) -> None:
    """The cdf agrees with mpmath to a relative 1e-13, down to 1e-200, where 1 - (1 - cdf) is 0."""
    y, d, t = np.array([-900.0, -40.0, 0.3, 5.0]), 0.4, 0.5
    with mpmath.workdps(50):
        expected = [float(1 / (1 + mpmath.exp(-(mpmath.mpf(t) * x - mpmath.mpf(d))))) for x in y]
    made = distribution(backend, "LogitRelaxedBernoulli", t, d)
    np.testing.assert_allclose(backend.numpy(made.cdf(backend.array(y))), expected, rtol=1e-13)
    view = distribution(backend, "RelaxedBernoulli", t, d)
    x = np.array([1e-300, 1e-20, 0.3, 1 - 1e-12])
    logits = [float(mpmath.log(v) - mpmath.log1p(-v)) for v in map(mpmath.mpf, x)]
    expected = stats.logistic.cdf(t * np.array(logits) - d)
    np.testing.assert_allclose(backend.numpy(view.cdf(backend.array(x))), expected, rtol=1e-12)


def test_icdf_in_both_tails(backend: Backend) -> None:
    """icdf agrees with mpmath, is the inverse of the cdf, and is infinite at 0 and 1."""
    q, d, t = np.array([1e-300, 1e-9, 0.4, 1 - 1e-12]), 0.4, 0.5
    with mpmath.workdps(50):
        expected = [float((d + mpmath.log(v) - mpmath.log1p(-v)) / t) for v in map(mpmath.mpf, q)]
    made = distribution(backend, "LogitRelaxedBernoulli", t, d)
    np.testing.assert_allclose(
        backend.numpy(made.icdf(backend.array(q))), expected, rtol=1e-13, atol=1e-13
    )
    np.testing.assert_array_equal(
        backend.numpy(made.icdf(backend.array([0.0, 1.0]))), [-np.inf, np.inf]
    )
    view = distribution(backend, "RelaxedBernoulli", t, d)
    quantile = view.icdf(backend.array(q))
    np.testing.assert_allclose(backend.numpy(quantile), special.expit(expected), rtol=1e-12)
    np.testing.assert_allclose(backend.numpy(view.cdf(quantile)), q, rtol=1e-12)  # by its logit
    assert np.isfinite(backend.numpy(view.log_prob(quantile))).all()
    with pytest.raises(ValueError, match=r"icdf got .* expected probabilities from 0 to 1. Apply"):
        made.icdf(backend.array(1.5))


def test_logistic_moments_and_modes(backend: Backend) -> None:
    """Moments are the closed forms; a mode has a higher density than values near it."""
    made = distribution(backend, "LogitRelaxedBernoulli", 0.5, [0.4, -2.0])
    np.testing.assert_allclose(backend.numpy(made.mean), [0.8, -4.0], rtol=1e-12)
    np.testing.assert_allclose(backend.numpy(made.variance), stats.logistic.var() * 4, rtol=1e-12)
    np.testing.assert_allclose(backend.numpy(made.mode), [0.8, -4.0], rtol=1e-12)
    logits, rng = np.array([0.5, -1.0, 0.2]), np.random.default_rng(0)
    rows = distribution(backend, "ExpRelaxedOneHotCategorical", 0.5, logits)
    mode = backend.numpy(rows.mode)
    near = special.log_softmax(mode + 0.1 * rng.normal(size=(200, 3)), -1)
    highest = backend.numpy(rows.log_prob(backend.array(mode)))
    assert (backend.numpy(rows.log_prob(backend.array(near))) < highest).all()


def test_there_is_no_mode_on_the_simplex(backend: Backend) -> None:
    """The error says why: the density is unbounded at a corner, as its growth here shows."""
    made = distribution(backend, "RelaxedOneHotCategorical", 0.5, np.zeros(3))
    corner = np.array([[1 - 2 * x, x, x] for x in (1e-10, 1e-20, 1e-30)])
    density = backend.numpy(made.log_prob(backend.array(corner)))
    assert (np.diff(density) > 20).all()
    with pytest.raises(NotImplementedError, match=r"below temperature K - 1.*Use .discrete.mode"):
        _ = made.mode
    with pytest.raises(NotImplementedError, match=r"below temperature 1, .*at 0 or 1"):
        _ = distribution(backend, "RelaxedBernoulli", 0.5, 0.0).mode


def test_straight_through_values_have_the_discrete_moments(backend: Backend) -> None:
    """Mean, variance and mode are those of the hard value; cdf and icdf raise."""
    hard = distribution(
        backend, "RelaxedOneHotCategoricalStraightThrough", 0.5, np.log([0.5, 0.2, 0.3])
    )
    np.testing.assert_allclose(backend.numpy(hard.mean), [0.5, 0.2, 0.3], rtol=1e-12)
    np.testing.assert_allclose(backend.numpy(hard.variance), [0.25, 0.16, 0.21], rtol=1e-12)
    np.testing.assert_array_equal(backend.numpy(hard.mode), [1, 0, 0])
    bit = distribution(backend, "RelaxedBernoulliStraightThrough", 0.5, special.logit(0.2))
    np.testing.assert_allclose(backend.numpy(bit.mean), 0.2, rtol=1e-12)
    np.testing.assert_allclose(backend.numpy(bit.variance), 0.16, rtol=1e-12)
    assert backend.numpy(bit.mode) == 0
    for asked in (bit.cdf, bit.icdf):
        with pytest.raises(NotImplementedError, match=r"has no cdf: .* Use RelaxedBernoulli for"):
            asked(backend.array(1.0))
