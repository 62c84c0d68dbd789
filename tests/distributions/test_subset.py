"""Subsets of k categories: relaxed values, the exact mass of discrete subsets, and their draws."""

import itertools
import math
from typing import Any

import mpmath
import numpy as np
import pytest
from scipy import special, stats

from harness import Backend, one_graph
from subsets import drawn, k_hot, orders

ALARM = 1e-4
RNG = np.random.default_rng


def rounds(scores: np.ndarray, t: float, k: int) -> np.ndarray:
    """Xie and Ermon (2019), algorithm 1, as printed, in extended precision."""
    scores, value = scores.astype(np.longdouble), 0.0
    for _ in range(k):
        a = special.softmax(scores / t, -1)
        value, scores = value + a, scores + np.log1p(-a)
    return value


def relaxed(backend: Backend, t: float, k: int, logits: np.ndarray, **given: Any) -> Any:
    """The relaxed distribution in float64."""
    return backend.names.RelaxedSubset(t, k, logits=backend.array(logits), **given)


@pytest.mark.parametrize("t", [0.3, 4.0])
def test_the_value_is_the_papers(backend: Backend, t: float, seed: int) -> None:
    """Values are the paper's algorithm 1 of the noise: not negative, with sum k."""
    logits, k = RNG(seed).normal(0, 2, (7, 6)), 3
    value = drawn(backend, relaxed(backend, t, k, logits), seed)
    scores = logits + backend.numpy(backend.noise(True, seed, (7, 6)))
    np.testing.assert_allclose(value, rounds(scores, t, k), rtol=1e-9, atol=1e-13)
    np.testing.assert_allclose(value.sum(-1), k, rtol=1e-14)
    assert (value >= 0).all()


def test_an_entry_may_exceed_one(backend: Backend, seed: int) -> None:
    """As documented, an entry may exceed one, here that of an almost certain category.

    After the first softmax it has as much weight as all others together. At temperature 1 the
    second softmax then adds about a half to its entry.
    """
    logits = np.tile([0.0, -30, -30, -30, -30, -30], (7, 1))
    value = drawn(backend, relaxed(backend, 1.0, 3, logits), seed)
    assert (value[:, 0] > 1.49).all()


def test_cold_and_hard_values_are_the_largest_scores(backend: Backend, seed: int) -> None:
    """Values at temperature 1e-4 are k-hot to 1e-6, hard ones exactly, with the soft gradient."""
    logits, k = RNG(seed).normal(0, 2, (7, 6)), 3
    top = k_hot(logits + backend.numpy(backend.noise(True, seed, (7, 6))), k)
    hard = relaxed(backend, 0.7, k, logits, hard=True)
    np.testing.assert_array_equal(drawn(backend, hard, seed), top)
    np.testing.assert_array_equal(drawn(backend, hard.discrete, seed), top)
    cold = drawn(backend, relaxed(backend, 1e-4, k, logits), seed)
    np.testing.assert_allclose(cold, top, atol=1e-6)
    weights = backend.array(RNG(1).normal(size=6))

    def total(x: Any, hard: bool) -> Any:
        distribution = backend.names.RelaxedSubset(0.7, k, logits=x, hard=hard)
        return (weights * backend.draw(distribution, seed)).sum()

    soft, through = (
        backend.grad(backend.compiled(lambda x, hard=hard: total(x, hard)), backend.array(logits))[
            0
        ]
        for hard in (False, True)
    )
    np.testing.assert_allclose(through, soft, rtol=1e-12)
    assert abs(soft).max() > 1e-3


def test_one_category_is_the_concrete_law(backend: Backend, seed: int) -> None:
    """With k=1 values are RelaxedOneHotCategorical's, and masses OneHotCategorical's."""
    logits = backend.array(RNG(seed).normal(0, 2, (7, 6)))
    ours = drawn(backend, backend.names.RelaxedSubset(0.5, 1, logits=logits), seed)
    known = drawn(backend, backend.names.RelaxedOneHotCategorical(0.5, logits=logits), seed)
    np.testing.assert_allclose(ours, known, rtol=1e-13)
    value = backend.array(np.eye(6)[[0, 1, 2, 3, 4, 5, 0]])
    mass = backend.names.Subset(1, logits=logits).log_prob(value)
    other = backend.names.OneHotCategorical(logits=logits).log_prob(value)
    np.testing.assert_allclose(backend.numpy(mass), backend.numpy(other), rtol=1e-12)


@pytest.mark.parametrize("spread", [0.0, 1.0, 30.0, 400.0])
@pytest.mark.parametrize("k", [2, 4])
def test_mass_is_the_sum_over_orders(backend: Backend, k: int, spread: float) -> None:
    """log P is right to 1e-12, also for weights of exp(1000), and masses sum to 1."""
    logits = RNG(7).normal(0, spread, 6)
    distribution = backend.names.Subset(k, logits=backend.array(logits))
    values = distribution.enumerate_support()
    masses = backend.numpy(distribution.log_prob(values))
    expected = [
        float(mpmath.log(orders(logits, np.flatnonzero(value)))) for value in backend.numpy(values)
    ]
    assert len(expected) == math.comb(6, k)
    np.testing.assert_allclose(masses, expected, rtol=1e-12, atol=1e-12)
    assert abs(np.exp(masses).sum() - 1) < 1e-12
    mode = backend.numpy(distribution.mode)
    np.testing.assert_array_equal(mode, k_hot(logits, k) if spread else mode)
    assert spread == 0 or (mode == backend.numpy(values)[np.argmax(expected)]).all()


@pytest.mark.parametrize(("k", "size"), [(30, 60), (300, 1000)])
@pytest.mark.parametrize(("dtype", "rtol"), [("float32", 2e-6), ("float64", 1e-10)])
def test_mass_of_large_subsets(
    backend: Backend, k: int, size: int, dtype: str, rtol: float
) -> None:
    """Masses are 1 / C(K, k) for equal weights, a Beta function with one heavy category outside.

    In the second case P = int exp(-x) (1 - exp(-r x))^k dx = B(1 / r, k + 1) / r.
    """
    logits = np.zeros((2, size))
    logits[1, -1] = 6.0
    distribution = backend.names.Subset(k, logits=backend.array(logits, dtype))
    found = backend.numpy(distribution.log_prob(backend.array(np.arange(size) < k, dtype)))
    whole = size - k - 1 + math.exp(6)
    beta = special.gammaln(whole) + special.gammaln(k + 1) - special.gammaln(whole + k + 1)
    equal = special.gammaln([k + 1, size - k + 1]).sum() - special.gammaln(size + 1)
    np.testing.assert_allclose(found, [equal, math.log(whole) + beta], rtol=rtol)


def frequencies(value: np.ndarray) -> np.ndarray:
    """How often each subset of 2 of 5 categories is drawn, in lexicographic order."""
    pairs = list(itertools.combinations(range(5), 2))
    return np.array([value[:, pair].prod(-1).sum() for pair in pairs])


def test_draws_follow_the_mass(backend: Backend, seed: int) -> None:
    """A chi-square test of 40,000 draws rejects probabilities off by 0.012.

    It rejects uniform noise in place of Gumbel noise, and independent coins conditioned on k heads,
    whose masses are proportional to products of weights. Hard values of the relaxed distribution,
    and the k largest entries of soft ones, follow the mass at any temperature.
    """
    n, logits = 40_000, np.array([1.0, 0.5, 0.0, -0.5, -1.5])
    distribution = backend.names.Subset(2, logits=backend.array(logits))
    values = distribution.enumerate_support()
    mass = np.exp(backend.numpy(distribution.log_prob(values)))
    right = [drawn(backend, distribution, seed, (n,))]
    hard = relaxed(backend, 1.0, 2, logits, hard=True)
    right.append(drawn(backend, hard, seed + 1, (n,)))
    cold = drawn(backend, relaxed(backend, 0.05, 2, logits), seed + 2, (n,))
    right.append(k_hot(cold, 2))
    for value in right:
        assert stats.chisquare(frequencies(value), n * mass).pvalue > ALARM
    uniform = k_hot(logits + RNG(seed).uniform(-2, 2, (n, 5)), 2)
    assert stats.chisquare(frequencies(uniform), n * mass).pvalue < 1e-12
    coins = np.exp(backend.numpy(values) @ logits)
    coins = RNG(seed).multinomial(n, coins / coins.sum())
    assert stats.chisquare(coins, n * mass).pvalue < 1e-12


def slopes(f: Any, x: np.ndarray, h: float = 1e-5) -> np.ndarray:
    """Central differences of a scalar function."""
    steps = h * np.eye(x.size).reshape(-1, *x.shape)
    return np.array([(f(x + s) - f(x - s)) / (2 * h) for s in steps]).reshape(x.shape)


def test_gradients(backend: Backend, seed: int) -> None:
    """Gradients of value and mass agree with central differences of the formulas."""
    logits, weights = RNG(seed).normal(0, 1, (7, 6)), RNG(1).normal(size=6)
    noise = backend.numpy(backend.noise(True, seed, (7, 6)))

    def value(x: Any, t: Any) -> Any:
        distribution = backend.names.RelaxedSubset(t, 3, logits=x)
        return (backend.array(weights) * backend.draw(distribution, seed)).sum()

    def formula(x: np.ndarray, t: Any) -> float:
        return float((weights * rounds(x + noise, t, 3)).sum())

    by_logits, by_t = backend.grad(value, backend.array(logits), backend.array(0.6))
    expected = slopes(lambda x: formula(x, 0.6), logits)
    np.testing.assert_allclose(by_logits, expected, rtol=1e-6, atol=1e-8)
    expected = slopes(lambda t: formula(logits, t), np.array(0.6))
    np.testing.assert_allclose(by_t, expected, rtol=1e-6)

    logits = logits[0]
    hot = backend.array([0.0, 1.0, 0.0, 1.0, 1.0, 0.0])
    log_prob = backend.compiled(lambda x: backend.names.Subset(3, logits=x).log_prob(hot))
    (mass,) = backend.grad(log_prob, backend.array(logits))
    expected = slopes(lambda x: float(mpmath.log(orders(x, [1, 3, 4]))), logits)
    np.testing.assert_allclose(mass, expected, rtol=1e-6, atol=1e-8)


def test_a_constant_changes_nothing(backend: Backend, seed: int) -> None:
    """A constant added to a row of logits, or a factor of probs, changes nothing."""
    logits, names = RNG(seed).normal(size=4), backend.names
    hot = backend.array([1.0, 0.0, 0.0, 1.0])
    distributions = [names.Subset(2, logits=backend.array(logits + c)) for c in (0, 50)]
    distributions += [names.Subset(2, probs=backend.array(7 * np.exp(logits)))]
    masses = [float(backend.numpy(distribution.log_prob(hot))) for distribution in distributions]
    np.testing.assert_allclose(masses, masses[0], rtol=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_extremes(backend: Backend, dtype: str, seed: int) -> None:
    """With extreme temperatures, logits and masks, values, masses and gradients are finite.

    Temperatures are 2^-20 and 2^20, logits up to 1e6. Gradients are computed in float32 for both
    dtypes.
    """
    k, slack = 3, {"float32": 1e-5, "bfloat16": 0.05}[dtype]
    scales = np.array([0.0, 1.0, 100.0, 1e4, 1e6])[:, None, None]
    logits = RNG(seed).normal(size=(5, 8, 6)) * scales
    logits[:, 0, :3] = -np.inf  # three unmasked categories
    logits[:, 1, :2] = -np.inf
    weights = backend.array(np.arange(6.0), "float32")
    array = backend.array(logits, dtype)

    def draw(x: Any, t: Any) -> Any:
        return backend.draw(backend.names.RelaxedSubset(t, k, logits=x), seed)

    def mass(x: Any) -> Any:
        distribution = backend.names.Subset(k, logits=x)
        return distribution.log_prob(backend.draw(distribution, seed)).sum()

    def total(x: Any, t: Any) -> Any:
        return (weights * draw(x, t)).sum()

    drawn_at, total_of, mass_of = (backend.compiled(f) for f in (draw, total, mass))
    for t in (2.0**-20, 1e-3, 0.5, 2.0**20):
        temperature = backend.array(t, "float32")
        found = backend.numpy(drawn_at(array, temperature))
        np.testing.assert_allclose(found.sum(-1), k, atol=slack)
        assert (found[logits == -np.inf] == 0).all()
        np.testing.assert_array_equal(found[:, 0], np.broadcast_to(np.arange(6) > 2, (5, 6)))
        for gradient in backend.grad(total_of, array, temperature) if dtype == "float32" else ():
            assert np.isfinite(gradient).all()
    assert np.isfinite(backend.numpy(mass_of(array)))
    assert np.isfinite(backend.grad(mass_of, array)[0]).all()


def test_masks(backend: Backend) -> None:
    """A subset with a masked category has mass 0; the others have the mass without it."""
    names, masked = backend.names, [0.3, -np.inf, 1.0, -0.4]
    distribution = names.Subset(2, logits=backend.array(masked))
    found = backend.numpy(distribution.log_prob(distribution.enumerate_support()))
    left = names.Subset(2, logits=backend.array(np.delete(masked, 1)))
    expected = backend.numpy(left.log_prob(left.enumerate_support()))
    np.testing.assert_array_equal(np.isinf(found), [True, False, False, True, True, False])
    np.testing.assert_allclose(found[[1, 2, 5]], expected, rtol=1e-12)
    whole = names.Subset(2, probs=backend.array([0.5, 0.0, 0.0, 0.5]))
    assert backend.numpy(whole.log_prob(backend.array([1.0, 0, 0, 1.0]))) == 0


def test_masks_that_can_not_be_looked_at(backend: Backend, seed: int) -> None:
    """Without validation, a row with fewer than k unmasked categories draws all of them."""
    expected = np.zeros((7, 6))
    expected[0, [1, 3]] = expected[1, 5] = 1
    logits = backend.array(np.where(expected > 0, 0.5, -np.inf))

    def distribution(x: Any) -> Any:
        return backend.names.RelaxedSubset(0.5, 3, logits=x, validate_args=False)

    for one in (distribution(logits), distribution(logits).discrete):
        np.testing.assert_array_equal(drawn(backend, one, seed), expected)
    mass = distribution(logits).discrete.log_prob(backend.array(expected))
    np.testing.assert_array_equal(backend.numpy(mass), 0)
    (gradient,) = backend.grad(lambda x: backend.draw(distribution(x), seed)[..., 1].sum(), logits)
    np.testing.assert_array_equal(gradient, 0)


@pytest.mark.parametrize("k", [0, 5, -1, 2.0, True, None, "2"])
def test_bad_sizes(backend: Backend, k: Any) -> None:
    """A k that is not a whole number from 1 to K raises."""
    logits, names = backend.array(np.zeros(4)), backend.names
    for make in (
        lambda: names.Subset(k, logits=logits),
        lambda: names.RelaxedSubset(0.5, k, logits=logits),
    ):
        with pytest.raises(ValueError, match=r"Subset got k=.* of 4 categories; .* from 1 to 4"):
            make()


def test_bad_input(backend: Backend) -> None:
    """Bad masks, temperatures and values raise, and so does the relaxed log_prob."""
    names = backend.names
    two = backend.array([-np.inf, 0.0, 0.0, -np.inf])
    with pytest.raises(ValueError, match="RelaxedSubset got a row with fewer than k=3 categories"):
        names.RelaxedSubset(0.5, 3, logits=two)
    with pytest.raises(ValueError, match="Subset got a row with fewer than k=2 categories"):
        names.Subset(2, probs=backend.array([1.0, 0.0, 0.0]))
    with pytest.raises(ValueError, match=r"RelaxedSubset got temperature=-1"):
        names.RelaxedSubset(-1.0, 2, logits=two)
    with pytest.raises(ValueError, match="both probs and logits"):
        names.Subset(2, probs=two, logits=two)
    distribution = names.Subset(2, logits=backend.array(np.zeros(4)))
    for bad in ([1.0, 0, 0, 0], [1.0, 0.5, 0.5, 0], [np.nan, 1.0, 1.0, 0], [1.0, 1.0, 1.0, -1.0]):
        with pytest.raises(ValueError, match=r"Subset.log_prob got .*; expected 2-hot vectors"):
            distribution.log_prob(backend.array(bad))
        unseen = names.Subset(2, logits=backend.array(np.zeros(4)), validate_args=False)
        assert backend.numpy(unseen.log_prob(backend.array(bad))) == -np.inf
    with pytest.raises(ValueError, match="got a value of shape"):
        distribution.log_prob(backend.array(np.zeros(3)))
    with pytest.raises(NotImplementedError, match=r"RelaxedSubset has no log_prob: .*mask\(False"):
        names.RelaxedSubset(0.5, 2, logits=backend.array(np.zeros(4))).log_prob(distribution.mode)
    with pytest.raises(NotImplementedError, match="Subset has 155117520 values; expected at most"):
        names.Subset(15, logits=backend.array(np.zeros(30))).enumerate_support()


def test_supports(backend: Backend, seed: int) -> None:
    """Supports have draws and no other vectors; only the discrete support is discrete."""
    soft = relaxed(backend, 0.5, 3, RNG(seed).normal(size=(7, 6)))
    hard = soft.discrete
    for distribution in (soft, hard):
        check = getattr(distribution.support, "check", distribution.support)
        value = backend.array(drawn(backend, distribution, seed))
        assert backend.numpy(check(value)).all()
        assert not backend.numpy(check(1.5 * value)).any()
        assert distribution.support.is_discrete == (distribution is hard)


def test_shapes(backend: Backend, seed: int) -> None:
    """Batches, samples, expand, to_event and mask work as for any distribution."""
    logits = backend.array(np.zeros((3, 4)))
    distribution = backend.names.RelaxedSubset(backend.array([[0.5], [1.0]]), 2, logits=logits)
    for made in (distribution, distribution.discrete):
        assert (made.batch_shape, made.event_shape) == ((2, 3), (4,))
        wide = made.expand((5, 2, 3)).to_event(1)
        assert (wide.batch_shape, wide.event_shape) == ((5, 2), (3, 4))
        hidden = wide.mask(False)
        value = backend.array(drawn(backend, hidden, seed, (6,)))
        assert value.shape == (6, 5, 2, 3, 4)
        np.testing.assert_array_equal(backend.numpy(hidden.log_prob(value)), np.zeros((6, 5, 2)))
    discrete = distribution.discrete.mask(backend.array([True, False, True], "bool"))
    mass = backend.compiled(lambda: discrete.log_prob(backend.draw(discrete, seed)))()
    expected = np.where([True, False, True], -math.log(6), 0.0)
    np.testing.assert_allclose(backend.numpy(mass), [expected] * 2)
    if backend.framework == "pyro":
        assert distribution.discrete.enumerate_support(expand=False).shape == (6, 1, 1, 4)
    assert distribution.discrete.enumerate_support().shape == (6, 2, 3, 4)


def test_jax_transformations() -> None:
    """jit, vmap, scan and pytrees give what the eager call gives."""
    jax = pytest.importorskip("jax")
    names = pytest.importorskip("relaxed_dists.numpyro")
    key, logits = jax.random.key(0), jax.numpy.asarray(RNG(0).normal(size=(3, 4)))

    def f(t: Any, logits: Any) -> Any:
        distribution = names.RelaxedSubset(t, 2, logits=logits, hard=True)
        value = distribution.sample(key)
        return value, distribution.discrete.log_prob(value)

    eager, ts = f(0.5, logits), jax.numpy.array([0.5, 0.5])
    scanned = jax.lax.scan(lambda c, t: (c, f(t, logits)), 0, ts)[1]
    mapped = jax.jit(jax.vmap(f, (0, None)))(ts, logits)
    for found in ([x[1] for x in y] for y in (mapped, scanned)):
        for x, y in zip(found, eager, strict=True):
            np.testing.assert_allclose(x, y, rtol=1e-5)
    distribution = names.RelaxedSubset(0.5, 2, logits=logits, hard=True)
    back = jax.tree.map(lambda x: x, distribution)
    assert (back.k, back.hard, back.batch_shape, back.discrete.k) == (2, True, (3,), 2)
    rows = jax.jit(jax.vmap(lambda d: d.sample(key)))(distribution)
    np.testing.assert_array_equal(rows.sum(-1), [2, 2, 2])
    assert distribution.support == names.RelaxedSubset(1.0, 2, logits=logits).support


@pytest.mark.filterwarnings("ignore:`torch.jit.script_method`:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:`torch.jit.script`:DeprecationWarning")
def test_torch_transformations() -> None:
    """torch.compile has no graph break, and torch.func.vmap maps draws, masses and gradients."""
    torch = pytest.importorskip("torch")
    names = pytest.importorskip("relaxed_dists.pyro")
    logits = torch.as_tensor(RNG(0).normal(size=(3, 4)))

    def f(logits: Any) -> Any:
        distribution = names.RelaxedSubset(0.5, 2, logits=logits, hard=True)
        value = distribution.rsample()
        return value, distribution.discrete.log_prob(value)

    torch.manual_seed(0)
    eager = f(logits)
    value, mass = torch.func.vmap(f, randomness="different")(logits)
    assert value.sum(-1).tolist() == [2, 2, 2]
    torch.testing.assert_close(mass, names.Subset(2, logits=logits).log_prob(value))
    slope = torch.func.grad(lambda x: names.Subset(2, logits=x).log_prob(value[0]))
    torch.testing.assert_close(
        torch.func.vmap(slope)(logits), torch.stack([slope(x) for x in logits])
    )
    torch.manual_seed(0)
    torch.testing.assert_close(one_graph(f, backend="eager")(logits), eager)
