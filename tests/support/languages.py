"""The statements and the inference of both frameworks behind one interface."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from harness import Backend, jax, pyro, torch

Params = dict[str, Any]


class Language:
    """All that a model, and a test of one, needs of a framework."""

    mean_field: str  # an ELBO that uses a discrete guide's probabilities, not only samples

    def __init__(self, backend: Backend) -> None:
        self.backend = backend

    def sample(self, name: str, d: Any, obs: Any = None) -> Any:
        """A sample statement."""
        return self.backend.ppl.sample(name, d, obs=obs)

    def plate(self, name: str, size: int, dim: int, subsample: int | None = None) -> Any:
        """A plate."""
        return self.backend.ppl.plate(name, size, subsample_size=subsample, dim=dim)

    def deterministic(self, name: str, value: Any) -> Any:
        """A deterministic site."""
        return self.backend.ppl.deterministic(name, value)

    def param(self, name: str) -> Any:
        """A parameter, 0 at first."""
        return self.backend.ppl.param(name, self.backend.array(0.0, "float32"))

    def normal(self, loc: Any, scale: Any) -> Any:
        """A normal distribution."""
        return self.backend.dist.Normal(loc, scale)

    def sigmoid_of(self, d: Any) -> Any:
        """The distribution of the logistic function of a draw."""
        dist = self.backend.dist
        return dist.TransformedDistribution(d, [dist.transforms.SigmoidTransform()])

    def exp(self, x: Any) -> Any:
        """The exponential."""
        return self.backend.xp.exp(x)

    def sigmoid(self, x: Any) -> Any:
        """The logistic function."""
        raise NotImplementedError

    def mask(self, mask: Any) -> AbstractContextManager[Any]:
        """The handler that leaves out log densities where the mask is false."""
        return self.backend.handlers.mask(mask=mask)

    def scale(self, scale: Any) -> AbstractContextManager[Any]:
        """The handler that multiplies log densities."""
        return self.backend.handlers.scale(scale=scale)

    def trace(self, model: Callable[..., Any], seed: Any = 0) -> dict[str, Any]:
        """The sites of a run of the model, by name; in NumPyro the seed may be a key."""
        raise NotImplementedError

    def values(self, model: Callable[..., Any], seed: int = 0) -> dict[str, Any]:
        """The values of the sites of a run of the model, by name."""

        def run() -> dict[str, Any]:
            found = self.trace(model, seed).items()
            return {n: site["value"] for n, site in found if site["type"] not in ("args", "return")}

        return self.backend.compiled(run)()

    def log_density(self, model: Any, given: dict[str, Any]) -> float:
        """The joint log density of a model with values given to its latent sites."""
        raise NotImplementedError

    def exact(self, model: Any, *args: Any, **kwargs: Any) -> float:
        """The exact_evidence of a model that has no parameters."""
        raise NotImplementedError

    def bounds(self, model: Any, guide: Any, seed: int, *args: Any, **kwargs: Any) -> Any:
        """The evidence_bounds of a model and a guide without parameters, with no progress bar."""
        raise NotImplementedError

    def ask(self, guide: Any, method: str, params: Params, *args: Any) -> Any:
        """The result of a guide's method; in NumPyro the method gets the parameters."""
        raise NotImplementedError

    def adam(self, rate: float) -> Any:
        """The framework's Adam."""
        raise NotImplementedError

    def make_elbo(self, made: str | Callable[..., Any], nesting: int = 1, **options: Any) -> Any:
        """An ELBO, by its name in the framework or its class; `nesting` is Pyro's plate nesting."""
        raise NotImplementedError

    def elbo(self, name: str, model: Any, guide: Any, seed: int, particles: int) -> float:
        """An estimate by the framework's ELBO of this name, with vectorised particles."""
        raise NotImplementedError

    def slopes(
        self, loss: Any, model: Any, guide: Any, seed: int, whole: bool = True
    ) -> Callable[[Params], tuple[float, dict[str, np.ndarray]]]:
        """A function from parameters to a loss and its gradients, with the same noise each time."""
        raise NotImplementedError

    def steps(self, model: Any, guide: Any, **options: Any) -> Callable[[], Any]:
        """A function that runs one step of AnnealedSVI at temperature 0.5.

        In NumPyro the function calls init, which traces the sites.
        """
        args = model, guide, self.adam(0.01), self.backend.infer.Trace_ELBO(), lambda step: 0.5
        return self._step(self.backend.names.AnnealedSVI(*args, **options))

    def _step(self, svi: Any) -> Callable[[], Any]:
        raise NotImplementedError

    def first_step(self, model: Any, guide: Any, **options: Any) -> None:
        """One step of AnnealedSVI."""
        self.steps(model, guide, **options)()

    def fit(self, svi: Any, steps: int, seed: int, whole: bool = True) -> tuple[Params, Any]:
        """The parameters and the losses of an SVI after some steps, in JAX compiled as a whole."""
        raise NotImplementedError

    def train(
        self, svi: Any, x: Any, steps: int, seed: int, by_hand: Callable[[int], Any] | None = None
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """The losses and parameters of an SVI that is trained on data, step by step.

        `by_hand` maps a step to the temperature that is passed to it. In Pyro the learning rate's
        schedule, if there is one, advances after each step.
        """
        given = [{} if by_hand is None else {"temperature": by_hand(s)} for s in range(steps)]
        return self._train(svi, x, seed, given)

    def _train(self, svi: Any, x: Any, seed: int, given: list[dict[str, Any]]) -> Any:
        raise NotImplementedError

    def mcmc(self, kernel: Any, seed: int, samples: int, warmup: int, whole: bool = True) -> Params:
        """The draws of a kernel, in JAX compiled as a whole."""
        raise NotImplementedError

    def hmc(self, kernel: str, model: Any) -> Params:
        """A few draws by HMC or NUTS."""
        return self.mcmc(getattr(self.backend.infer, kernel)(model), 0, 4, 2, whole=False)


class Pyro(Language):
    """The statements and the inference of Pyro."""

    mean_field = "TraceEnum_ELBO"

    def sigmoid(self, x: Any) -> Any:
        return x.sigmoid()

    def trace(self, model: Callable[..., Any], seed: Any = 0) -> dict[str, Any]:
        pyro.set_rng_seed(seed)
        return dict(pyro.poutine.trace(model).get_trace().nodes)

    def log_density(self, model: Any, given: dict[str, Any]) -> float:
        conditioned = pyro.poutine.condition(model, data=given)
        return float(pyro.poutine.trace(conditioned).get_trace().log_prob_sum())

    def exact(self, model: Any, *args: Any, **kwargs: Any) -> float:
        return self.backend.names.exact_evidence(model, *args, **kwargs)

    def bounds(self, model: Any, guide: Any, seed: int, *args: Any, **kwargs: Any) -> Any:
        pyro.set_rng_seed(seed)
        how = {"progress_bar": False, **kwargs}
        return self.backend.names.evidence_bounds(model, guide, *args, **how)

    def ask(self, guide: Any, method: str, params: Params, *args: Any) -> Any:
        return getattr(guide, method)(*args)

    def adam(self, rate: float) -> Any:
        return self.backend.optim.Adam({"lr": rate})

    def make_elbo(self, made: str | Callable[..., Any], nesting: int = 1, **options: Any) -> Any:
        made = getattr(self.backend.infer, made) if isinstance(made, str) else made
        return made(max_plate_nesting=nesting, **options)

    def elbo(self, name: str, model: Any, guide: Any, seed: int, particles: int) -> float:
        pyro.set_rng_seed(seed)
        if "Enum" in name:
            guide = self.backend.infer.config_enumerate(guide)
        elbo = getattr(self.backend.infer, name)(num_particles=particles, vectorize_particles=True)
        with torch.no_grad():
            return -elbo.loss(model, guide)

    def slopes(
        self, loss: Any, model: Any, guide: Any, seed: int, whole: bool = True
    ) -> Callable[[Params], tuple[float, dict[str, np.ndarray]]]:
        def f(params: Params) -> tuple[float, dict[str, np.ndarray]]:
            pyro.clear_param_store()
            pyro.set_rng_seed(seed)
            for name, x in params.items():
                pyro.param(name, x)
            found = loss.loss_and_grads(model, guide)
            grads = {name: pyro.param(name).grad for name in params}
            pyro.clear_param_store()
            return found, {name: g.numpy() for name, g in grads.items() if g is not None}

        return f

    def _step(self, svi: Any) -> Callable[[], Any]:
        return svi.step

    def fit(self, svi: Any, steps: int, seed: int, whole: bool = True) -> tuple[Params, Any]:
        pyro.clear_param_store()
        pyro.set_rng_seed(seed)
        losses = [svi.step() for _ in range(steps)]
        return dict(pyro.get_param_store()), losses

    def _train(self, svi: Any, x: Any, seed: int, given: list[dict[str, Any]]) -> Any:
        pyro.clear_param_store()
        pyro.set_rng_seed(seed)
        losses = []
        for kwargs in given:
            losses.append(svi.step(x, **kwargs))
            if hasattr(svi.optim, "step"):
                svi.optim.step()
        store = pyro.get_param_store()
        return np.array(losses), {k: v.detach().numpy().copy() for k, v in store.items()}

    def mcmc(self, kernel: Any, seed: int, samples: int, warmup: int, whole: bool = True) -> Params:
        pyro.set_rng_seed(seed)
        how = {"num_samples": samples, "warmup_steps": warmup, "disable_progbar": True}
        chain = self.backend.infer.MCMC(kernel, **how)
        chain.run()
        return {name: x.numpy() for name, x in chain.get_samples().items()}


class NumPyro(Language):
    """The statements and the inference of NumPyro."""

    mean_field = "TraceMeanField_ELBO"

    def sigmoid(self, x: Any) -> Any:
        return jax.nn.sigmoid(x)

    def trace(self, model: Callable[..., Any], seed: Any = 0) -> dict[str, Any]:
        h = self.backend.handlers
        return dict(h.trace(h.seed(model, seed)).get_trace())

    def log_density(self, model: Any, given: dict[str, Any]) -> float:
        density, seeded = self.backend.infer.util.log_density, self.backend.handlers.seed(model, 0)
        return float(jax.jit(lambda given: density(seeded, (), {}, given)[0])(given))

    def exact(self, model: Any, *args: Any, **kwargs: Any) -> float:
        return self.backend.names.exact_evidence({}, model, *args, **kwargs)

    def bounds(self, model: Any, guide: Any, seed: int, *args: Any, **kwargs: Any) -> Any:
        how = {"progress_bar": False, **kwargs}
        key = jax.random.key(seed)
        return self.backend.names.evidence_bounds(key, {}, model, guide, *args, **how)

    def ask(self, guide: Any, method: str, params: Params, *args: Any) -> Any:
        return getattr(guide, method)(params, *args)

    def adam(self, rate: float) -> Any:
        return self.backend.optim.Adam(rate)

    def make_elbo(self, made: str | Callable[..., Any], nesting: int = 1, **options: Any) -> Any:
        made = getattr(self.backend.infer, made) if isinstance(made, str) else made
        return made(**options)

    def elbo(self, name: str, model: Any, guide: Any, seed: int, particles: int) -> float:
        elbo = getattr(self.backend.infer, name)(num_particles=particles)
        return -float(elbo.loss(jax.random.key(seed), {}, model, guide))

    def slopes(
        self, loss: Any, model: Any, guide: Any, seed: int, whole: bool = True
    ) -> Callable[[Params], tuple[float, dict[str, np.ndarray]]]:
        both = jax.value_and_grad(lambda p: loss.loss(jax.random.key(seed), p, model, guide))
        both = jax.jit(both) if whole else both

        def f(params: Params) -> tuple[float, dict[str, np.ndarray]]:
            found, grads = both(params)
            return float(found), {name: np.asarray(g) for name, g in grads.items()}

        return f

    def _step(self, svi: Any) -> Callable[[], Any]:
        return lambda: svi.init(jax.random.key(0))

    def fit(self, svi: Any, steps: int, seed: int, whole: bool = True) -> tuple[Params, Any]:
        def run(key: Any) -> Any:
            result = svi.run(key, steps, progress_bar=False)
            return result.params, result.losses

        params, losses = (jax.jit(run) if whole else run)(jax.random.key(seed))
        return params, losses.tolist()

    def _train(self, svi: Any, x: Any, seed: int, given: list[dict[str, Any]]) -> Any:
        state = jax.jit(svi.init)(jax.random.key(seed), x, **given[0])
        update, losses = jax.jit(svi.update), []
        for kwargs in given:
            state, loss = update(state, x, **kwargs)
            losses.append(float(loss))
        return np.array(losses), {k: np.asarray(v) for k, v in svi.get_params(state).items()}

    def mcmc(self, kernel: Any, seed: int, samples: int, warmup: int, whole: bool = True) -> Params:
        how = {"num_samples": samples, "num_warmup": warmup, "progress_bar": False}
        chain = self.backend.infer.MCMC(kernel, **how)

        def run(key: Any) -> Params:
            chain.run(key)
            return chain.get_samples()

        found = (jax.jit(run) if whole else run)(jax.random.key(seed))
        return {name: np.asarray(x) for name, x in found.items()}


LANGUAGES: dict[str, type[Language]] = {"pyro": Pyro, "numpyro": NumPyro}


def kind(site: dict[str, Any]) -> str:
    """Whether a site is latent, observed or deterministic."""
    if site["type"] == "deterministic" or site["infer"].get("_deterministic"):
        return "deterministic"
    return "observed" if site["is_observed"] else "latent"
