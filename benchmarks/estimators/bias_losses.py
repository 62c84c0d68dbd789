"""The unbiased losses on the functions of `bias.py`, run as they are in training.

If a model's prior is the guide's distribution and f is a factor, the ELBO is the mean of f. The
gradients agree too: the KL divergence is at its minimum 0, where its gradient is 0.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

STEPS, BATCH, RATE = 500, 500, 0.03  # for the training of RELAX's surrogate


@dataclass(frozen=True)
class Loss:
    """A loss, by the name of its class, with its number of particles or the temperature."""

    name: str
    particles: int = 1
    temperature: float | None = None

    def __str__(self) -> str:
        given = f"{self.particles}" if self.temperature is None else f"{self.temperature}"
        return f"{self.name}({given})"

    def make(self, names: Any, surrogate: Any) -> Any:
        """The loss object, made from a framework's module `names`."""
        first = (surrogate,) if self.trained else ()
        return getattr(names, self.name)(*first, num_particles=self.particles)

    @property
    def trained(self) -> bool:
        """Whether the loss has a surrogate that is trained."""
        return self.name == "RELAX_ELBO"

    def estimator(self, names: Any) -> Any:
        """The estimator of the guide's site."""
        return None if self.temperature is None else names.GumbelSoftmax(self.temperature)


LOSSES = [
    Loss("LeaveOneOut_ELBO", 2),
    Loss("LeaveOneOut_ELBO", 10),
    *(Loss("REBAR_ELBO", temperature=t) for t in (0.1, 0.5, 1.0)),
    Loss("RELAX_ELBO", temperature=0.5),
]


def polynomial(w: Any, values: Any) -> Any:
    """RELAX's surrogate: a constant, and a weight for each entry and for its square."""
    s = values["z"].reshape(*values["z"].shape[:-2], -1)
    n = s.shape[-1]
    return w[0] + s @ w[1 : n + 1] + s**2 @ w[n + 1 :]


def torch_gradients(problem: Any, loss: Loss, draws: int) -> np.ndarray:
    """The gradient estimates of `draws` draws, in Pyro."""
    import pyro
    import torch

    import relaxed_dists.pyro as names

    made = loss.make(names, lambda values: polynomial(pyro.param("w"), values))
    estimator = loss.estimator(names)

    def gradients(seed: int, draws: int) -> Any:
        prior = torch.tensor(problem.logits).expand(draws, -1, -1)
        pyro.get_param_store()["logits"] = prior.clone()

        def model() -> None:
            with pyro.plate("draws", draws):
                z = pyro.sample("z", names.OneHotCategorical(logits=prior).to_event(1))
                pyro.factor("f", problem.f(torch, z))

        def guide() -> None:
            d = names.OneHotCategorical(logits=pyro.param("logits"), estimator=estimator)
            with pyro.plate("draws", draws):
                pyro.sample("z", d.to_event(1))

        pyro.set_rng_seed(seed)
        made.loss_and_grads(model, guide)
        return pyro.param("logits").grad

    pyro.clear_param_store()
    if loss.trained:
        w = pyro.param("w", torch.zeros(1 + 2 * problem.logits.size).double())
        adam = torch.optim.Adam([w], RATE)
        for step in range(STEPS):
            adam.zero_grad()
            gradients(1 + step, BATCH)
            adam.step()
    return -gradients(0, draws).numpy()


def jax_gradients(problem: Any, loss: Loss, draws: int) -> np.ndarray:
    """The gradient estimates of `draws` draws, in NumPyro."""
    import functools

    import jax
    import jax.numpy as jnp
    import numpyro
    import optax

    import relaxed_dists.numpyro as names

    made = loss.make(names, lambda params, values: polynomial(params["w"], values))
    estimator = loss.estimator(names)

    @functools.partial(jax.jit, static_argnums=2)
    def gradients(w: Any, seed: Any, draws: int) -> Any:
        prior = jnp.broadcast_to(problem.logits, (draws, *problem.logits.shape))

        def model() -> None:
            with numpyro.plate("draws", draws):
                z = numpyro.sample("z", names.OneHotCategorical(logits=prior).to_event(1))
                numpyro.factor("f", problem.f(jnp, z))

        def guide() -> None:
            logits = numpyro.param("logits", prior)
            d = names.OneHotCategorical(logits=logits, estimator=estimator)
            with numpyro.plate("draws", draws):
                numpyro.sample("z", d.to_event(1))

        params = {"logits": prior, "w": w}
        return jax.grad(lambda p: made.loss(jax.random.key(seed), p, model, guide))(params)

    with jax.enable_x64(True):
        w = jnp.zeros(1 + 2 * problem.logits.size)
        if loss.trained:
            adam = optax.adam(RATE)
            state = adam.init(w)
            for step in range(STEPS):
                change, state = adam.update(gradients(w, 1 + step, BATCH)["w"], state)
                w = w + change
        return -np.asarray(gradients(w, 0, draws)["logits"])
