"""SVI with an annealed temperature."""

import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from numpyro.infer import SVI
from numpyro.infer.autoguide import AutoGuide
from numpyro.primitives import Messenger
from numpyro.util import not_jax_tracer

from relaxed_dists._annealing import accepting
from relaxed_dists.schedules import Schedule, checked


def _unwrap(fn: Any) -> Any:
    """What a handler or an autoguide calls; its own signature is *args, **kwargs."""
    if isinstance(fn, Messenger):
        return fn.fn
    return fn.model if isinstance(fn, AutoGuide) else None


class _LatentDiscrete(Messenger):
    """Notes the latent discrete sites, and which of them the guide draws with an estimator.

    NumPyro warns of every discrete site, the prior of an estimated one among them.
    """

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()
        self.estimated: set[str] = set()

    def postprocess_message(self, msg: dict[str, Any]) -> None:
        if msg["type"] == "sample" and not msg["is_observed"] and msg["fn"].support.is_discrete:
            self.seen.add(msg["name"])
            if msg["fn"].has_rsample:
                self.estimated.add(msg["name"])


class AnnealedSVI(SVI):
    r"""NumPyro's SVI with a temperature that follows a schedule.

    At step s the model and the guide are called with ``temperature=schedule(s)``, each only if its
    signature takes it. The step is the one that the optimiser's state counts, so the temperature is
    right under ``jit`` and ``scan``, in ``run``, and after a restart from a saved state. A
    ``temperature=`` given to a method stands in place of the schedule's.

    Args:
        model: A NumPyro model.
        guide: A NumPyro guide.
        optim: A NumPyro or optax optimiser.
        loss: A NumPyro ELBO.
        temperature: A schedule: any callable from a (traced) step to a positive number.
        static_kwargs: Further arguments of model and guide that stay fixed.

    Raises:
        ValueError: If neither model nor guide takes a temperature, or the schedule's is not
            positive and finite. Where the step is traced (``update`` under ``jit``) that can't be
            seen; the distributions then compute with the lowest temperature that they know.

    Reference:
        Jang, Gu, Poole, *Categorical Reparameterization with Gumbel-Softmax* (2017), section 4.2.

    Example:
        >>> import numpyro
        >>> from jax import random
        >>> from relaxed_dists.schedules import linear
        >>> def model(): numpyro.sample("x", numpyro.distributions.Normal(0.0, 1.0))
        >>> def guide(temperature):
        ...     loc = numpyro.param("loc", 1.0)
        ...     numpyro.sample("x", numpyro.distributions.Normal(loc, temperature))
        >>> optim, loss = numpyro.optim.Adam(0.1), numpyro.infer.Trace_ELBO()
        >>> svi = AnnealedSVI(model, guide, optim, loss, temperature=linear(1.0, 0.5, 100))
        >>> result = svi.run(random.key(0), 100, progress_bar=False)
        >>> float(svi.current_temperature(result.state))
        0.5
    """

    def __init__(
        self,
        model: Callable[..., Any],
        guide: Callable[..., Any],
        optim: Any,
        loss: Any,
        temperature: Schedule,
        **static_kwargs: Any,
    ) -> None:
        model, guide = accepting(model, guide, _unwrap)
        super().__init__(model, guide, optim, loss, **static_kwargs)
        self.temperature = temperature

    def current_temperature(self, svi_state: Any) -> Any:
        """The temperature of the next update.

        Args:
            svi_state: A state of this SVI.

        Returns:
            The schedule's temperature at the step that the optimiser's state holds.
        """
        temperature: Any = self._annealed(svi_state.optim_state[0], {})["temperature"]
        return temperature

    def _annealed(self, step: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
        if "temperature" in kwargs:
            return kwargs
        temperature = self.temperature(step)
        if not_jax_tracer(temperature):
            checked(temperature)
        return {**kwargs, "temperature": temperature}

    def init(
        self, rng_key: Any, *args: Any, init_params: dict[str, Any] | None = None, **kwargs: Any
    ) -> Any:
        """The initial state, at the temperature of step 0. Args and Returns as those of SVI."""
        kwargs = self._annealed(0, kwargs)
        sites = _LatentDiscrete()
        with warnings.catch_warnings(), sites:
            warnings.filterwarnings("ignore", ".* does not support models with discrete latent")
            state = super().init(rng_key, *args, init_params=init_params, **kwargs)
        plain = sorted(sites.seen - sites.estimated)
        if plain and not self.loss.can_infer_discrete:
            warnings.warn(
                f"SVI with {type(self.loss).__name__} does not support the discrete latent sites "
                f"{plain}: their guide has no estimator. Give it one, such as "
                "GumbelSoftmax(temperature).",
                stacklevel=2,
            )
        return state

    def update(self, svi_state: Any, *args: Any, **kwargs: Any) -> Any:
        """A step at the temperature of the state. Args and Returns as those of SVI."""
        kwargs = self._annealed(svi_state.optim_state[0], kwargs)
        return super().update(svi_state, *args, **kwargs)

    def stable_update(self, svi_state: Any, *args: Any, **kwargs: Any) -> Any:
        """A step that is not taken if it is not finite. Args and Returns as those of SVI."""
        kwargs = self._annealed(svi_state.optim_state[0], kwargs)
        return super().stable_update(svi_state, *args, **kwargs)

    def evaluate(self, svi_state: Any, *args: Any, **kwargs: Any) -> Any:
        """The loss at the temperature of the state. Args and Returns as those of SVI."""
        kwargs = self._annealed(svi_state.optim_state[0], kwargs)
        return super().evaluate(svi_state, *args, **kwargs)

    def run(
        self,
        rng_key: Any,
        num_steps: int,
        *args: Any,
        init_state: Any = None,
        **kwargs: Any,
    ) -> Any:
        """Take a number of steps, the schedule followed. Args and Returns as those of SVI.

        Raises:
            ValueError: If the schedule yields a temperature that is not positive in these steps.
        """
        if num_steps > 0 and "temperature" not in kwargs:
            # The loop is traced, so all its temperatures are looked at before it starts.
            first = 0 if init_state is None else init_state.optim_state[0]
            with jax.ensure_compile_time_eval():  # in case that run itself is under jit
                ahead = jax.vmap(self.temperature)(first + jnp.arange(num_steps))
                ends = (ahead.min(), ahead.max())
            for end in ends:
                if not_jax_tracer(end):
                    checked(end)
        return super().run(rng_key, num_steps, *args, init_state=init_state, **kwargs)
