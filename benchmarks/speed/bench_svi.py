"""Training steps that are timed: a VAE of 784-200-(20x10)-200-784, batches of 100."""

from collections.abc import Callable
from typing import Any

import numpy as np

PIXELS, HIDDEN, LATENTS, CLASSES, BATCH, T = 784, 200, 20, 10, 100, 0.5
Step = Callable[[], object]


def images() -> Any:
    """Random binary images, since only the time of a step is measured."""
    return (np.random.default_rng(0).random((BATCH, PIXELS)) < 0.5).astype(np.float32)


def torch_steps() -> dict[str, Step]:
    """SVI steps in Pyro, with Pyro's own class at its defaults, and with ours."""
    import pyro
    import pyro.distributions as dist
    import torch
    from torch import Tensor, nn

    from relaxed_dists import pyro as ours

    x = torch.as_tensor(images())

    def made(who: str, cls: Any) -> Step:
        torch.manual_seed(0)
        encode, decode = (
            nn.Sequential(nn.Linear(a, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, b))
            for a, b in ((PIXELS, LATENTS * CLASSES), (LATENTS * CLASSES, PIXELS))
        )
        t = torch.tensor(T)

        def model(x: Tensor) -> None:
            pyro.module(f"decode {who}", decode)
            with pyro.plate("data", BATCH):
                prior = cls(t, logits=torch.zeros(LATENTS, CLASSES)).to_event(1)
                z = pyro.sample("z", prior)
                pixels = dist.Bernoulli(logits=decode(z.flatten(-2)), validate_args=False)
                pyro.sample("x", pixels.to_event(1), obs=x)

        def guide(x: Tensor) -> None:
            pyro.module(f"encode {who}", encode)
            with pyro.plate("data", BATCH):
                logits = encode(x).unflatten(-1, (LATENTS, CLASSES))
                pyro.sample("z", cls(t, logits=logits).to_event(1))

        optim = pyro.optim.Adam({"lr": 1e-4})
        svi = pyro.infer.SVI(model, guide, optim, pyro.infer.Trace_ELBO())
        return lambda: svi.step(x)

    return {
        "Pyro": made("Pyro", dist.RelaxedOneHotCategorical),
        "ours": made("ours", ours.RelaxedOneHotCategorical),
    }


def jax_steps() -> dict[str, Step]:
    """Compiled SVI updates in NumPyro, with a straightforward class, and with ours."""
    import jax
    import jax.numpy as jnp
    import numpyro
    import numpyro.distributions as dist
    from jax import random
    from jax.scipy.special import gammaln, logsumexp
    from numpyro.distributions import constraints

    from relaxed_dists import numpyro as ours

    class Plain(dist.Distribution):
        """The distribution in the simplest way: the paper's formulas."""

        support = constraints.simplex
        reparametrized_params = ("logits", "temperature")
        arg_constraints = {  # noqa: RUF012
            "temperature": constraints.positive,
            "logits": constraints.real_vector,
        }

        def __init__(self, temperature: Any, logits: Any) -> None:
            self.temperature, self.logits = temperature, logits
            super().__init__(logits.shape[:-1], logits.shape[-1:])

        def sample(self, key: Any, sample_shape: tuple[int, ...] = ()) -> Any:
            """A draw."""
            noise = random.gumbel(key, self.shape(sample_shape))
            return jax.nn.softmax((self.logits + noise) / self.temperature)

        def log_prob(self, value: Any) -> Any:
            """The log density, kept finite at entries of 0."""
            k, logs = self.logits.shape[-1], jnp.log(jnp.maximum(value, 1e-30))
            scores = self.logits - self.temperature * logs
            constant = gammaln(float(k)) + (k - 1) * jnp.log(self.temperature)
            return constant + (scores - logs).sum(-1) - k * logsumexp(scores, -1)

    x = jnp.asarray(images())

    def dense(name: str, x: Any, width: int) -> Any:
        weight = numpyro.param(
            f"{name}_w", lambda key: random.normal(key, (x.shape[-1], width)) / x.shape[-1] ** 0.5
        )
        return x @ weight + numpyro.param(f"{name}_b", jnp.zeros(width))

    def made(cls: Any) -> Step:
        def model(x: Any) -> None:
            with numpyro.plate("data", BATCH):
                z = numpyro.sample("z", cls(T, logits=jnp.zeros((LATENTS, CLASSES))).to_event(1))
                hidden = jnp.tanh(dense("d1", z.reshape(BATCH, -1), HIDDEN))
                pixels = dist.Bernoulli(logits=dense("d2", hidden, PIXELS)).to_event(1)
                numpyro.sample("x", pixels, obs=x)

        def guide(x: Any) -> None:
            with numpyro.plate("data", BATCH):
                hidden = jnp.tanh(dense("e1", x, HIDDEN))
                logits = dense("e2", hidden, LATENTS * CLASSES).reshape(BATCH, LATENTS, CLASSES)
                numpyro.sample("z", cls(T, logits=logits).to_event(1))

        loss = numpyro.infer.Trace_ELBO()
        svi = numpyro.infer.SVI(model, guide, numpyro.optim.Adam(1e-4), loss)
        state = svi.init(random.key(0), x)
        update = jax.jit(svi.update)
        return lambda: jax.block_until_ready(update(state, x)[1])

    return {"by hand": made(Plain), "ours": made(ours.RelaxedOneHotCategorical)}
