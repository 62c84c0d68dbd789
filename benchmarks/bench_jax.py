"""What is timed in JAX, under jit: ours, a hand-written version, TFP's and NumPyro's laws."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax import Array, random
from jax.scipy.special import gammaln, logsumexp

from benchmarks.torture_subjects import tfp_distributions
from relaxed_dists import numpyro as ours

T = 0.5
Step = Callable[[], object]
Cases = dict[str, dict[str, Step]]  # operation: subject: what is timed
Draw = Callable[[Array, Array], tuple[Array, Array]]


def plain(key: Array, logits: Array) -> tuple[Array, Array]:
    """By hand: a draw and its log density, as the paper writes it."""
    x = jax.nn.softmax((logits + random.gumbel(key, logits.shape)) / T)
    k, scores = logits.shape[-1], logits - T * jnp.log(x)
    constant = gammaln(float(k)) + (k - 1) * jnp.log(T)
    return x, constant + (scores - jnp.log(x)).sum(-1) - k * logsumexp(scores, -1)


def plain_binary(key: Array, logits: Array) -> tuple[Array, Array]:
    """The same of the binary law."""
    y = (logits + random.logistic(key, logits.shape)) / T
    d = logits - T * y
    density = jnp.log(T) + d - 2 * jax.nn.softplus(d) + jax.nn.softplus(y) + jax.nn.softplus(-y)
    return jax.nn.sigmoid(y), density


def of(make: Callable[[Array], Any]) -> Draw:
    """The draw and the density of a law of ours, as NumPyro asks for them."""

    def draw(key: Array, logits: Array) -> tuple[Array, Array]:
        law = make(logits)
        x, intermediates = law.sample_with_intermediates(key)
        return x, law.log_prob(x, intermediates)

    return draw


def of_numpyro(key: Array, logits: Array) -> tuple[Array, Array]:
    """The draw and the density of NumPyro's binary law."""
    law = dist.RelaxedBernoulliLogits(T, logits)
    x = law.sample(key)
    return x, law.log_prob(x)


def of_tfp(name: str) -> Draw:
    """The draw and the density of a law of TFP's."""

    def draw(key: Array, logits: Array) -> tuple[Array, Array]:
        law = getattr(tfp_distributions(), name)(T, logits=logits)
        x = law.sample(seed=key)
        return x, law.log_prob(x)

    return draw


def has_tfp() -> bool:
    """Whether TFP is installed."""
    try:
        tfp_distributions()
    except ImportError:
        return False
    return True


def cases(shape: tuple[int, ...]) -> Cases:
    """All of a shape; the first subject of each is what the others are relative to."""
    logits, weights = (random.normal(random.key(i), shape) for i in range(2))
    key = random.key(2)
    soft = {"by hand": plain, "ours": of(lambda x: ours.RelaxedOneHotCategorical(T, logits=x))}
    hard = {"ours": of(lambda x: ours.RelaxedOneHotCategoricalStraightThrough(T, logits=x))}
    binary = {
        "by hand": plain_binary,
        "ours": of(lambda x: ours.RelaxedBernoulli(T, logits=x)),
        "NumPyro": of_numpyro,
    }
    if has_tfp():
        soft["TFP"] = of_tfp("RelaxedOneHotCategorical")
        binary["TFP"] = of_tfp("RelaxedBernoulli")

    # The same density: ours of a copy of another's draw.
    x, density = plain(key, logits)
    x = 0.9 * x + 0.1 / shape[-1]
    scores = logits - T * jnp.log(x)
    k = shape[-1]
    density = gammaln(float(k)) + (k - 1) * jnp.log(T) + (scores - jnp.log(x)).sum(-1)
    density -= k * logsumexp(scores, -1)
    mine = ours.RelaxedOneHotCategorical(T, logits=logits).log_prob(x)
    np.testing.assert_allclose(mine, density, rtol=1e-4, atol=1e-5 * k * (1 + k) ** 0.5)

    def forward(draw: Draw) -> Step:
        made = jax.jit(lambda key, x: draw(key, x)[0])
        return lambda: jax.block_until_ready(made(key, logits))

    def backward(draw: Draw, scored: bool) -> Step:
        def term(logits: Array) -> Array:
            x, density = draw(key, logits)
            return (x * weights).sum() + (density.sum() if scored else 0.0)

        made = jax.jit(jax.value_and_grad(term))
        return lambda: jax.block_until_ready(made(logits))

    def every(subjects: dict[str, Draw], kind: str) -> Cases:
        return {
            f"{kind}forward": {k: forward(d) for k, d in subjects.items()},
            f"{kind}forward and backward": {k: backward(d, False) for k, d in subjects.items()},
            f"{kind}ELBO term": {k: backward(d, True) for k, d in subjects.items()},
        }

    found = every(soft, "") | every({"by hand, soft": plain, **hard}, "hard, ")
    found |= every(binary, "binary, ")
    bits = jax.jit(lambda key, x: random.uniform(key, x.shape) + x)
    found["forward"]["limit: a uniform draw"] = lambda: jax.block_until_ready(bits(key, logits))
    return found
