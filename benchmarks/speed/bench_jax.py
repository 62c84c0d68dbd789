"""The subjects timed in JAX, under jit: ours, a hand-written version, TFP's and NumPyro's."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax import Array, random
from jax.scipy.special import gammaln, logsumexp

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


def plain_hard(key: Array, logits: Array) -> tuple[Array, Array]:
    """A rounded draw with the relaxed draw's gradient, and the relaxed draw's log density."""
    x, found = plain(key, logits)
    hard = jax.nn.one_hot(x.argmax(-1), x.shape[-1])
    return x + jax.lax.stop_gradient(hard - x), found


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


def cases(shape: tuple[int, ...]) -> Cases:
    """All cases of a shape; the others must agree with the first subject of an operation."""
    logits, weights = (
        jnp.broadcast_to(random.normal(random.key(i), shape[-1:]), shape) for i in range(2)
    )
    key = random.key(2)
    distributions: dict[str, Callable[[Array], Any]] = {
        "ours": lambda x: ours.RelaxedOneHotCategorical(T, logits=x),
        "binary, ours": lambda x: ours.RelaxedBernoulli(T, logits=x),
        "binary, NumPyro": lambda x: dist.RelaxedBernoulliLogits(T, x),
        "hard, ours": lambda x: ours.RelaxedOneHotCategoricalStraightThrough(T, logits=x),
    }
    soft = {"by hand": plain, "ours": of(distributions["ours"])}
    hard = {"by hand": plain_hard, "ours": of(distributions["hard, ours"])}
    binary = {"NumPyro": of_numpyro, "ours": of(distributions["binary, ours"])}
    if has_tfp():
        tfp = tfp_distributions()
        distributions["TFP"] = lambda x: tfp.RelaxedOneHotCategorical(T, logits=x)
        soft["TFP"] = of_tfp("RelaxedOneHotCategorical")
        binary["TFP"] = of_tfp("RelaxedBernoulli")
    same_density(logits, key)

    # Keys and weights are arguments, since XLA may fold the results of constants when it compiles.
    def forward(draw: Draw) -> Step:
        made = jax.jit(lambda key, x: draw(key, x)[0])
        return lambda: jax.block_until_ready(made(key, logits))

    def backward(draw: Draw, scored: bool) -> Step:
        def term(logits: Array, key: Array, weights: Array) -> Array:
            x, density = draw(key, logits)
            return (x * weights).sum() + (density.sum() if scored else 0.0)

        made = jax.jit(jax.value_and_grad(term))
        return lambda: jax.block_until_ready(made(logits, key, weights))[1]

    def every(subjects: dict[str, Draw], kind: str) -> Cases:
        return {
            f"{kind}forward": {k: forward(d) for k, d in subjects.items()},
            f"{kind}forward and backward": {k: backward(d, False) for k, d in subjects.items()},
            f"{kind}ELBO term": {k: backward(d, True) for k, d in subjects.items()},
        }

    found: Cases = {
        "construct": {k: (lambda make=make: make(logits)) for k, make in distributions.items()}
    }
    found |= every(soft, "") | every(hard, "hard, ") | every(binary, "binary, ")
    bits = jax.jit(lambda key, x: random.uniform(key, x.shape) + x)
    found["forward"]["limit: a uniform draw"] = lambda: jax.block_until_ready(bits(key, logits))
    return found
