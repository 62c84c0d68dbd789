"""A training that saves all it needs after each step, as a process that may be killed.

    python restarting.py FRAMEWORK CHECKPOINT STEPS

trains for STEPS steps, from the checkpoint if there is one. The script prints the number of each
step once the step is saved, and the parameters at the end.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from harness import BACKENDS, Backend, jax, pyro, torch
from relaxed_dists.schedules import cosine, linear, warmup
from training import DATA, OPTIMISERS, Sides, elbo


class Mixture(Sides):
    """A mixture on minibatches, with a relaxed site in the model and in the guide."""

    def __init__(self, backend: Backend) -> None:
        super().__init__(backend, minibatch=5)
        self.relaxed = backend.names.RelaxedOneHotCategorical

    def model(self, x: Any, temperature: Any) -> None:
        """Each row belongs to one of three components."""
        self.calls += 1
        probs, means = self.array([0.5, 0.3, 0.2]), self.array([-1.0, 0.0, 2.0])
        with self.rows() as i:
            z = self.ppl.sample("z", self.relaxed(temperature["prior"], probs=probs))
            self.ppl.sample("x", self.normal(z @ means, 1.0), obs=x[i])

    def guide(self, x: Any, temperature: Any) -> None:
        """Logits for each row, times one scale that is constrained to be positive."""
        logits = self.ppl.param("logits", self.array([[0.0, 0.0, 0.0]] * len(DATA)))
        positive = self.ppl.distributions.constraints.positive
        scale = self.ppl.param("scale", self.array(1.0), constraint=positive)
        with self.rows() as i:
            self.ppl.sample("z", self.relaxed(temperature["posterior"], logits=scale * logits[i]))


def make(backend: Backend) -> Any:
    """An SVI with two temperatures, and a schedule of the learning rate."""
    sides = Mixture(backend)
    temperature = {"prior": linear(1.0, 0.5, 30), "posterior": warmup(cosine(1.0, 0.3, 20), 10)}
    optim = OPTIMISERS[backend.framework]["scheduler"]()
    args = sides.model, sides.guide, optim, elbo(backend, "particles at once")
    return backend.names.AnnealedSVI(*args, temperature=temperature)


def in_pyro(backend: Backend, path: Path, forget: bool) -> Iterator[tuple[int, bytes]]:
    """Train without end: yield each saved step's number and the parameters after the step.

    `forget` leaves out the saved state of the random number generators.
    """
    pyro.clear_param_store()
    pyro.set_rng_seed(0)
    svi = make(backend)
    if path.exists():
        state = torch.load(path, weights_only=True)
        svi.load_state_dict({k: v for k, v in state.items() if not (forget and k == "rng")})
    while True:
        svi.step(backend.array(DATA))
        svi.optim.step()
        svi.save(path)
        yield svi.steps, pyro.param("logits").detach().numpy().tobytes()


def in_numpyro(backend: Backend, path: Path, forget: bool) -> Iterator[tuple[int, bytes]]:
    """The same training as in_pyro, in NumPyro."""
    svi, x = make(backend), backend.array(DATA)
    state = jax.jit(svi.init)(jax.random.key(0), x)  # load needs a state of the same structure
    if path.exists():
        saved = svi.load(path, state)
        state = saved._replace(rng_key=state.rng_key) if forget else saved
    update = jax.jit(svi.update)
    while True:
        state, _ = update(state, x)
        svi.save(path, state)
        yield int(state.optim_state[0]), np.asarray(svi.get_params(state)["logits"]).tobytes()


def training(backend: Backend, path: Path, forget: bool = False) -> Iterator[tuple[int, bytes]]:
    """The training in a framework, which yields step numbers and parameters."""
    return {"pyro": in_pyro, "numpyro": in_numpyro}[backend.framework](backend, path, forget)


if __name__ == "__main__":
    made = BACKENDS[sys.argv[1]]()
    with made.double():
        run = training(made, Path(sys.argv[2]))
        for _ in range(int(sys.argv[3])):
            step, end = next(run)
            print(step, flush=True)
        print(end.hex())
