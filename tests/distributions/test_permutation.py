"""Permutations: Sinkhorn's matrices, their limit (the best matching), and its draws."""

import itertools
from typing import Any

import numpy as np
import pytest
from scipy import special, stats

from harness import Backend, one_graph
from subsets import drawn

ALARM = 1e-4
RNG = np.random.default_rng


def matrices(n: int) -> np.ndarray:
    """All permutation matrices."""
    return np.eye(n)[list(itertools.permutations(range(n)))]


def best(scores: np.ndarray) -> np.ndarray:
    """The best matching of each matrix of scores, among all N! permutations."""
    every = matrices(scores.shape[-1])
    return every[np.einsum("pij,...ij->...p", every, scores).argmax(-1)]


def sinkhorn(scores: np.ndarray, t: float, iterations: int) -> np.ndarray:
    """Mena et al. (2018), equation 2, as printed: divisions, not logs."""
    x = np.exp((scores - scores.max()).astype(np.longdouble) / t)
    for _ in range(iterations):
        x = x / x.sum(-1, keepdims=True)
        x = x / x.sum(-2, keepdims=True)
    return x


def relaxed(backend: Backend, t: float, logits: np.ndarray, **given: Any) -> Any:
    """The relaxed distribution in float64."""
    return backend.names.RelaxedPermutation(t, logits=backend.array(logits), **given)


@pytest.mark.parametrize(("t", "iterations"), [(1.0, 20), (0.2, 20), (0.5, 1)])
def test_the_value_is_the_papers(backend: Backend, t: float, iterations: int, seed: int) -> None:
    """The value is the paper's for the same noise, in each backend."""
    logits = RNG(seed).normal(0, 2, (6, 4, 4))
    distribution = relaxed(backend, t, logits, iterations=iterations)
    value = drawn(backend, distribution, seed)
    scores = logits + backend.numpy(backend.noise(True, seed, (6, 4, 4)))
    expected = [sinkhorn(x, t, iterations) for x in scores]
    np.testing.assert_allclose(value, expected, rtol=1e-9, atol=1e-14)


def test_columns_are_exact_and_rows_converge(backend: Backend, seed: int) -> None:
    """Columns sum to 1; the rows' error in 400 draws with N = 10 is as documented."""
    logits = np.zeros((10, 10))
    errors = {}
    for t, iterations in ((1.0, 20), (0.5, 20), (0.1, 20), (0.5, 100)):
        distribution = relaxed(backend, t, logits, iterations=iterations)
        value = drawn(backend, distribution, seed, (400,))
        np.testing.assert_allclose(value.sum(-2), 1, rtol=1e-13)
        assert (value >= 0).all()
        off = abs(value.sum(-1) - 1).max(-1)
        errors[t, iterations] = np.quantile(off, 0.95)
    documented = {(1.0, 20): 2e-3, (0.5, 20): 0.04, (0.1, 20): 0.5, (0.5, 100): 5e-3}
    for case, error in errors.items():
        assert documented[case] / 3 < error < documented[case] * 3, case


@pytest.mark.parametrize("n", [4, 5])
def test_matching_is_the_best_of_all(backend: Backend, n: int, seed: int) -> None:
    """Hard value, discrete draw and mode are the best matching, with noise or without."""
    logits = RNG(seed).normal(0, 2, (6, n, n))
    expected = best(logits + backend.numpy(backend.noise(True, seed, (6, n, n))))
    hard = drawn(backend, relaxed(backend, 0.5, logits, hard=True), seed)
    np.testing.assert_array_equal(hard, expected)
    distribution = backend.names.Permutation(logits=backend.array(logits))
    np.testing.assert_array_equal(drawn(backend, distribution, seed), expected)
    np.testing.assert_array_equal(backend.numpy(distribution.mode), best(logits))


def test_cold_values_are_the_matching(backend: Backend, seed: int) -> None:
    """At temperature 0.02, after 2,000 iterations, values are within 0.02 of the best matching.

    Cases with two nearly equal matchings are left out. After 20 iterations many values are not
    that close, as documented for low temperatures.
    """
    logits = RNG(seed).normal(0, 2, (200, 3, 3))
    scores = logits + backend.numpy(backend.noise(True, seed, (200, 3, 3)))
    sums = np.sort(np.einsum("pij,nij->np", matrices(3), scores), -1)
    clear = sums[:, -1] - sums[:, -2] > 0.5
    near = []
    for iterations in (20, 2000):
        cold = drawn(backend, relaxed(backend, 0.02, logits, iterations=iterations), seed)
        near.append(abs(cold - best(scores)).max((-2, -1)) < 0.02)
    assert near[1][clear].all()
    assert clear.mean() > 0.5
    assert near[0][clear].mean() < 0.6


def test_gradients(backend: Backend, seed: int) -> None:
    """Gradients agree with central differences of the formula; hard values have soft gradients."""
    logits, weights = RNG(seed).normal(size=(6, 4, 4)), RNG(1).normal(size=(4, 4))
    noise = backend.numpy(backend.noise(True, seed, (6, 4, 4)))

    def value(hard: bool) -> Any:
        def total(x: Any, t: Any) -> Any:
            distribution = backend.names.RelaxedPermutation(t, x, hard=hard)
            return (backend.array(weights) * backend.draw(distribution, seed)).sum()

        return total

    def formula(x: np.ndarray, t: float) -> float:
        return float(sum((weights * sinkhorn(y, t, 20)).sum() for y in x + noise))

    given = backend.array(logits), backend.array(0.6)
    soft, hard = (backend.grad(value(hard), *given) for hard in (False, True))
    h = 1e-5
    steps = h * np.eye(96).reshape(96, 6, 4, 4)
    expected = [(formula(logits + s, 0.6) - formula(logits - s, 0.6)) / (2 * h) for s in steps]
    np.testing.assert_allclose(soft[0].ravel(), expected, rtol=1e-6, atol=1e-8)
    expected = (formula(logits, 0.6 + h) - formula(logits, 0.6 - h)) / (2 * h)
    np.testing.assert_allclose(soft[1], expected, rtol=1e-6)
    for x, y in zip(soft, hard, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-12)


def test_constants_change_nothing(backend: Backend, seed: int) -> None:
    """A constant added to a row or a column of the logits changes no draw."""
    logits = RNG(seed).normal(size=(6, 4, 4))
    moved = logits + RNG(1).normal(size=(4, 1)) + RNG(2).normal(size=4)
    for given in ({"hard": True}, {"iterations": 2000}):
        x, y = (drawn(backend, relaxed(backend, 1.0, z, **given), seed) for z in (logits, moved))
        np.testing.assert_allclose(x, y, rtol=1e-7, atol=1e-9)


def test_draws(backend: Backend, seed: int) -> None:
    """A chi-square test compares 30,000 draws with as many by the definition, in NumPy.

    It rejects frequencies off by 0.01, and rows that are drawn one after the other without
    replacement (another distribution of permutations).
    """
    n, logits = 30_000, np.array([[1.0, 0.0, 0.5], [0.0, 1.0, -0.5], [0.3, 0.0, 0.0]])
    distribution = backend.names.Permutation(logits=backend.array(logits))
    every = matrices(3)

    def counts(value: np.ndarray) -> np.ndarray:
        return (value[:, None] == every).all((-2, -1)).sum(0)

    found = counts(drawn(backend, distribution, seed, (n,)))
    assert found.sum() == n
    expected = counts(best(logits + RNG(seed + 1).gumbel(size=(n, 3, 3))))
    assert stats.chi2_contingency([found, expected]).pvalue > ALARM
    p = special.softmax(logits, -1)
    first = p[0, np.where(every[:, 0])[1]]
    rest = p[1] * (1 - every[:, 0])
    second = (rest * every[:, 1]).sum(-1) / rest.sum(-1)
    other = RNG(seed).multinomial(n, first * second)
    assert stats.chi2_contingency([other, expected]).pvalue < 1e-12


def test_masks(backend: Backend, seed: int) -> None:
    """A masked place has an entry of exactly 0, soft and hard, and gradients stay finite."""
    logits = RNG(seed).normal(0, 3, (6, 4, 4))
    forbidden = np.triu(np.ones((4, 4)), 1) * RNG(seed).integers(0, 2, (6, 4, 4)) == 1
    logits[forbidden] = -np.inf
    array = backend.array(logits)
    for given in ({}, {"hard": True}):
        distribution = backend.names.RelaxedPermutation(0.5, array, **given)
        value = drawn(backend, distribution, seed)
        assert (value[forbidden] == 0).all()
        np.testing.assert_allclose(value.sum(-2), 1, rtol=1e-5)
    scores = logits + backend.numpy(backend.noise(True, seed, (6, 4, 4)))
    np.testing.assert_array_equal(value, best(np.maximum(scores, -1e6)))

    def first(x: Any) -> Any:
        return backend.draw(backend.names.RelaxedPermutation(0.5, x), seed)[..., 0].sum()

    (gradient,) = backend.grad(first, array)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_extremes(backend: Backend, dtype: str, seed: int) -> None:
    """With temperatures of 2^-20 and 2^20 and logits up to 1e6, columns sum to 1.

    Values and gradients, computed in float32 for either dtype, are finite.
    """
    logits = RNG(seed).normal(size=(4, 3, 5, 5)) * np.array([1, 1e2, 1e4, 1e6]).reshape(4, 1, 1, 1)
    array = backend.array(logits, dtype)
    weights = backend.array(RNG(1).normal(size=(5, 5)), "float32")

    def draw(x: Any, t: Any) -> Any:
        return backend.draw(backend.names.RelaxedPermutation(t, x), seed)

    def total(x: Any, t: Any) -> Any:
        return (weights * draw(x, t)).sum()

    for t in (2.0**-20, 0.01, 2.0**20):
        temperature = backend.array(t, "float32")
        value = backend.numpy(draw(array, temperature))
        np.testing.assert_allclose(value.sum(-2), 1, atol=1e-5 if dtype == "float32" else 0.03)
        for gradient in backend.grad(total, array, temperature) if dtype == "float32" else ():
            assert np.isfinite(gradient).all()


def test_masks_that_leave_no_permutation(backend: Backend, seed: int) -> None:
    """Masks that leave no permutation raise; without validation, a row of the matching is 0."""
    impossible = backend.array([[0.0, -np.inf, -np.inf], [0.0, -np.inf, -np.inf], [0.0, 0.0, 0.0]])
    for make in (
        lambda **given: backend.names.RelaxedPermutation(0.5, impossible, **given),
        lambda **given: backend.names.Permutation(impossible, **given),
    ):
        with pytest.raises(ValueError, match="Permutation got masks that leave no permutation"):
            make()
        value = drawn(backend, make(validate_args=False), seed)
        assert np.isfinite(value).all()
    assert sorted(value.sum(-1)) == [0, 1, 1]


def test_bad_input(backend: Backend) -> None:
    """Bad shapes of logits, iterations and temperatures raise, and so does log_prob."""
    names, square = backend.names, backend.array(np.zeros((3, 3)))
    for shape in ((3,), (2, 3), (4, 3, 2)):
        logits = backend.array(np.zeros(shape))
        with pytest.raises(ValueError, match=r"RelaxedPermutation got logits of shape .*, N, N"):
            names.RelaxedPermutation(0.5, logits)
        with pytest.raises(ValueError, match=r"Permutation got logits of shape .*, N, N"):
            names.Permutation(logits)
    for iterations in (0, -1, 2.5, True, None):
        with pytest.raises(ValueError, match=r"got iterations=.*; expected a whole number"):
            names.RelaxedPermutation(0.5, square, iterations=iterations)
    with pytest.raises(ValueError, match=r"RelaxedPermutation got temperature=0"):
        names.RelaxedPermutation(0.0, square)
    with pytest.raises(ValueError, match="RelaxedPermutation got logits with NaN"):
        names.RelaxedPermutation(1.0, square + np.nan)
    distribution = names.RelaxedPermutation(0.5, square)
    for made, why in ((distribution, "not known"), (distribution.discrete, "N! regions")):
        with pytest.raises(NotImplementedError, match=f"has no log_prob: .*{why}.*mask"):
            made.log_prob(backend.array(np.eye(3)))
        with pytest.raises(NotImplementedError, match="has no probs: its logits are scores"):
            _ = made.probs


def test_shapes_and_supports(backend: Backend, seed: int) -> None:
    """Batches, samples, expand, to_event and mask work as for any distribution."""
    logits = backend.array(np.zeros((2, 3, 3)))
    distribution = backend.names.RelaxedPermutation(backend.array([0.5, 1.0]), logits)
    for made in (distribution, distribution.discrete):
        assert (made.batch_shape, made.event_shape) == ((2,), (3, 3))
        wide = made.expand((5, 2)).to_event(1)
        assert (wide.batch_shape, wide.event_shape) == ((5,), (2, 3, 3))
        value = backend.array(drawn(backend, wide, seed, (6,)))
        assert value.shape == (6, 5, 2, 3, 3)
        np.testing.assert_array_equal(backend.numpy(wide.mask(False).log_prob(value)), 0)
        check = getattr(made.support, "check", made.support)
        assert backend.numpy(check(value)).all()
        assert not backend.numpy(check(1.5 * value)).any()
        assert made.support.is_discrete == (made is not distribution)


def test_jax_transformations() -> None:
    """jit, vmap, grad and pytrees give what the eager call gives, through the callback."""
    jax = pytest.importorskip("jax")
    names = pytest.importorskip("relaxed_dists.numpyro")
    key, logits = jax.random.key(0), jax.numpy.asarray(RNG(0).normal(size=(2, 3, 3)))

    def f(t: Any, logits: Any) -> Any:
        distribution = names.RelaxedPermutation(t, logits, hard=True)
        return distribution.sample(key)

    def total(t: Any, x: Any) -> Any:
        # Squares: 3 i + j has the same sum over all permutations.
        return (f(t, x) * jax.numpy.arange(9.0).reshape(3, 3) ** 2).sum()

    eager, ts = f(0.5, logits), jax.numpy.array([0.5, 0.5])
    mapped = jax.jit(jax.vmap(f, (0, None)))(ts, logits)
    np.testing.assert_array_equal(mapped[1], eager)
    gradient = jax.jit(jax.vmap(jax.grad(total, 1), (0, None)))(ts, logits)
    assert (abs(gradient).max((-2, -1)) > 1e-3).all()
    distribution = names.RelaxedPermutation(0.5, logits, iterations=3, hard=True)
    back = jax.tree.map(lambda x: x, distribution)
    assert (back.iterations, back.hard, back.batch_shape) == (3, True, (2,))
    # Inside vmap the batch has one axis less.
    rows = jax.jit(jax.vmap(lambda d: d.sample(key)))(distribution)
    np.testing.assert_array_equal(rows.sum((-2, -1)), [3, 3])


@pytest.mark.filterwarnings("ignore:`torch.jit.script_method`:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:`torch.jit.script`:DeprecationWarning")
def test_torch_transformations() -> None:
    """torch.compile has no graph break at the matching, and torch.func.vmap works."""
    torch = pytest.importorskip("torch")
    names = pytest.importorskip("relaxed_dists.pyro")
    logits = torch.as_tensor(RNG(0).normal(size=(2, 3, 3)))

    def f(logits: Any) -> Any:
        return names.RelaxedPermutation(0.5, logits, hard=True).rsample()

    torch.manual_seed(0)
    eager = f(logits)
    mapped = torch.func.vmap(f, randomness="different")(logits)
    assert mapped.sum((-2, -1)).tolist() == [3, 3]
    torch.manual_seed(0)
    torch.testing.assert_close(one_graph(f, backend="eager")(logits), eager)
    modes = torch.func.vmap(lambda x: names.Permutation(x).mode, in_dims=-1)
    torch.testing.assert_close(modes(logits.movedim(0, -1)), names.Permutation(logits).mode)
    weights = torch.arange(9.0).reshape(3, 3)
    slope = torch.func.grad(lambda x: (f(x) * weights).sum())
    assert torch.func.vmap(slope, randomness="different")(logits).isfinite().all()
