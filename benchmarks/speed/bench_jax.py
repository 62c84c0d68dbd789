"""The subjects timed in JAX, under jit: ours, a hand-written version, TFP's and NumPyro's."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax import Array, random
from jax.scipy.special import gammaln, logsumexp

from benchmarks.speed.bench_report import SHAPES, SUBSETS, subset_name
from benchmarks.torture.subjects import tfp_distributions
from relaxed_dists import numpyro as ours

T = 0.5
Step = Callable[[], object]
Cases = dict[str, dict[str, Step]]  # by operation and subject: what is timed
Draw = Callable[[Array, Array], tuple[Array, Array]]


def density(x: Array, logits: Array) -> Array:
    """The log density by hand, as the paper writes it."""
    k, scores = logits.shape[-1], logits - T * jnp.log(x)
    constant = gammaln(float(k)) + (k - 1) * jnp.log(T)
    return constant + (scores - jnp.log(x)).sum(-1) - k * logsumexp(scores, -1)


def plain(key: Array, logits: Array) -> tuple[Array, Array]:
    """A draw and its log density."""
    x = jax.nn.softmax((logits + random.gumbel(key, logits.shape)) / T)
    return x, density(x, logits)


def of(make: Callable[[Array], Any]) -> Draw:
    """A function to a draw and its density by our distribution, called as in NumPyro's ELBO."""

    def draw(key: Array, logits: Array) -> tuple[Array, Array]:
        d = make(logits)
        x, intermediates = d.sample_with_intermediates(key)
        return x, d.log_prob(x, intermediates)

    return draw


def of_numpyro(key: Array, logits: Array) -> tuple[Array, Array]:
    """A draw and its density by NumPyro's binary distribution."""
    d = dist.RelaxedBernoulliLogits(T, logits)
    x = d.sample(key)
    return x, d.log_prob(x)


def of_tfp(name: str) -> Draw:
    """A function to a draw and its density by a distribution of TFP."""

    def draw(key: Array, logits: Array) -> tuple[Array, Array]:
        d = getattr(tfp_distributions(), name)(T, logits=logits)
        x = d.sample(seed=key)
        return x, d.log_prob(x)

    return draw


def has_tfp() -> bool:
    """Whether TFP is installed."""
    try:
        tfp_distributions()
    except ImportError:
        return False
    return True


def numbers(outcome: Any) -> Any:
    """The result of a step, in NumPy."""
    return np.asarray(outcome)


def same_density(logits: Array, key: Array) -> None:
    """Check our density against the paper's, at a draw that is moved away from the simplex's edges.

    Raises:
        AssertionError: If the two densities differ.
    """
    k = logits.shape[-1]
    x = 0.9 * plain(key, logits)[0] + 0.1 / k
    found = ours.RelaxedOneHotCategorical(T, logits=logits).log_prob(x)
    np.testing.assert_allclose(found, density(x, logits), rtol=1e-4, atol=1e-5 * k * (1 + k) ** 0.5)


def of_shape(shape: tuple[int, ...]) -> Cases:
    """The cases of a shape."""
    logits, weights = (
        jnp.broadcast_to(random.normal(random.key(i), shape[-1:]), shape) for i in range(2)
    )
    key = random.key(2)
    same_density(logits, key)
    soft = {"ours": of(lambda x: ours.RelaxedOneHotCategorical(T, logits=x)), "by hand": plain}
    binary = {"ours": of(lambda x: ours.RelaxedBernoulli(T, logits=x)), "NumPyro": of_numpyro}
    if has_tfp():
        soft["TFP"] = of_tfp("RelaxedOneHotCategorical")
        binary["TFP"] = of_tfp("RelaxedBernoulli")

    # Keys and weights are arguments, since XLA may fold the results of constants when it compiles.
    def drawn(draw: Draw) -> Step:
        made = jax.jit(lambda key, x: draw(key, x)[0])
        return lambda: jax.block_until_ready(made(key, logits))

    def elbo_term(draw: Draw) -> Step:
        def term(logits: Array, key: Array, weights: Array) -> Array:
            x, density = draw(key, logits)
            return (x * weights).sum() + density.sum()

        made = jax.jit(jax.value_and_grad(term))
        return lambda: jax.block_until_ready(made(logits, key, weights))[1]

    return {
        "draw": {k: drawn(d) for k, d in soft.items()},
        "ELBO term": {k: elbo_term(d) for k, d in soft.items()},
        "binary ELBO term": {k: elbo_term(d) for k, d in binary.items()},
    }


def subsets() -> Cases:
    """Relaxed subsets and their gradient, by our class and by the loop of Xie and Ermon (2019)."""

    def loop(key: Array, logits: Array, k: int) -> Array:
        def take(carry: tuple[Array, Array, Array], _: Any) -> tuple[Any, None]:
            scores, total, a = carry
            scores += jnp.log(jnp.maximum(1 - a, 1e-20))
            a = jax.nn.softmax(scores / T)
            return (scores, total + a, a), None

        scores, zero = logits + random.gumbel(key, logits.shape), jnp.zeros_like(logits)
        return jax.lax.scan(take, (scores, zero, zero), None, k)[0][1]

    def mine(key: Array, logits: Array, k: int) -> Array:
        return ours.RelaxedSubset(T, k, logits=logits).sample(key)  # type: ignore[no-any-return]

    found: Cases = {}
    for rows, categories, k in SUBSETS:
        steps = found[subset_name((rows, categories, k))] = {}
        logits, weights = (random.normal(random.key(i), (categories,)) for i in range(2))
        logits = jnp.tile(logits, (rows, 1))
        for name, draw in (("the paper's loop", loop), ("ours", mine)):

            def term(x: Array, key: Array, w: Array, k: int = k, draw: Any = draw) -> Array:
                return (draw(key, x, k) * w).sum()

            made = jax.jit(jax.grad(term))
            given = (logits, random.key(2), weights)
            steps[name] = lambda made=made, given=given: jax.block_until_ready(made(*given))
    return found


def cases() -> Iterator[tuple[tuple[int, ...], Cases]]:
    """All shapes with their cases, made when it is their turn."""
    yield SHAPES[1], subsets()
    for shape in SHAPES:
        yield shape, of_shape(shape)
