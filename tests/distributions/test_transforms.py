"""Distributions under JAX's jit, vmap, grad, scan and pytrees, and torch's compile and vmap."""

import numpy as np
import pytest

from cases import DISCRETE, MIXED
from cases import RELAXED as SMOOTH
from harness import one_graph

RELAXED = SMOOTH + MIXED
names = pytest.mark.parametrize("name", RELAXED + DISCRETE)


def parameters(name: str) -> dict[str, np.ndarray]:
    """Logits for a batch of three."""
    rng = np.random.default_rng(0)
    return {"logits": rng.normal(size=(3, 4) if "OneHot" in name else 3).astype("float32")}


@names
def test_jax(name: str) -> None:
    """A traced temperature under jit, grad, vmap and scan gives what the eager call gives."""
    jax = pytest.importorskip("jax")
    numpyro = pytest.importorskip("relaxed_dists.numpyro")
    jnp, cls, key = jax.numpy, getattr(numpyro, name), jax.random.key(0)
    logits = jnp.asarray(parameters(name)["logits"])

    def distribution(t: object, logits: object) -> object:
        if name in RELAXED:
            return cls(t, logits=logits)
        return cls(logits=logits, estimator=numpyro.GumbelSoftmax(t))

    def f(t: object, logits: object) -> object:
        made = distribution(t, logits)
        value = made.sample(key)
        return made.log_prob(value).sum() + value.sum()

    eager = f(0.5, logits)
    compiled = jax.jit(f)
    np.testing.assert_allclose(compiled(0.5, logits), eager, rtol=2e-5)
    for gradient in jax.jit(jax.grad(f, (0, 1)))(0.5, logits):
        assert np.isfinite(gradient).all()
    ts = jnp.array([0.5, 1.0])
    mapped = jax.jit(jax.vmap(f, (0, None)))(ts, logits)
    np.testing.assert_allclose(mapped, [eager, compiled(1.0, logits)], rtol=2e-5)
    scanned = jax.lax.scan(lambda c, t: (c, f(t, logits)), 0, ts)[1]
    np.testing.assert_allclose(scanned, mapped, rtol=2e-5)


@names
def test_jax_pytrees(name: str) -> None:
    """A distribution goes through tree_map, jit, vmap and scan as an argument and a result."""
    jax = pytest.importorskip("jax")
    numpyro = pytest.importorskip("relaxed_dists.numpyro")
    own = {"temperature": 0.5} if name in RELAXED else {"estimator": numpyro.StraightThrough()}
    distribution = getattr(numpyro, name)(**own, **parameters(name))
    back = jax.tree.unflatten(*reversed(jax.tree.flatten(distribution)))
    assert type(back) is type(distribution)
    assert (back.batch_shape, back.event_shape) == (
        distribution.batch_shape,
        distribution.event_shape,
    )
    key = jax.random.key(0)
    value = distribution.sample(key)
    np.testing.assert_allclose(jax.jit(lambda d: d.sample(key))(distribution), value, rtol=1e-5)
    doubled = jax.jit(lambda d: d.expand((2, *d.batch_shape)))(distribution)
    assert doubled.batch_shape == (2, 3)
    rows = jax.vmap(lambda d: d.sample(key))(distribution)  # inside vmap: one axis less
    assert rows.shape == value.shape
    carried, _ = jax.lax.scan(lambda d, _: (d, None), distribution, length=2)
    np.testing.assert_array_equal(carried.logits, distribution.logits)


def test_a_traced_temperature_of_zero_is_finite() -> None:
    """A traced temperature can't be validated, so it is clamped to the documented floor."""
    jax = pytest.importorskip("jax")
    numpyro = pytest.importorskip("relaxed_dists.numpyro")

    @jax.jit
    def f(t: object) -> object:
        distribution = numpyro.RelaxedOneHotCategorical(t, logits=jax.numpy.zeros(3))
        value = distribution.sample(jax.random.key(0))
        return value, distribution.log_prob(value)

    assert all(np.isfinite(x).all() for t in (0.0, -1.0) for x in f(t))


def test_constants_are_checked_under_jit() -> None:
    """A constant parameter is validated during tracing, as in NumPyro's distributions."""
    jax = pytest.importorskip("jax")
    numpyro = pytest.importorskip("relaxed_dists.numpyro")

    def f(logits: object) -> object:
        return numpyro.RelaxedOneHotCategorical(-1.0, logits=logits).sample(jax.random.key(0))

    with pytest.raises(ValueError, match=r"got temperature=-1\.0"):
        jax.jit(f)(jax.numpy.zeros(3))


@names
# Inductor imports a torch module that uses the deprecated torch.jit.script_method.
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method`:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:`torch.jit.script`:DeprecationWarning")
def test_torch(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch.compile has no graph break and gives the eager results; torch.func.vmap works."""
    torch = pytest.importorskip("torch")
    pyro = pytest.importorskip("relaxed_dists.pyro")
    # Compiled kernels make other noise of a seed than torch's operations.
    monkeypatch.setattr("relaxed_dists_torch.compiled.KERNELS", None)
    cls, logits = getattr(pyro, name), torch.as_tensor(parameters(name)["logits"])
    own = {"temperature": 0.5} if name in RELAXED else {"estimator": pyro.GumbelSoftmax(0.5)}

    def f(logits: object) -> object:
        distribution = cls(logits=logits, **own)
        value = distribution.rsample()
        return value, distribution.log_prob(value)

    torch.manual_seed(0)
    value, density = f(logits)
    mapped = torch.func.vmap(f, randomness="different")(logits)
    assert [m.shape for m in mapped] == [value.shape, density.shape]
    assert all(torch.isfinite(m).all() for m in mapped)
    gradient = torch.func.grad(lambda x: f(x)[1].sum())(logits)
    assert torch.isfinite(gradient).all()
    torch.manual_seed(0)
    torch.testing.assert_close(one_graph(f, backend="eager")(logits), (value, density))
