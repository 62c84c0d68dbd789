"""JAX: the density of an own sample, which is computed from the noise that the draw kept."""

from typing import Any

import numpy as np
import pytest

from harness import enable_x64

jax = pytest.importorskip("jax")
numpyro = pytest.importorskip("relaxed_dists.numpyro")

from jax import numpy as jnp  # noqa: E402

from relaxed_dists_jax.carrier import get_relaxed  # noqa: E402

NAMES = ["RelaxedOneHotCategorical", "RelaxedOneHotCategoricalStraightThrough"]
KEY = jax.random.key(3)


def total(name: str, own: bool, logits: Any, t: Any) -> Any:
    """A function of a draw and its density, computed as an own sample's or as any other's."""
    distribution = getattr(numpyro, name)(t, logits=logits)
    value, intermediates = distribution.sample_with_intermediates(KEY)
    assert get_relaxed(intermediates[0], "own") is not None
    if not own:
        distribution = getattr(numpyro, name)(t * 1.0, logits=logits * 1.0)
    density = distribution.log_prob(value, intermediates)
    return (value * jnp.arange(logits.shape[-1])).sum() + (density * density).sum()


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_an_own_density_is_the_density(name: str, masked: bool, seed: int) -> None:
    """Values, gradients and second derivatives agree to 1e-9, also by rows in vmap."""
    logits = np.random.default_rng(seed).normal(size=(4, 5))
    t = np.array([0.01, 0.3, 1.0, 30.0])
    if masked:
        logits[0, :3] = logits[1, 4] = -np.inf
    with enable_x64():
        found = []
        for own in (True, False):

            def function(*given: Any, own: bool = own) -> Any:
                return total(name, own, *given)

            value = jax.jit(jax.value_and_grad(function, (0, 1)))
            second = jax.jit(jax.grad(lambda *x: jax.grad(function, 1)(*x).sum(), (0, 1)))
            rows = jax.jit(jax.vmap(jax.grad(function, (0, 1))))
            found.append([f(jnp.asarray(logits), jnp.asarray(t)) for f in (value, second, rows)])
    for x, y in zip(*map(jax.tree.leaves, found), strict=True):
        np.testing.assert_allclose(x, y, 1e-9, 1e-9 * np.abs(y).max())


@pytest.mark.parametrize("name", NAMES)
def test_a_row_without_categories(name: str) -> None:
    """Its value, density and gradients are 0."""
    logits = jnp.full((2, 3), -jnp.inf)
    found = jax.jit(jax.value_and_grad(lambda *x: total(name, True, *x), (0, 1)))(logits, 0.5)
    for x in jax.tree.leaves(found):
        np.testing.assert_array_equal(x, 0.0)
