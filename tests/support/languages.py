"""The statements of both frameworks behind one interface, so that a model is written once."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from harness import Backend


class Language:
    """What a model, and a test of one, needs of a framework."""

    mean_field: str  # an ELBO that knows more of a discrete guide than its samples

    def __init__(self, backend: Backend) -> None:
        self.backend = backend

    def sample(self, name: str, law: Any, obs: Any = None) -> Any:
        """A sample statement."""
        raise NotImplementedError

    def plate(self, name: str, size: int, dim: int, subsample: int | None = None) -> Any:
        """A plate."""
        raise NotImplementedError

    def normal(self, loc: Any, scale: Any) -> Any:
        """A normal law."""
        raise NotImplementedError

    def exp(self, x: Any) -> Any:
        """The exponential."""
        raise NotImplementedError

    def sigmoid(self, x: Any) -> Any:
        """The logistic function."""
        raise NotImplementedError

    def sigmoid_of(self, law: Any) -> Any:
        """The law of the logistic function of a draw."""
        raise NotImplementedError

    def mask(self, mask: Any) -> AbstractContextManager[Any]:
        """The handler that leaves out where the mask is false."""
        raise NotImplementedError

    def scale(self, scale: Any) -> AbstractContextManager[Any]:
        """The handler that multiplies log densities."""
        raise NotImplementedError

    def trace(self, model: Callable[..., Any], seed: int) -> dict[str, Any]:
        """The sites of a run of the model."""
        raise NotImplementedError

    def deterministic(self, name: str, value: Any) -> Any:
        """A value that is kept."""
        raise NotImplementedError

    def exact(self, model: Any, *args: Any, **kwargs: Any) -> float:
        """exact_evidence."""
        raise NotImplementedError

    def param(self, name: str) -> Any:
        """A parameter, 0 at first."""
        raise NotImplementedError

    def steps(self, model: Any, guide: Any, **options: Any) -> Callable[[], Any]:
        """A function that takes a step of AnnealedSVI each time it is called."""
        raise NotImplementedError

    def first_step(self, model: Any, guide: Any, **options: Any) -> None:
        """One step of AnnealedSVI."""
        self.steps(model, guide, **options)()

    def hmc(self, kernel: str, model: Any) -> dict[str, Any]:
        """A few draws by HMC or NUTS."""
        raise NotImplementedError

    def bounds(self, model: Any, guide: Any, seed: int, *args: Any, **kwargs: Any) -> Any:
        """evidence_bounds, without a progress bar."""
        raise NotImplementedError

    def elbo(self, name: str, model: Any, guide: Any, seed: int, particles: int) -> float:
        """An estimate by the framework's ELBO of that name."""
        raise NotImplementedError


class Pyro(Language):
    """Pyro."""

    mean_field = "TraceEnum_ELBO"

    def sample(self, name: str, law: Any, obs: Any = None) -> Any:
        """pyro.sample."""
        import pyro

        return pyro.sample(name, law, obs=obs)

    def plate(self, name: str, size: int, dim: int, subsample: int | None = None) -> Any:
        """pyro.plate."""
        import pyro

        return pyro.plate(name, size, subsample_size=subsample, dim=dim)

    def normal(self, loc: Any, scale: Any) -> Any:
        """pyro.distributions.Normal."""
        import pyro

        return pyro.distributions.Normal(loc, scale)

    def exp(self, x: Any) -> Any:
        """torch.exp."""
        return x.exp()

    def sigmoid(self, x: Any) -> Any:
        """torch.sigmoid."""
        return x.sigmoid()

    def sigmoid_of(self, law: Any) -> Any:
        """A TransformedDistribution."""
        import pyro.distributions as dist

        return dist.TransformedDistribution(law, [dist.transforms.SigmoidTransform()])

    def mask(self, mask: Any) -> AbstractContextManager[Any]:
        """poutine.mask."""
        from pyro import poutine

        return poutine.mask(mask=mask)

    def scale(self, scale: Any) -> AbstractContextManager[Any]:
        """poutine.scale."""
        from pyro import poutine

        return poutine.scale(scale=scale)

    def trace(self, model: Callable[..., Any], seed: int) -> dict[str, Any]:
        """poutine.trace."""
        import pyro

        pyro.set_rng_seed(seed)
        return dict(pyro.poutine.trace(model).get_trace().nodes)

    def deterministic(self, name: str, value: Any) -> Any:
        """pyro.deterministic."""
        import pyro

        return pyro.deterministic(name, value)

    def exact(self, model: Any, *args: Any, **kwargs: Any) -> float:
        """exact_evidence."""
        return self.backend.names.exact_evidence(model, *args, **kwargs)

    def param(self, name: str) -> Any:
        """pyro.param."""
        import pyro
        import torch

        return pyro.param(name, torch.tensor(0.0))

    def steps(self, model: Any, guide: Any, **options: Any) -> Callable[[], Any]:
        """AnnealedSVI.step, with Trace_ELBO at temperature 0.5."""
        import pyro.infer
        import pyro.optim

        adam, loss = pyro.optim.Adam({"lr": 0.01}), pyro.infer.Trace_ELBO()
        svi = self.backend.names.AnnealedSVI(model, guide, adam, loss, lambda step: 0.5, **options)
        return svi.step

    def hmc(self, kernel: str, model: Any) -> dict[str, Any]:
        """pyro.infer.MCMC."""
        import pyro.infer

        how = {"num_samples": 4, "warmup_steps": 2, "disable_progbar": True}
        mcmc = pyro.infer.MCMC(getattr(pyro.infer, kernel)(model), **how)
        mcmc.run()
        return {name: x.numpy() for name, x in mcmc.get_samples().items()}

    def bounds(self, model: Any, guide: Any, seed: int, *args: Any, **kwargs: Any) -> Any:
        """evidence_bounds, after setting the seed."""
        import pyro

        pyro.set_rng_seed(seed)
        how = {"progress_bar": False, **kwargs}
        return self.backend.names.evidence_bounds(model, guide, *args, **how)

    def elbo(self, name: str, model: Any, guide: Any, seed: int, particles: int) -> float:
        """Its loss, vectorised."""
        import pyro.infer
        import torch

        pyro.set_rng_seed(seed)
        if "Enum" in name:
            guide = pyro.infer.config_enumerate(guide)
        elbo = getattr(pyro.infer, name)(num_particles=particles, vectorize_particles=True)
        with torch.no_grad():
            return -elbo.loss(model, guide)


class NumPyro(Language):
    """NumPyro."""

    mean_field = "TraceMeanField_ELBO"

    def sample(self, name: str, law: Any, obs: Any = None) -> Any:
        """numpyro.sample."""
        import numpyro

        return numpyro.sample(name, law, obs=obs)

    def plate(self, name: str, size: int, dim: int, subsample: int | None = None) -> Any:
        """numpyro.plate."""
        import numpyro

        return numpyro.plate(name, size, subsample_size=subsample, dim=dim)

    def normal(self, loc: Any, scale: Any) -> Any:
        """numpyro.distributions.Normal."""
        import numpyro

        return numpyro.distributions.Normal(loc, scale)

    def exp(self, x: Any) -> Any:
        """jax.numpy.exp."""
        import jax.numpy as jnp

        return jnp.exp(x)

    def sigmoid(self, x: Any) -> Any:
        """jax.nn.sigmoid."""
        import jax

        return jax.nn.sigmoid(x)

    def sigmoid_of(self, law: Any) -> Any:
        """A TransformedDistribution."""
        import numpyro.distributions as dist

        return dist.TransformedDistribution(law, [dist.transforms.SigmoidTransform()])

    def mask(self, mask: Any) -> AbstractContextManager[Any]:
        """numpyro.handlers.mask."""
        from numpyro import handlers

        return handlers.mask(mask=mask)

    def scale(self, scale: Any) -> AbstractContextManager[Any]:
        """numpyro.handlers.scale."""
        from numpyro import handlers

        return handlers.scale(scale=scale)

    def trace(self, model: Callable[..., Any], seed: int) -> dict[str, Any]:
        """numpyro.handlers.trace."""
        from numpyro import handlers

        return dict(handlers.trace(handlers.seed(model, seed)).get_trace())

    def deterministic(self, name: str, value: Any) -> Any:
        """numpyro.deterministic."""
        import numpyro

        return numpyro.deterministic(name, value)

    def exact(self, model: Any, *args: Any, **kwargs: Any) -> float:
        """exact_evidence, without parameters."""
        return self.backend.names.exact_evidence({}, model, *args, **kwargs)

    def param(self, name: str) -> Any:
        """numpyro.param."""
        import numpyro

        return numpyro.param(name, 0.0)

    def steps(self, model: Any, guide: Any, **options: Any) -> Callable[[], Any]:
        """AnnealedSVI.init, which looks at the sites, with Trace_ELBO at temperature 0.5."""
        import jax
        import numpyro

        adam, loss = numpyro.optim.Adam(0.01), numpyro.infer.Trace_ELBO()
        svi = self.backend.names.AnnealedSVI(model, guide, adam, loss, lambda step: 0.5, **options)
        return lambda: svi.init(jax.random.key(0))

    def hmc(self, kernel: str, model: Any) -> dict[str, Any]:
        """numpyro.infer.MCMC."""
        import jax
        import numpyro.infer

        how = {"num_samples": 4, "num_warmup": 2, "progress_bar": False}
        mcmc = numpyro.infer.MCMC(getattr(numpyro.infer, kernel)(model), **how)
        mcmc.run(jax.random.key(0))
        return dict(mcmc.get_samples())

    def bounds(self, model: Any, guide: Any, seed: int, *args: Any, **kwargs: Any) -> Any:
        """evidence_bounds, with a key and no parameters."""
        import jax

        how = {"progress_bar": False, **kwargs}
        key = jax.random.key(seed)
        return self.backend.names.evidence_bounds(key, {}, model, guide, *args, **how)

    def elbo(self, name: str, model: Any, guide: Any, seed: int, particles: int) -> float:
        """Its loss, vectorised."""
        import jax
        import numpyro.infer

        elbo = getattr(numpyro.infer, name)(num_particles=particles)
        return -float(elbo.loss(jax.random.key(seed), {}, model, guide))


LANGUAGES: dict[str, type[Language]] = {"pyro": Pyro, "numpyro": NumPyro}
