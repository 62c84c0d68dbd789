"""Shapes, gradients and dtypes of draws.

Two tests run every second distribution in NumPyro, and all of them with --whole.
"""

import functools

import numpy as np
import pytest

from cases import CASES, DISCRETE, RELAXED, STRAIGHT_THROUGH, Case, parameters, values
from harness import BACKENDS, Backend
from machinery import HARD, event_dim, every_second, with_logits

cases = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
relaxed = pytest.mark.parametrize("name", RELAXED)


def make(backend: Backend, name: str, t: object, logits: object) -> object:
    """A distribution from NumPy parameters."""
    return getattr(backend.names, name)(backend.array(t), logits=backend.array(logits))


@pytest.mark.share("backend")
@relaxed
@pytest.mark.parametrize(
    ("temperature", "batch", "joint"),
    [((), (), ()), ((), (3,), (3,)), ((3,), (3,), (3,)), ((2, 1), (3,), (2, 3)), ((4,), (), (4,))],
)
def test_shapes(
    backend: Backend, name: str, temperature: tuple, batch: tuple, joint: tuple
) -> None:
    """Temperature and logits broadcast to the batch shape, and never along the event shape.

    A share of the cases runs each distribution and each shape in each framework.
    """
    rows, rng = "OneHot" in name, np.random.default_rng(0)
    distribution = make(backend, name, np.full(temperature, 0.5), parameters(rng, rows, 5, batch))
    event = (5,) if rows else ()
    assert tuple(distribution.batch_shape) == joint
    assert tuple(distribution.event_shape) == event
    value = backend.draw(distribution, 0, (6,))
    assert tuple(value.shape) == (6, *joint, *event)
    assert tuple(distribution.log_prob(value).shape) == (6, *joint)
    assert distribution.has_rsample
    assert tuple(distribution.discrete.batch_shape) == joint
    expanded = distribution.expand((2, *joint))
    assert type(expanded) is type(distribution)
    assert tuple(expanded.batch_shape) == (2, *joint)
    assert tuple(expanded.log_prob(backend.draw(expanded, 0)).shape) == (2, *joint)
    event_law = expanded.to_event(1)
    assert tuple(event_law.event_shape) == (2, *joint, *event)[len(joint) :]
    masked = expanded.mask(backend.array(np.zeros((2, *joint))) > 0)
    assert (backend.numpy(masked.log_prob(backend.draw(masked, 0))) == 0).all()


SCORED = [case.name for case in CASES] + DISCRETE


@every_second(SCORED)
@pytest.mark.parametrize("name", SCORED)
def test_shapes_change_no_number(backend: Backend, name: str) -> None:
    """A batch gives its rows' numbers, so does vmap; expand, to_event and mask keep all numbers."""
    n, rng, rows = 8, np.random.default_rng(0), "OneHot" in name
    t, logits = np.linspace(0.2, 5, n), parameters(rng, rows, 5, (n,))
    value, cls = backend.array(values(rng, name, 5, n)), getattr(backend.names, name)

    def distribution(t: object, logits: object) -> object:
        return cls(*([] if name in DISCRETE else [t]), logits=logits)

    arrays = backend.array(t), backend.array(logits)
    made, close = distribution(*arrays), functools.partial(np.testing.assert_allclose, rtol=1e-11)
    density, drawn = backend.numpy(made.log_prob(value)), backend.numpy(backend.draw(made, 3))
    for row in (0, n - 1):
        alone = distribution(*(x[row] for x in arrays)).log_prob(value[row])
        close(backend.numpy(alone), density[row])
    mapped = backend.vmap(lambda t, logits, value: distribution(t, logits).log_prob(value))
    close(backend.numpy(mapped(*arrays, value)), density)
    shown = np.arange(n) % 2 == 0
    for changed, expected in (
        (made.to_event(1), density.sum()),
        (made.mask(backend.array(shown) > 0), density * shown),
        (made.expand((n,)), density),
    ):
        close(backend.numpy(changed.log_prob(value)), expected)
        np.testing.assert_array_equal(backend.numpy(backend.draw(changed, 3)), drawn)
    wide = made.expand((2, n))
    close(backend.numpy(wide.log_prob(value)), [density, density])
    same = distribution(*(backend.array(np.stack([x, x])) for x in (t, logits)))
    ours, theirs = (backend.numpy(backend.draw(x, 3)) for x in (wide, same))
    np.testing.assert_array_equal(ours, theirs)


@cases
def test_gradient_of_a_draw(backend: Backend, case: Case) -> None:
    """Gradients of draws agree with central differences at fixed noise, to 1e-6."""
    rng, h = np.random.default_rng(0), 1e-5
    logits, t = parameters(rng, case.one_hot, 4, (3,)), np.array([0.5, 1.0, 2.0])
    weights = rng.normal(size=(3, 4) if case.one_hot else (3,))

    def f(logits: object, t: object) -> object:
        value = backend.draw(getattr(backend.names, case.name)(t, logits=logits), 7)
        return (value * backend.array(weights)).sum()

    def at(logits: np.ndarray, t: np.ndarray) -> float:
        return float(backend.numpy(f(backend.array(logits), backend.array(t))))

    f = backend.compiled(f)
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
    """For the same noise, the value is rounded, and the gradient is that of the relaxed value."""
    rng = np.random.default_rng(0)
    logits, t = parameters(rng, case.one_hot, 4, (50,)), np.array(0.5)
    weights = backend.array(rng.normal(size=(50, 4) if case.one_hot else (50,)))

    def through(name: str) -> list[np.ndarray]:
        def f(logits: object, t: object) -> object:
            distribution = getattr(backend.names, name)(t, logits=logits)
            return (backend.draw(distribution, 3) * weights).sum()

        return backend.grad(backend.compiled(f), backend.array(logits), backend.array(t))

    for ours, expected in zip(through(case.straight_through), through(case.name), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-12)
    hard, soft = (
        backend.numpy(backend.draw(make(backend, name, t, logits), 3))
        for name in (case.straight_through, case.name)
    )
    rounded = np.eye(4)[soft.argmax(-1)] if case.one_hot else (soft > 0.5).astype(float)
    np.testing.assert_array_equal(hard, rounded)


HARD_ESTIMATORS = ["GumbelSoftmax", "GumbelRao", "ReinMax", "ReinMaxRao", "GappedStraightThrough"]
HARD_VALUES = [*STRAIGHT_THROUGH, *HARD, *(f"{d} {e}" for d in DISCRETE for e in HARD_ESTIMATORS)]


@pytest.mark.parametrize("by_formulas", [False, True])
@pytest.mark.parametrize("name", HARD_VALUES)
def test_a_hard_value_is_the_same_at_every_temperature(
    backend: Backend, name: str, by_formulas: bool, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same noise gives the same hard value, in float32 too, where scores / t would be equal.

    The formulas are what is computed without kernels, as in a program that torch.export makes.
    """
    if by_formulas:
        monkeypatch.setattr(backend.private.ops, "kernels", {})
        if backend.framework == "pyro":
            monkeypatch.setattr("relaxed_dists_torch.compiled.KERNELS", None)
    logits = np.random.default_rng(seed).normal(size=(300,) + (5,) * event_dim(name))
    if event_dim(name) == 1:
        logits[::2, 3] = -np.inf  # masked
    cls, _, estimator = name.partition(" ")

    def draw(t: float) -> np.ndarray:
        def of(x: object) -> object:
            if name not in HARD_VALUES[: len(STRAIGHT_THROUGH + HARD)]:
                how = getattr(backend.names, estimator)(t)
                return backend.draw(getattr(backend.names, cls)(logits=x, estimator=how), seed)
            return backend.draw(with_logits(backend, name, x, t), seed)

        return backend.numpy(backend.compiled(of)(backend.array(logits, "float32")))

    expected = draw(1.0)
    for t in (1e4, 2.0**20):
        np.testing.assert_array_equal(draw(t), expected)


@pytest.mark.parametrize("rows", [True, False])
def test_estimators_of_the_discrete_law(backend: Backend, rows: bool) -> None:
    """StraightThrough has the gradient of probs; GumbelSoftmax that of its soft value."""
    names, rng = backend.names, np.random.default_rng(0)
    cls = names.OneHotCategorical if rows else names.Bernoulli
    soft_cls = names.RelaxedOneHotCategorical if rows else names.RelaxedBernoulli
    logits = backend.array(parameters(rng, rows, 4, (20,)))
    weights = backend.array(rng.normal(size=(20, 4) if rows else (20,)))

    def gradient(distribution: object) -> np.ndarray:
        f = backend.compiled(lambda x: (backend.draw(distribution(x), 5) * weights).sum())
        return backend.grad(f, logits)[0]

    def exact(logits: object) -> object:
        return (cls(logits=logits).probs * weights).sum()

    through = gradient(lambda x: cls(logits=x, estimator=names.StraightThrough()))
    expected = backend.grad(backend.compiled(exact), logits)[0]
    np.testing.assert_allclose(through, expected, rtol=1e-10)
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


@every_second(RELAXED, 1)
@pytest.mark.parametrize("name", RELAXED)
def test_own_draws_at_temperature_one_hundredth(backend: Backend, name: str) -> None:
    """100,000 float32 draws pass validation, with finite densities and gradients."""
    logits = np.random.default_rng(0).normal(size=(100_000, 10) if "OneHot" in name else 100_000)

    def f(logits: object, t: object) -> object:
        distribution = getattr(backend.names, name)(t, logits=logits, validate_args=True)
        value = backend.draw(distribution, 0)
        return distribution.log_prob(value).sum() + value.sum()

    t, logits = backend.array(0.01, "float32"), backend.array(logits, "float32")
    assert all(np.isfinite(g).all() for g in backend.grad(backend.compiled(f), logits, t))
    distribution = getattr(backend.names, name)(t, logits=logits, validate_args=True)
    value = backend.draw(distribution, 0)
    assert np.isfinite(backend.numpy(distribution.log_prob(value))).all()
    assert str(value.dtype).endswith("float32")


@pytest.mark.share("backend")
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("name", RELAXED + DISCRETE)
def test_dtypes(backend: Backend, name: str, dtype: str) -> None:
    """Values have the logits' dtype, densities and entropies at least float32; all are finite.

    A Python number as the temperature isn't rounded to half precision. A share of the cases runs
    each distribution and each dtype in each framework.
    """
    logits = backend.array(np.random.default_rng(0).normal(size=(100, 8)), dtype)
    distribution = getattr(backend.names, name)(*(0.3,) * (name in RELAXED), logits=logits)
    value = backend.draw(distribution, 0)
    density = distribution.log_prob(value)
    computed = "float64" if dtype == "float64" else "float32"
    assert str(value.dtype).endswith(dtype)
    assert str(density.dtype).endswith(computed)
    assert np.isfinite(backend.numpy(density)).all()
    if name in RELAXED:
        assert abs(backend.numpy(distribution.temperature) - 0.3).max() < 1e-7
    else:
        assert str(distribution.entropy().dtype).endswith(computed)
        assert np.isfinite(backend.kl(distribution, distribution)).all()


@pytest.mark.parametrize("name", ["ExpRelaxedOneHotCategorical", "LogitRelaxedBernoulli"])
def test_float16_draws_stay_in_range(backend: Backend, name: str) -> None:
    """At temperature 2e-5 values are clamped to 65,504; a masked category stays at -inf."""
    shape = (100, 8) if "OneHot" in name else (100,)
    logits = np.random.default_rng(0).normal(size=shape)
    cls = getattr(backend.names, name)
    distribution = cls(backend.array(2e-5, "float16"), logits=backend.array(logits, "float16"))
    value = backend.numpy(backend.draw(distribution, 0))
    assert abs(value).max() == 65504
    assert np.isfinite(backend.numpy(distribution.log_prob(backend.array(value, "float16")))).all()
    logits[0] = -np.inf
    logits.flat[0] = 0.0
    edge = backend.numpy(backend.draw(cls(2e-5, logits=backend.array(logits, "float16")), 0))
    assert (edge[0] == -np.inf).sum() == (7 if "OneHot" in name else 0)


def test_float16_under_jit_in_numpyro() -> None:
    """Densities of draws and of copies, and modes, are finite, without a warning."""
    pytest.importorskip("numpyro")
    jax, names = pytest.importorskip("jax"), BACKENDS["numpyro"]().names

    @jax.jit
    def run(logits: object, key: object) -> list[object]:
        found = [names.OneHotCategorical(logits=logits).mode]
        for name in RELAXED:
            distribution = getattr(names, name)(0.1, logits=logits)
            value = distribution.sample(key)
            found += [value, distribution.log_prob(value)]
            if name not in STRAIGHT_THROUGH:
                found.append(distribution.log_prob(value + 0))
        return found

    logits = jax.numpy.linspace(-3, 3, 5, dtype="float16")
    assert all(jax.numpy.isfinite(x).all() for x in run(logits, jax.random.key(0)))


def test_shared_float16_temperature(backend: Backend) -> None:
    """The temperature's gradient is summed in float32: two rows' 1e6 and -1e6 give 0, not NaN."""
    logits = backend.array(np.zeros((2, 1000)), "float16")
    value = backend.array(np.full((2, 1000), -np.log(1000)), "float32")

    def difference(t: object) -> object:
        log_prob = backend.names.ExpRelaxedOneHotCategorical(t, logits=logits).log_prob(value)
        return log_prob[0] - log_prob[1]

    found = backend.grad(backend.compiled(difference), backend.array(0.001, "float16"))
    assert found == [0.0]


def test_functional_layer(backend: Backend) -> None:
    """gumbel_softmax gives points of the simplex, soft or hard; straight_through the hard value."""
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
