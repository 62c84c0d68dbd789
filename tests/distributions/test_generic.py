"""General properties that the frameworks' own tests check, on each of our distributions.

These are properties in NumPyro's generic tests and Pyro's fixtures that no other file checks:
expansions, pytrees, compilation, copies, shapes of values, masks, sums of divergences, validation.
Four of these tests run every second distribution in NumPyro, and all of them with --whole.
"""

import copy
import pickle
from typing import Any

import numpy as np
import pytest

from harness import BACKENDS, Backend, Lazy
from machinery import (
    NAMES,
    NO_DENSITY,
    arguments,
    event_dim,
    every_second,
    made,
    numbers,
    with_logits,
)

older = Lazy("relaxed_dists_numpyro._older")
FEW = [name for name in NAMES if " " not in name or name.endswith((" soft", " StraightThrough"))]
DENSE = [name for name in FEW if name not in NO_DENSITY]


def same(backend: Backend, law: Any, other: Any, draw: bool = False) -> None:
    """Check that class, parameters and, with `draw`, draws of two distributions are equal."""
    assert type(law) is type(other)
    assert repr(law.support) == repr(other.support)
    assert law.batch_shape == other.batch_shape
    assert law._validate_args == other._validate_args
    for parameter in ("logits", "temperature"):
        x, y = (getattr(d, parameter, None) for d in (law, other))
        assert (x is None) == (y is None)
        if x is not None:
            assert x.dtype == y.dtype
            np.testing.assert_array_equal(*np.broadcast_arrays(backend.numpy(x), backend.numpy(y)))
    if draw:
        x, y = (backend.numpy(backend.draw(d, 7)) for d in (law, other))
        np.testing.assert_array_equal(x, y)


@every_second(FEW)
@pytest.mark.parametrize("name", FEW)
def test_expansions_can_be_made_in_steps(backend: Backend, name: str) -> None:
    """Two expansions equal one, and expansion keeps each row's density."""
    law = made(backend, name, (1, 2))
    steps = law.expand((3, 2)).expand((5, 3, 2))
    same(backend, steps, law.expand((5, 3, 2)))
    same(backend, law.expand_by((5,)), law.expand((5, 1, 2)))
    same(backend, law.expand((1, 2)), law)
    assert steps.shape() == (5, 3, 2, *law.event_shape)
    if name in DENSE:
        x = backend.draw(law, 0)
        row = backend.numpy(law.log_prob(x))
        found = backend.numpy(law.expand((3, 2)).log_prob(x))
        np.testing.assert_allclose(found, np.broadcast_to(row, (3, 2)), rtol=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_copies_are_the_same_distribution(backend: Backend, name: str) -> None:
    """copy, deepcopy and pickle give an equal distribution, and repr has its class."""
    law = made(backend, name)
    for other in (copy.copy(law), copy.deepcopy(law), pickle.loads(pickle.dumps(law))):
        same(backend, law, other, draw=backend.framework == "pyro")
    cls, _, estimator = name.partition(" ")
    assert cls in repr(law)
    assert estimator.removesuffix(" soft") in repr(law)


@pytest.mark.parametrize("name", FEW)
def test_pytrees_keep_everything_and_compile_once(name: str) -> None:
    """In NumPyro a distribution may be an argument and a result of compiled code."""
    pytest.importorskip("numpyro")
    import jax

    backend, traces = BACKENDS["numpyro"](), []
    law, other = (
        with_logits(backend, name, backend.array(numbers(name, seed=seed), "float32"))
        for seed in (0, 1)
    )

    @jax.jit
    def through(d: Any) -> Any:
        traces.append(d)
        return d

    leaves, structure = jax.tree.flatten(law)
    assert structure == jax.tree.structure(other)
    same(backend, jax.tree.unflatten(structure, leaves), law)
    for d in (law, other, law):
        same(backend, through(d), d)
    assert len(traces) == 1
    assert repr(traces[0])  # works for a traced distribution
    stacked = jax.tree.map(lambda *x: jax.numpy.stack(x), law, other)
    assert stacked.batch_shape == (2, *law.batch_shape)
    same(backend, jax.tree.map(lambda x: x[1], stacked), other)
    picked = jax.lax.cond(True, lambda: law, lambda: other)
    same(backend, picked, law, draw=True)


@pytest.mark.parametrize("name", DENSE)
def test_compiled_densities_are_the_same(name: str) -> None:
    """In NumPyro a compiled log_prob of an argument is right, or raises if it needs the sample."""
    pytest.importorskip("numpyro")
    import jax

    backend = BACKENDS["numpyro"]()
    law = made(backend, name, dtype="float32")
    x = backend.draw(law, 0)
    compiled = jax.jit(lambda d, x: d.log_prob(x))
    if "RelaxedBernoulliStraight" in name or "CategoricalStraight" in name:
        with pytest.raises(ValueError, match="has lost the relaxed sample"):
            compiled(law, x)
        return
    np.testing.assert_allclose(compiled(law, x), law.log_prob(x), rtol=2e-5, atol=1e-5)


@pytest.mark.parametrize("name", FEW)
def test_any_kind_of_random_key(name: str) -> None:
    """In NumPyro new-style and old-style keys draw the same; keys of other generators work."""
    pytest.importorskip("numpyro")
    import jax

    law = made(BACKENDS["numpyro"](), name, dtype="float32")
    draws = [law.sample(make(3)) for make in (jax.random.key, jax.random.PRNGKey)]
    np.testing.assert_array_equal(*draws)
    assert law.sample(jax.random.key(3, impl="rbg")).shape == draws[0].shape


@every_second(DENSE)
@pytest.mark.parametrize("name", DENSE)
def test_values_of_another_shape_are_refused(backend: Backend, name: str) -> None:
    """log_prob raises for wrong event dimensions and for shapes that don't broadcast."""
    law = made(backend, name)
    x = backend.numpy(backend.draw(law, 0))
    event = x.shape[1:]
    refused = [np.zeros((3, *event))]
    if event:
        refused += [x[..., :-1], np.zeros((2, 7)), np.zeros(())]
    for value in refused:
        with pytest.raises(
            ValueError,
            match=rf"{type(made(backend, name)).__name__}\.log_prob got a value of shape",
        ):
            law.log_prob(backend.array(value))
    if "Through" in name.partition(" ")[0]:
        return
    for shape in ((), (2,)):
        value = np.broadcast_to(x[0], (*shape, *event)).copy()
        found = backend.numpy(law.log_prob(backend.array(value)))
        assert found.shape == np.broadcast_shapes(shape, (2,))
        assert np.isfinite(found).all()


@every_second(DENSE, 1)
@pytest.mark.parametrize("name", DENSE)
def test_masks_take_rows_and_their_gradients_out(backend: Backend, name: str) -> None:
    """A masked row has no density and no gradient by the logits; other rows keep both."""
    rows = backend.array([1.0, 0.0])
    mask = rows > 0
    x = backend.draw(made(backend, name), 0)

    def total(logits: Any, masked: bool) -> Any:
        law = with_logits(backend, name, logits)
        return (law.mask(mask) if masked else law).log_prob(x).sum()

    logits = backend.array(numbers(name))
    masked, whole = (
        backend.grad(lambda a, m=m: total(a, m), logits)[0].reshape(2, -1) for m in (True, False)
    )
    np.testing.assert_allclose(masked[0], whole[0], rtol=1e-9)
    assert not masked[1].any()
    assert whole[1].any()
    one = backend.numpy(made(backend, name).mask(mask).log_prob(x))
    assert one[1] == 0
    assert one[0] == pytest.approx(backend.numpy(made(backend, name).log_prob(x))[0], rel=1e-9)


WITH_KL = [name for name in DENSE if "Subset" not in name]


@every_second(WITH_KL, 1)
@pytest.mark.parametrize("name", WITH_KL)
def test_divergences_of_wrapped_laws_are_sums(backend: Backend, name: str) -> None:
    """The KL is summed over independent dimensions, and repeated for expanded distributions."""
    p, q = (
        with_logits(backend, name, backend.array(numbers(name, seed=seed)), temperature)
        for seed, temperature in ((0, 0.5), (1, 0.8))
    )
    single = backend.kl(p, q)
    assert single.shape == (2,)
    assert (single > 0).all()
    np.testing.assert_allclose(backend.kl(p.to_event(1), q.to_event(1)), single.sum(), rtol=1e-9)
    expanded = backend.kl(p.expand((3, 2)), q)
    np.testing.assert_allclose(expanded, np.broadcast_to(single, (3, 2)), rtol=1e-9)
    np.testing.assert_allclose(backend.kl(p, p), 0.0, atol=1e-9)


@pytest.mark.parametrize("name", [name for name in NAMES if " " not in name])
def test_validation_is_as_asked_for_or_as_the_framework_is_set(backend: Backend, name: str) -> None:
    """The argument validate_args overrides the global setting, also in derived distributions."""

    cls = getattr(backend.names, name)
    bad = arguments(name, backend.array(np.full((2,) + (3,) * event_dim(name), np.nan)))
    good = arguments(name, backend.array(numbers(name)))
    with pytest.raises(ValueError, match=f"{name} got logits"):
        cls(**bad)
    assert cls(**bad, validate_args=False)._validate_args is False
    module = backend.ppl
    if backend.framework == "numpyro" and older.DOES_NOT_VALIDATE:
        pytest.skip("the global setting of NumPyro below 0.22 is off by default, and ignored")
    switch = module.validation_enabled
    with (switch if backend.framework == "pyro" else _numpyros(module))(False):
        assert cls(**bad)._validate_args is False
        with pytest.raises(ValueError, match=f"{name} got logits"):
            cls(**bad, validate_args=True)
        law = cls(**good, validate_args=True)
    for made_of_it in (law, law.expand((3, 2)), law.discrete):
        assert made_of_it._validate_args is True


def _numpyros(module: Any) -> Any:
    return module.distributions.distribution.validation_enabled
