"""Draws: shapes, laws of the samples, gradients.

Statistical tests: false-alarm rate 1e-4 each (fixed seeds by default), with the error that is
still seen shown by a wrong sampler which the same test rejects.
"""

import numpy as np
import pytest
from scipy import stats

from cases import CASES, DISCRETE, RELAXED, Case, parameters
from harness import Backend

ALARM = 1e-4
cases = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
relaxed = pytest.mark.parametrize("name", RELAXED)


def make(backend: Backend, name: str, t: object, logits: object) -> object:
    """A law from NumPy parameters."""
    return getattr(backend.names, name)(backend.array(t), logits=backend.array(logits))


@relaxed
@pytest.mark.parametrize(
    ("temperature", "batch", "joint"),
    [((), (), ()), ((), (3,), (3,)), ((3,), (3,), (3,)), ((2, 1), (3,), (2, 3)), ((4,), (), (4,))],
)
def test_shapes(
    backend: Backend, name: str, temperature: tuple, batch: tuple, joint: tuple
) -> None:
    """Temperature and logits broadcast over the batch, never over the event."""
    rows, rng = "OneHot" in name, np.random.default_rng(0)
    law = make(backend, name, np.full(temperature, 0.5), parameters(rng, rows, 5, batch))
    event = (5,) if rows else ()
    assert tuple(law.batch_shape) == joint
    assert tuple(law.event_shape) == event
    value = backend.draw(law, 0, (6,))
    assert tuple(value.shape) == (6, *joint, *event)
    assert tuple(law.log_prob(value).shape) == (6, *joint)
    assert law.has_rsample
    assert tuple(law.discrete.batch_shape) == joint
    expanded = law.expand((2, *joint))
    assert type(expanded) is type(law)
    assert tuple(expanded.batch_shape) == (2, *joint)
    assert tuple(expanded.log_prob(backend.draw(expanded, 0)).shape) == (2, *joint)
    event_law = expanded.to_event(1)
    assert tuple(event_law.event_shape) == (2, *joint, *event)[len(joint) :]
    masked = expanded.mask(backend.array(np.zeros((2, *joint))) > 0)
    assert (backend.numpy(masked.log_prob(backend.draw(masked, 0))) == 0).all()


def test_a_temperature_a_row(backend: Backend) -> None:
    """Temperature (3,) with logits (3, K) is three laws side by side."""
    logits, t = np.random.default_rng(0).normal(size=(3, 4)), [0.2, 1.0, 5.0]
    value = np.random.default_rng(1).dirichlet(np.ones(4), 3)
    together = make(backend, "RelaxedOneHotCategorical", t, logits).log_prob(backend.array(value))
    for row in range(3):
        alone = make(backend, "RelaxedOneHotCategorical", t[row], logits[row])
        expected = backend.numpy(alone.log_prob(backend.array(value[row])))
        np.testing.assert_allclose(backend.numpy(together)[row], expected, rtol=1e-12)


def first_at(scores: np.ndarray) -> np.ndarray:
    """How often each category comes first."""
    return np.bincount(scores.argmax(-1), minlength=scores.shape[-1])


def test_gumbel_max_trick(backend: Backend, seed: int) -> None:
    """Weights 1, 2, 3 come first with frequencies 1/6, 2/6, 3/6; the tempting imitation does not.

    60,000 draws: a frequency off by 0.01 is rejected almost surely.
    """
    weights, n = np.array([1.0, 2.0, 3.0]), 60_000
    expected = n * weights / 6
    for name in ("RelaxedOneHotCategorical", "RelaxedOneHotCategoricalStraightThrough"):
        law = getattr(backend.names, name)(0.5, probs=backend.array(weights))
        counts = first_at(backend.numpy(backend.draw(law, seed, (n,))))
        assert stats.chisquare(counts, expected).pvalue > ALARM
    exact = backend.names.OneHotCategorical(logits=backend.array(np.log(weights)))
    counts = first_at(backend.numpy(backend.draw(exact, seed, (n,))))
    assert stats.chisquare(counts, expected).pvalue > ALARM
    imitation = first_at(np.random.default_rng(seed).uniform(0, weights, (n, 3)))
    assert stats.chisquare(imitation, expected).pvalue < 1e-12


@relaxed
def test_rounding_a_draw_gives_the_discrete_law(backend: Backend, name: str, seed: int) -> None:
    """The argmax (or the half) of a draw has the law of .discrete, at low and high temperature."""
    rng, n, rows = np.random.default_rng(seed), 40_000, "OneHot" in name
    logits = parameters(rng, rows, 5, ())
    for t in (0.05, 2.0):
        law = make(backend, name, t, logits)
        draws = backend.numpy(backend.draw(law, seed, (n,)))
        if name == "LogitRelaxedBernoulli":
            draws = draws + 0.5
        first = draws if rows else np.stack([1 - draws, draws], -1)
        p = np.exp(logits) / np.exp(logits).sum() if rows else 1 / (1 + np.exp(-logits))
        expected = n * (p if rows else np.array([1 - p, p]))
        assert stats.chisquare(first_at(first), expected).pvalue > ALARM


@cases
def test_marginals_follow_their_exact_cdf(backend: Backend, case: Case, seed: int) -> None:
    """Log ratios (or logits) of draws are logistic of location l/t and scale 1/t.

    Kolmogorov-Smirnov with 100,000 draws: a temperature 5 % off is rejected.
    """
    n, t = 100_000, 0.5
    logits = np.array([0.4, -0.7, 1.1]) if case.rows else np.array(0.8)
    law = make(backend, case.name, t, logits)
    draws = case.to_log(backend.numpy(backend.draw(law, seed, (n,))))
    spread = draws[:, 0] - draws[:, 1] if case.rows else draws
    location = logits[0] - logits[1] if case.rows else logits
    assert stats.kstest(spread, stats.logistic(location / t, 1 / t).cdf).pvalue > ALARM
    wrong = stats.logistic(location / (1.05 * t), 1 / (1.05 * t))
    assert stats.kstest(spread, wrong.cdf).pvalue < ALARM


@cases
def test_gradient_of_a_draw(backend: Backend, case: Case) -> None:
    """Against central differences with the noise held fixed, to 1e-6."""
    rng, h = np.random.default_rng(0), 1e-5
    logits, t = parameters(rng, case.rows, 4, (3,)), np.array([0.5, 1.0, 2.0])
    weights = rng.normal(size=(3, 4) if case.rows else (3,))

    def f(logits: object, t: object) -> object:
        value = backend.draw(getattr(backend.names, case.name)(t, logits=logits), 7)
        return (value * backend.array(weights)).sum()

    def at(logits: np.ndarray, t: np.ndarray) -> float:
        return float(backend.numpy(f(backend.array(logits), backend.array(t))))

    gradients = backend.grad(f, backend.array(logits), backend.array(t))
    for place, gradient in enumerate(gradients):
        for index in np.ndindex(gradient.shape):
            low, high = [logits.copy(), t.copy()], [logits.copy(), t.copy()]
            low[place][index] -= h
            high[place][index] += h
            difference = (at(*high) - at(*low)) / (2 * h)
            np.testing.assert_allclose(gradient[index], difference, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("case", [CASES[1], CASES[3]], ids=lambda case: case.straight_through)
def test_straight_through_gradient_is_the_relaxed_one(backend: Backend, case: Case) -> None:
    """The same noise: the value is the rounding, the gradient that of the relaxed value."""
    rng = np.random.default_rng(0)
    logits, t = parameters(rng, case.rows, 4, (50,)), np.array(0.5)
    weights = backend.array(rng.normal(size=(50, 4) if case.rows else (50,)))

    def through(name: str) -> list[np.ndarray]:
        def f(logits: object, t: object) -> object:
            law = getattr(backend.names, name)(t, logits=logits)
            return (backend.draw(law, 3) * weights).sum()

        return backend.grad(f, backend.array(logits), backend.array(t))

    for ours, expected in zip(through(case.straight_through), through(case.name), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-12)
    hard, soft = (
        backend.numpy(backend.draw(make(backend, name, t, logits), 3))
        for name in (case.straight_through, case.name)
    )
    rounded = np.eye(4)[soft.argmax(-1)] if case.rows else (soft > 0.5).astype(float)
    np.testing.assert_array_equal(hard, rounded)


@pytest.mark.parametrize("rows", [True, False])
def test_estimators_of_the_discrete_law(backend: Backend, rows: bool) -> None:
    """StraightThrough has the gradient of probs; GumbelSoftmax that of its soft value."""
    names, rng = backend.names, np.random.default_rng(0)
    cls = names.OneHotCategorical if rows else names.Bernoulli
    soft_cls = names.RelaxedOneHotCategorical if rows else names.RelaxedBernoulli
    logits = backend.array(parameters(rng, rows, 4, (20,)))
    weights = backend.array(rng.normal(size=(20, 4) if rows else (20,)))

    def gradient(law: object) -> np.ndarray:
        return backend.grad(lambda x: (backend.draw(law(x), 5) * weights).sum(), logits)[0]

    def exact(logits: object) -> object:
        return (cls(logits=logits).probs * weights).sum()

    through = gradient(lambda x: cls(logits=x, estimator=names.StraightThrough()))
    np.testing.assert_allclose(through, backend.grad(exact, logits)[0], rtol=1e-10)
    soft = gradient(lambda x: soft_cls(0.5, logits=x))
    for hard in (True, False):
        estimator = names.GumbelSoftmax(0.5, hard=hard)
        ours = gradient(lambda x, e=estimator: cls(logits=x, estimator=e))
        np.testing.assert_allclose(ours, soft, rtol=1e-10)
        value = backend.draw(cls(logits=logits, estimator=estimator), 5)
        numbers = backend.numpy(value)
        assert (((numbers == 0) | (numbers == 1)).all()) == hard
        p = backend.numpy(cls(logits=logits).probs)
        log_p = np.log(p) if rows else np.stack([np.log1p(-p), np.log(p)], -1)
        both = numbers if rows else np.stack([1 - numbers, numbers], -1)
        plain = backend.numpy(cls(logits=logits).log_prob(value))
        np.testing.assert_allclose(plain, (both * log_p).sum(-1), rtol=1e-10)


@pytest.mark.parametrize("name", RELAXED)
def test_own_draws_at_temperature_one_hundredth(backend: Backend, name: str) -> None:
    """100,000 float32 draws, K = 10, validation on: density and gradients finite, none rejected."""
    logits = np.random.default_rng(0).normal(size=(100_000, 10) if "OneHot" in name else 100_000)

    def f(logits: object, t: object) -> object:
        law = getattr(backend.names, name)(t, logits=logits, validate_args=True)
        value = backend.draw(law, 0)
        return law.log_prob(value).sum() + value.sum()

    t, logits = backend.array(0.01, "float32"), backend.array(logits, "float32")
    assert all(np.isfinite(g).all() for g in backend.grad(f, logits, t))
    law = getattr(backend.names, name)(t, logits=logits, validate_args=True)
    value = backend.draw(law, 0)
    assert np.isfinite(backend.numpy(law.log_prob(value))).all()
    assert str(value.dtype).endswith("float32")


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("name", RELAXED + DISCRETE)
def test_dtypes(backend: Backend, name: str, dtype: str) -> None:
    """Values have the logits' dtype, densities and entropies float32 or better; all are finite.

    A temperature that is a Python number is not rounded to a half.
    """
    logits = backend.array(np.random.default_rng(0).normal(size=(100, 8)), dtype)
    law = getattr(backend.names, name)(*(0.3,) * (name in RELAXED), logits=logits)
    value = backend.draw(law, 0)
    density = law.log_prob(value)
    computed = "float64" if dtype == "float64" else "float32"
    assert str(value.dtype).endswith(dtype)
    assert str(density.dtype).endswith(computed)
    assert np.isfinite(backend.numpy(density)).all()
    if name in RELAXED:
        assert abs(backend.numpy(law.temperature) - 0.3).max() < 1e-7
    else:
        assert str(law.entropy().dtype).endswith(computed)
        assert np.isfinite(backend.kl(law, law)).all()


@pytest.mark.parametrize("name", ["ExpRelaxedOneHotCategorical", "LogitRelaxedBernoulli"])
def test_float16_draws_stay_in_range(backend: Backend, name: str) -> None:
    """At temperature 2e-5 they pass 65,504, and stop there; a masked category stays at -inf."""
    shape = (100, 8) if "OneHot" in name else (100,)
    logits = np.random.default_rng(0).normal(size=shape)
    cls = getattr(backend.names, name)
    law = cls(backend.array(2e-5, "float16"), logits=backend.array(logits, "float16"))
    value = backend.numpy(backend.draw(law, 0))
    assert abs(value).max() == 65504
    assert np.isfinite(backend.numpy(law.log_prob(backend.array(value, "float16")))).all()
    logits[0] = -np.inf
    logits.flat[0] = 0.0
    edge = backend.numpy(backend.draw(cls(2e-5, logits=backend.array(logits, "float16")), 0))
    assert (edge[0] == -np.inf).sum() == (7 if "OneHot" in name else 0)


def test_functional_layer(backend: Backend) -> None:
    """gumbel_softmax is on the simplex, soft or hard; straight_through is the hard value."""
    names, logits = backend.names, backend.array(np.zeros((5, 3)))
    key = {}
    if backend.framework == "numpyro":
        import jax

        key = {"key": jax.random.key(0)}
    soft = backend.numpy(names.gumbel_softmax(logits, 0.5, **key))
    hard = backend.numpy(names.gumbel_softmax(logits, 0.5, hard=True, **key))
    np.testing.assert_allclose(soft.sum(-1), 1, rtol=1e-12)
    assert ((hard == 0) | (hard == 1)).all()
    assert (hard.sum(-1) == 1).all()
    big = np.array([1.0, 0.0])
    through = names.straight_through(backend.array(big), backend.array([1 / 3, 2 / 3]))
    np.testing.assert_array_equal(backend.numpy(through), big)
