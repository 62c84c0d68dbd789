"""The relaxed sample that a value keeps, within and across the frameworks' transformations."""

import gc
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from carrying import (
    LOGITS,
    LOST,
    RIGHT,
    TEMPERATURE,
    VIEWS,
    WRITES,
    cells,
    check,
    check_inside,
    compiled,
    density,
    enter,
    hard,
    inside,
    make,
    needs_jax,
    needs_torch,
    outcome,
    pair,
)
from cases import STRAIGHT_THROUGH
from harness import Jax, Torch, jax, torch

# A transformation has four cells, for a value that is: drawn and scored inside; drawn outside and
# passed as an argument; drawn outside and closed over; drawn inside and scored outside.


def _checkpoint(f: Any, x: Any) -> Any:
    return torch.utils.checkpoint.checkpoint(f, x, use_reentrant=False)


def _inference(f: Any, x: Any) -> Any:
    with torch.inference_mode():
        return f(x)


def _with_gradient(f: Any, x: Any) -> Any:
    """f(x), computed inside torch.func.grad."""
    return torch.func.grad(lambda x: (0 * x.sum(), f(x)), has_aux=True)(x)[1]


def _vmapped(f: Any, x: Any) -> Any:
    return torch.func.vmap(f, randomness="different")(x)


def _traced(f: Any, x: Any) -> Any:
    with warnings.catch_warnings():  # JitTrace_ELBO uses torch.jit.trace, though deprecated
        warnings.simplefilter("ignore")
        return torch.jit.trace(f, x, check_trace=False)(x)


Cells = tuple[Callable[[Any, Any], Any], tuple[str, str, str, str]]
TRANSFORMS: dict[str, dict[str, Cells]] = {
    "pyro": {  # cells: inside, passed, closed over, outside
        "vmap": (_vmapped, (RIGHT, LOST, RIGHT, LOST)),
        "grad": (_with_gradient, (RIGHT, LOST, RIGHT, LOST)),
        "checkpoint": (_checkpoint, (RIGHT, RIGHT, RIGHT, RIGHT)),
        "inference mode": (_inference, (RIGHT, RIGHT, RIGHT, RIGHT)),
        "vmap in inference mode": (
            lambda f, x: _inference(lambda x: _vmapped(f, x), x),
            (RIGHT, LOST, RIGHT, LOST),
        ),
        "compile": (compiled, (RIGHT, LOST, LOST, RIGHT)),
        "compile of vmap": (
            lambda f, x: compiled(torch.func.vmap(f, randomness="different"), x),
            (RIGHT, LOST, LOST, LOST),
        ),
        "jit.trace": (_traced, (RIGHT, RIGHT, RIGHT, LOST)),
    },
    "numpyro": {
        "jit": (lambda f, x: jax.jit(f)(x), (RIGHT, LOST, RIGHT, LOST)),
        "vmap": (lambda f, x: jax.vmap(f)(x), (RIGHT, LOST, RIGHT, LOST)),
        "jit of vmap": (lambda f, x: jax.jit(jax.vmap(f))(x), (RIGHT, LOST, RIGHT, LOST)),
        "map": (lambda f, x: jax.lax.map(f, x), (RIGHT, LOST, RIGHT, LOST)),
        "scan": (
            lambda f, x: jax.lax.scan(lambda c, x: (c, f(x)), 0, x)[1],
            (RIGHT, LOST, RIGHT, LOST),
        ),
        "cond": (lambda f, x: jax.lax.cond(True, f, f, x), (RIGHT, LOST, RIGHT, LOST)),
        "grad": (
            lambda f, x: jax.grad(lambda x: (0 * x.sum(), f(x)), has_aux=True)(x)[1],
            (RIGHT, LOST, RIGHT, LOST),
        ),
        "checkpoint": (lambda f, x: jax.checkpoint(f)(x), (RIGHT, LOST, RIGHT, LOST)),
    },
}


@pytest.mark.share
@cells(TRANSFORMS)
@pytest.mark.parametrize("name", STRAIGHT_THROUGH)
def test_each_side_of_a_transformation(framework: str, way: str, name: str, seed: int) -> None:
    """In each cell the result is the right density, or the error.

    A share of the cases runs each transformation with one of the two distributions in turn.
    """
    transform, (within, given, closed, out) = TRANSFORMS[framework][way]
    backend, context = enter(framework)
    with context:
        d, value, y = pair(backend, name, seed)
        expected, logits = density(name, y, TEMPERATURE), backend.array(LOGITS)
        result = transform(inside(backend, name), logits)
        assert within == RIGHT
        check_inside(backend, name, result)
        drawn = density(name, backend.numpy(result[1]), TEMPERATURE)
        check(out, lambda: d.log_prob(result[0]), drawn, backend)
        check(given, lambda: transform(d.log_prob, value), expected, backend)
        check(closed, lambda: transform(lambda x: d.log_prob(value), logits), expected, backend)


# In torch a value can be changed in place inside a transformation.


@needs_torch
@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("way", TRANSFORMS["pyro"])
def test_a_write_inside_a_transformation_is_noticed(way: str, write: str, whole: bool) -> None:
    """After a write the density raises the error; in compiled code for simplex values as well.

    A share of the compiled cases runs each write with one of the four distributions in turn.
    """
    transform, logits = TRANSFORMS["pyro"][way][0], Torch().array(LOGITS)
    names, compiled = STRAIGHT_THROUGH, "compile" in way
    if compiled:
        names = [*STRAIGHT_THROUGH, *VIEWS]
        names = names if whole else [names[list(WRITES).index(write)]]
    for name in names:
        assert (
            outcome(lambda name=name: transform(inside(Torch(), name, WRITES[write]), logits))
            is LOST
        )


@needs_torch
@pytest.mark.parametrize("name", STRAIGHT_THROUGH)
def test_inside_torch_func_grad_the_gradient_is_autograds(name: str, seed: int) -> None:
    """The gradients of the value and of its density agree with torch.autograd's."""

    def total(logits: Any) -> Any:
        torch.manual_seed(seed)
        value, _, log_prob = inside(Torch(), name)(logits)
        return log_prob.sum() + value.square().sum()

    logits = Torch().array(LOGITS)
    actual = Torch().numpy(torch.func.grad(total)(logits))
    np.testing.assert_allclose(actual, Torch().grad(total, logits)[0], 1e-9)


# In JAX a map from a value's identity keeps the relaxed sample behind it.


@needs_jax
def test_nothing_is_left_in_the_map_when_the_values_are_gone(seed: int) -> None:
    """Values that are arrays, or tracers of jit, grad, vmap and scan, leave no entry in the map."""
    import jax

    from relaxed_dists_jax import carrier

    gc.collect()
    before = set(carrier._relaxed)
    d = make(Jax(), STRAIGHT_THROUGH[0], dtype="float32")

    def total(logits: Any, key: Any) -> Any:
        inner = type(d)(TEMPERATURE, logits=logits)
        value = inner(rng_key=key)
        return inner.log_prob(value).sum() + value.sum()

    keys = jax.random.split(jax.random.key(seed), 3)
    value = d(rng_key=keys[0])
    assert (id(value), "log_simplex") in set(carrier._relaxed) - before
    gradient = jax.grad(total)
    gradient(d.logits, keys[0])
    jax.jit(jax.vmap(gradient, (None, 0)))(d.logits, keys)
    jax.lax.scan(lambda c, key: (c, total(d.logits, key)), 0, keys)
    with jax.checking_leaks():
        jax.jit(lambda key: total(d.logits, key))(keys[1])
    del value
    gc.collect()
    assert set(carrier._relaxed) <= before


@needs_jax
def test_a_new_array_at_an_old_ones_address_has_no_relaxed_sample(seed: int) -> None:
    """Python reuses the id of a value that is gone, but a new array doesn't get its sample."""
    import jax
    import jax.numpy as jnp

    backend, name = Jax(), STRAIGHT_THROUGH[0]
    d, corner = make(backend, name, dtype="float32"), hard(name, LOGITS)
    addresses, others = set(), []
    for i in range(300):
        addresses.add(id(d(rng_key=jax.random.key(seed + i))))
        others.append(jnp.asarray(corner, "float32"))
    assert addresses & set(map(id, others))
    assert all(outcome(lambda z=z: d.log_prob(z)) is LOST for z in others)
