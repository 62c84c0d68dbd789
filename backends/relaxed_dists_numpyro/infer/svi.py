"""SVI with an annealed temperature."""

import math
import os
import warnings
from collections.abc import Callable, Collection
from typing import Any

import jax
import jax.numpy as jnp
import tqdm
from numpyro.infer import SVI, TraceGraph_ELBO
from numpyro.infer.autoguide import AutoGuide
from numpyro.infer.elbo import ELBO
from numpyro.infer.svi import SVIRunResult, SVIState
from numpyro.primitives import Messenger
from numpyro.util import not_jax_tracer

from relaxed_dists._infer import paths, svi
from relaxed_dists._infer.pairing import no_estimator

from . import checkpoint
from .arguments import check_arguments
from .pairing import Pairing
from .paths import check_svi, pathwise

# The errors that JAX raises if a function needs the numbers of a tracer.
_UNTRACEABLE = (
    jax.errors.ConcretizationTypeError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
)


def _unwrap(fn: Any) -> Any:
    """The function inside a handler or an autoguide that hides the signature."""
    if isinstance(fn, Messenger):
        return fn.fn
    return fn.model if isinstance(fn, AutoGuide) else None


class AnnealedSVI(svi.Annealed, SVI):
    r"""NumPyro's SVI with a temperature that follows a schedule.

    At step s the model and the guide are called with ``temperature=schedule(s)``, each only if its
    signature takes a temperature. A ``temperature=`` passed to a method replaces the schedule's,
    and may be passed without a schedule. The optimiser's state counts the steps, so the temperature
    is right under ``jit`` and ``scan``, in ``run``, and after a restart from a saved state. A whole
    run is compiled once.

    The state holds everything that a restart needs: parameters, optimiser, step, random key and the
    values of ``numpyro.primitives.mutable``. With several particles NumPyro itself drops these
    values: ``update`` warns, and ``run`` fails. `save` writes the state to a file, and `load` reads
    it.

    `run` passes the same arguments in each step. For minibatches, let ``jax.lax.scan`` run `update`
    over arrays with a leading axis of steps.

    Args:
        model: A NumPyro model.
        guide: A NumPyro guide.
        optim: A NumPyro or optax optimiser.
        loss: A NumPyro ELBO.
        temperature: A schedule, which is any callable from a step to a positive number; or a dict,
            list or tuple of schedules and numbers, for which model and guide get numbers in the
            same structure; or None, for an estimator without a temperature or a loop that passes
            ``temperature=`` to each method.
        allow_mixed: Names of sites that may be relaxed in the model and discrete in the guide, or
            the other way round.
        static_kwargs: Further arguments of model and guide that stay fixed.

    Raises:
        ValueError: If there is a temperature but neither model nor guide takes one; a site is
            relaxed in the model and discrete in the guide, or the other way round (checked in
            ``init``); a schedule can't compute with a traced step, or yields a temperature that is
            not positive and finite; or the model uses a site's value only through functions without
            a derivative (an argmax, an index), so that no gradient reaches the guide. ``init``
            checks this last condition by tracing guide and model once more; it warns if ``init``
            itself is traced. The check passes if only one of several uses has a derivative. If the
            step is traced (``update`` under ``jit``), temperatures can't be checked; the
            distributions then replace those that are too low by the lowest possible.

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

        Fifty steps on minibatches of two data each:

        >>> import jax
        >>> def model(x):
        ...     loc = numpyro.param("loc", 0.0)
        ...     numpyro.sample("x", numpyro.distributions.Normal(loc, 1.0).expand(x.shape), obs=x)
        >>> svi = AnnealedSVI(model, lambda x: None, optim, loss)
        >>> batches = 3.0 + random.normal(random.key(1), (50, 2))
        >>> state = svi.init(random.key(0), batches[0])
        >>> state, losses = jax.lax.scan(svi.update, state, batches)
        >>> int(svi.steps(state)), losses.shape
        (50, (50,))
    """

    def __init__(
        self,
        model: Callable[..., Any],
        guide: Callable[..., Any],
        optim: Any,
        loss: ELBO,
        temperature: svi.Temperature | None = None,
        *,
        allow_mixed: Collection[str] = (),
        **static_kwargs: Any,
    ) -> None:
        model, guide = self._accept(model, guide, temperature, _unwrap)
        super().__init__(model, guide, optim, loss, **static_kwargs)
        self.allow_mixed = allow_mixed

    def steps(self, svi_state: SVIState) -> Any:
        """The number of steps that were taken up to a state.

        Args:
            svi_state: A state of this SVI.

        Returns:
            The count of the optimiser, an integer array of shape ``()``, or a tracer under ``jit``.
        """
        return svi_state.optim_state[0]

    def current_temperature(self, svi_state: SVIState) -> Any:
        """The temperature of the next update.

        Args:
            svi_state: A state of this SVI.

        Returns:
            The schedule's temperature at the step that the optimiser's state counts; None without
            a schedule.
        """
        return self._with_temperature(self.steps(svi_state), {}).get("temperature")

    def _at_step(self, step: Any) -> Any:
        try:
            return svi.at_step(self.temperature, step)
        except _UNTRACEABLE as error:
            raise ValueError(
                "A temperature schedule can't compute with a traced step "
                f"({type(error).__name__}); expected a function that JAX can trace. Write "
                "jnp.maximum, jnp.exp and jnp.where in place of max, math.exp and if; or take a "
                "schedule from relaxed_dists.schedules, such as exponential(1.0, rate=1e-3, "
                "floor=0.5)."
            ) from error

    def _temperatures(self, step: Any) -> Any:
        temperature = self._at_step(step)
        with jax.ensure_compile_time_eval():  # so that constants are checked under jit as well
            return svi.checked(temperature, not_jax_tracer)

    def init(
        self,
        rng_key: jax.Array,
        *args: Any,
        init_params: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> SVIState:
        """The initial state, at the temperature of step 0. See SVI for Args and Returns."""
        check_arguments("AnnealedSVI.init(rng_key, ...)", rng_key=rng_key)
        kwargs = self._with_temperature(0, kwargs)
        svi.check_given((self.model, self.guide), args, {**self.static_kwargs, **kwargs})
        sites = Pairing(self.allow_mixed)
        soft = sites.names if pathwise(self.loss) else lambda: None
        with paths.explain_index("AnnealedSVI", soft), warnings.catch_warnings(), sites:
            warnings.filterwarnings("ignore", ".* does not support models with discrete latent")
            state = super().init(rng_key, *args, init_params=init_params, **kwargs)
        if sites.scanned and isinstance(self.loss, TraceGraph_ELBO):
            raise ValueError(
                f"AnnealedSVI got TraceGraph_ELBO and the sites {sites.scanned} with an estimator "
                "in a scan; expected another ELBO, since NumPyro adds a score-function gradient to "
                "the estimator's there. Take Trace_ELBO or TraceMeanField_ELBO."
            )
        if pathwise(self.loss) and sites.carry_gradients():
            params = {**self.get_params(state), **(state.mutable_state or {})}
            check_svi(params, self.model, self.guide, args, {**self.static_kwargs, **kwargs})
        sites.warn_of_rounded()
        plain = sites.without_gradient()
        if plain and not self.loss.can_infer_discrete:
            warnings.warn(no_estimator(type(self.loss).__name__, plain), stacklevel=2)
        return state

    def update(self, svi_state: SVIState, *args: Any, **kwargs: Any) -> tuple[SVIState, jax.Array]:
        """Take a step at the scheduled temperature. See SVI for Args and Returns."""
        kwargs = self._with_temperature(self.steps(svi_state), kwargs)
        return super().update(svi_state, *args, **kwargs)

    def stable_update(
        self, svi_state: SVIState, *args: Any, **kwargs: Any
    ) -> tuple[SVIState, jax.Array]:
        """Take a step, unless the new state is not finite. See SVI for Args and Returns."""
        kwargs = self._with_temperature(self.steps(svi_state), kwargs)
        return super().stable_update(svi_state, *args, **kwargs)

    def evaluate(self, svi_state: SVIState, *args: Any, **kwargs: Any) -> jax.Array:
        """The loss at the scheduled temperature. See SVI for Args and Returns."""
        kwargs = self._with_temperature(self.steps(svi_state), kwargs)
        return super().evaluate(svi_state, *args, **kwargs)

    evaluate_loss = evaluate  # Pyro's name

    def save(self, path: str | os.PathLike[str], svi_state: SVIState) -> None:
        """Write a state to a file, without pickle; the file is never left half written.

        The file has NumPy's format ``.npz``, whatever its name, with an array for each leaf of the
        state. The file is written under a temporary name in the same folder and then renamed, so
        that a process which is killed meanwhile leaves the old file intact.

        Args:
            path: The file.
            svi_state: A state of this SVI.
        """
        checkpoint.save(self, path, svi_state)

    def load(self, path: str | os.PathLike[str], svi_state: SVIState) -> SVIState:
        """Read a state from a file that `save` wrote, to continue with the same numbers.

        Args:
            path: The file.
            svi_state: A state that `init` of this SVI returned, with the same structure as the
                file's state. Call ``init`` first, since it also sets the parameters' constraints.

        Returns:
            The state, on the devices of ``svi_state``.

        Raises:
            ValueError: If the file is damaged or no checkpoint, or has a state with another
                structure, other shapes or other dtypes.
        """
        return checkpoint.load(self, path, svi_state)

    def run(
        self,
        rng_key: jax.Array,
        num_steps: int,
        *args: Any,
        progress_bar: bool = True,
        stable_update: bool = False,
        forward_mode_differentiation: bool = False,
        init_state: SVIState | None = None,
        init_params: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> SVIRunResult:
        """Take a number of steps along the schedule. See SVI for Args and Returns.

        The progress bar shows the loss, as in SVI, and the temperature of the last step.

        Raises:
            ValueError: If the schedule yields a temperature that is not positive in these steps.
        """
        if init_state is None:  # a state has its own key
            check_arguments("AnnealedSVI.run(rng_key, num_steps, ...)", rng_key=rng_key)
        if num_steps > 0 and self.temperature is not None and "temperature" not in kwargs:
            # The loop is traced, so all its temperatures are checked before it starts.
            first = 0 if init_state is None else self.steps(init_state)
            with jax.ensure_compile_time_eval():  # for a run under jit
                steps = first + jnp.arange(num_steps)
                ahead = jax.vmap(self._at_step)(steps)
                for end in (jnp.min, jnp.max):
                    svi.checked(svi.mapped(end, ahead), not_jax_tracer)
        how: dict[str, Any] = {"forward_mode_differentiation": forward_mode_differentiation}
        if not progress_bar or num_steps < 1:
            how |= {"stable_update": stable_update, "init_params": init_params}
            how |= {"progress_bar": False, "init_state": init_state}
            return super().run(rng_key, num_steps, *args, **how, **kwargs)
        # This is a copy of SVI's loop with a progress bar, since the text of SVI's own bar can't be
        # changed.
        state, every = init_state, max(num_steps // 20, 1)
        if state is None:
            state = self.init(rng_key, *args, init_params=init_params, **kwargs)
        step = self.stable_update if stable_update else self.update
        update = jax.jit(lambda state: step(state, *args, **how, **kwargs))
        losses: list[Any] = []
        with tqdm.trange(1, num_steps + 1) as bar:
            for i in bar:
                count = self.steps(state)
                state, loss = update(state)
                losses.append(loss)
                if i % every == 0:
                    # Reading a loss waits for the device, so the losses are read in batches.
                    losses[i - every :] = last = jax.device_get(losses[i - every :])
                    valid = [x for x in last if x == x] if stable_update else last
                    mean = sum(valid) / len(valid) if valid else math.nan
                    text = (
                        f"init loss: {losses[0]:.4f}, avg. loss [{i - every + 1}-{i}]: {mean:.4f}"
                    )
                    used = self._with_temperature(count, kwargs)
                    if "temperature" in used:
                        text += f", {svi.temperature_text(used['temperature'])}"
                    bar.set_postfix_str(text, refresh=False)
        return SVIRunResult(self.get_params(state), state, jnp.stack(losses))
