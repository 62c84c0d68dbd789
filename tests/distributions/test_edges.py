"""Edge cases: point masses, masked categories, discrete counterparts, enumeration, and NaN data."""

import functools

import numpy as np
import pytest

from cases import DISCRETE, RELAXED
from harness import BACKENDS, Backend
from machinery import EVERY, event_dim, made

INF = np.inf


def test_kl_where_probabilities_underflow(backend: Backend) -> None:
    """The KL is infinite where p > 0 and q = 0, is 0 for equal distributions, and is never NaN."""
    cls = backend.names.OneHotCategorical
    p = cls(logits=backend.array([0.0, -2000.0]))
    q = cls(logits=backend.array([0.0, -INF]))
    assert backend.kl(p, q) == INF
    assert backend.kl(q, p) == 0
    assert backend.kl(p, p) == 0
    certain = backend.names.Bernoulli(probs=backend.array(1.0))
    assert backend.kl(backend.names.Bernoulli(logits=backend.array(2000.0)), certain) == INF
    assert backend.kl(certain, certain) == 0


@pytest.mark.parametrize("name", RELAXED)
def test_the_discrete_twin(backend: Backend, name: str) -> None:
    """The discrete counterpart has the same logits, and validates its values."""
    distribution = getattr(backend.names, name)(0.5, probs=backend.array([0.25, 0.75]))
    discrete_one = distribution.discrete
    np.testing.assert_allclose(backend.numpy(discrete_one.probs), [0.25, 0.75], rtol=1e-12)
    assert not discrete_one.has_rsample
    with pytest.raises(ValueError, match="log_prob got"):
        discrete_one.log_prob(backend.array([0.5, 0.5]))


@pytest.mark.parametrize("name", DISCRETE)
def test_enumeration_is_for_plain_laws(backend: Backend, name: str) -> None:
    """A distribution with an estimator has no enumeration: Pyro would sum unweighted values."""
    cls, logits = getattr(backend.names, name), backend.array(np.zeros((2, 3)))
    assert cls(logits=logits).has_enumerate_support
    estimated = cls(logits=logits, estimator=backend.names.StraightThrough())
    assert not estimated.has_enumerate_support
    assert estimated.discrete.has_enumerate_support
    with pytest.raises(NotImplementedError, match=f"{name} can't be enumerated with an estimator"):
        estimated.enumerate_support()


@pytest.mark.parametrize("name", DISCRETE)
def test_estimators_by_mistake(backend: Backend, name: str) -> None:
    """A list is accepted as a temperature; an estimator's class in place of an object raises."""
    cls, names = getattr(backend.names, name), backend.names
    logits = backend.array(np.zeros((2, 3)))
    t = [0.5, 1.0] if name == "OneHotCategorical" else [[0.5], [1.0]]
    distribution = cls(logits=logits, estimator=names.GumbelSoftmax(np.array(t)))
    assert tuple(backend.draw(distribution, 0).shape) == (2, 3)
    with pytest.raises(ValueError, match=r"got the class StraightThrough .* Call it"):
        cls(logits=logits, estimator=names.StraightThrough)


def test_no_temperature(backend: Backend) -> None:
    """A temperature of None raises."""
    with pytest.raises(ValueError, match="RelaxedBernoulli got temperature=None; expected"):
        backend.names.RelaxedBernoulli(None, logits=backend.array(0.0))


def test_enumerated_elbo_in_pyro() -> None:
    """TraceEnum_ELBO of a plain guide is the exact KL; with an estimator it samples."""
    pyro = pytest.importorskip("pyro")
    backend = BACKENDS["pyro"]()
    names = backend.names

    def model() -> None:
        pyro.sample("z", names.Bernoulli(probs=0.6))

    def guide() -> None:
        pyro.sample("z", names.Bernoulli(probs=0.3), infer={"enumerate": "parallel"})

    expected = 0.3 * np.log(0.3 / 0.6) + 0.7 * np.log(0.7 / 0.4)
    loss = pyro.infer.TraceEnum_ELBO(max_plate_nesting=0).loss(model, guide)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_missing_values_under_a_mask_in_numpyro() -> None:
    """Masked values may be NaN, as in NumPyro's distributions; gradients are finite."""
    pytest.importorskip("numpyro")
    jax = pytest.importorskip("jax")
    names, jnp = BACKENDS["numpyro"]().names, jax.numpy
    mask = jnp.array([True, False])

    def f(logits: object) -> object:
        distribution = names.RelaxedBernoulli(0.5, logits=logits).mask(mask)
        return distribution.log_prob(jnp.array([0.3, jnp.nan])).sum()

    value, gradient = jax.value_and_grad(f)(jnp.zeros(2))
    expected = names.RelaxedBernoulli(0.5, logits=0.0).log_prob(0.3)
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    assert np.isfinite(gradient).all()
    distribution = names.OneHotCategorical(logits=jnp.zeros((2, 3))).mask(mask)
    rows = jnp.array([[1.0, 0.0, 0.0], [jnp.nan] * 3])
    np.testing.assert_allclose(distribution.log_prob(rows), [-np.log(3), 0], rtol=1e-6)


@pytest.mark.parametrize("name", DISCRETE)
def test_vmap_over_an_estimated_law_in_numpyro(name: str) -> None:
    """vmap works since the estimator's temperature is a pytree leaf with the batch shape."""
    pytest.importorskip("numpyro")
    jax = pytest.importorskip("jax")
    names = BACKENDS["numpyro"]().names
    shape = (4, 3) if name == "OneHotCategorical" else (4,)
    distribution = getattr(names, name)(
        logits=jax.numpy.zeros(shape), estimator=names.GumbelSoftmax(0.5)
    ).expand((2, 4))
    value = jax.vmap(jax.vmap(lambda d: d.sample(jax.random.key(0))))(distribution)
    assert value.shape == (2, *shape)


def test_a_bound_temperature_stays() -> None:
    """AnnealedSVI doesn't override the temperature of functools.partial(guide, temperature=...)."""
    from relaxed_dists._infer.svi import accepting

    def guide(temperature: float) -> float:
        return temperature

    bound = functools.partial(guide, temperature=0.123)
    _, called = accepting(guide, bound, lambda fn: None)
    assert called(temperature=0.7) == 0.123


# The repr of each class in the table, for float32 and logits of batch shape (2,).
REPRS = {
    **dict.fromkeys(RELAXED, "{cls}(temperature={t}, logits=float32{shape})"),
    "HardConcrete": "{cls}(temperature={t}, logits=float32{shape}, low=-0.1, high=1.1)",
    **dict.fromkeys(DISCRETE, "{cls}(logits=float32{shape}{estimator})"),
    "Subset": "{cls}(k=2, logits=float32{shape})",
    "RelaxedSubset": "{cls}(temperature={t}, k=2, logits=float32{shape}, hard={hard})",
    "Permutation": "{cls}(logits=float32{shape})",
    "RelaxedPermutation": (
        "{cls}(temperature={t}, logits=float32{shape}, iterations=20, hard={hard})"
    ),
}


@pytest.mark.parametrize("name", EVERY)
def test_repr(backend: Backend, name: str) -> None:
    """repr is the call that makes the distribution, with dtype and shape in place of arrays."""
    t = "0.5" if backend.framework == "pyro" else "float32[2]"  # NumPyro broadcasts it
    cls, _, more = name.partition(" ")
    shape = [2] + [3] * event_dim(name)
    estimator = f", estimator={more}(temperature={t}, hard=True)" if more != "hard" else ""
    expected = REPRS[cls].format(
        cls=cls, t=t, shape=shape, hard=more == "hard", estimator=estimator if more else ""
    )
    assert repr(made(backend, name, dtype="float32")) == expected


def test_repr_of_arrays_as_temperatures(backend: Backend) -> None:
    """An estimator, too, shows the dtype and shape of an array; a traced number has no digits."""
    names, temperature = backend.names, backend.array([0.5, 1.0], "float32")
    assert repr(names.GumbelSoftmax(temperature)) == (
        "GumbelSoftmax(temperature=float32[2], hard=True)"
    )
    assert repr(names.ReinMax()) == "ReinMax(temperature=1.0)"
    if backend.framework == "pyro":
        return
    relaxed = names.RelaxedBernoulli(0.5, logits=backend.array(0.0, "float32"))
    jax = pytest.importorskip("jax")
    seen: list[str] = []
    jax.jit(lambda distribution: seen.append(repr(distribution)))(relaxed)
    assert seen == ["RelaxedBernoulli(temperature=float32[], logits=float32[])"]
