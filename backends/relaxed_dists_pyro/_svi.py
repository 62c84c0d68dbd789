"""SVI with an annealed temperature."""

from collections.abc import Callable, Collection
from typing import Any

import pyro
import torch
from pyro.infer import (
    SVI,
    JitTrace_ELBO,
    JitTraceEnum_ELBO,
    JitTraceGraph_ELBO,
    JitTraceMeanField_ELBO,
)
from pyro.infer.autoguide import AutoGuide
from pyro.infer.util import zero_grads
from pyro.poutine import trace
from pyro.poutine.messenger import _bound_partial
from pyro.util import get_rng_state, set_rng_state

from relaxed_dists._annealing import accepting, at_step, checked, entries, mapped, schedules

from ._pairing import Pairing

_COMPILED = (JitTrace_ELBO, JitTraceEnum_ELBO, JitTraceGraph_ELBO, JitTraceMeanField_ELBO)


def _unwrap(fn: Any) -> Any:
    """What an autoguide, a handler or a module calls; its own signature is *args, **kwargs."""
    if isinstance(fn, AutoGuide):
        return fn.model
    if isinstance(fn, _bound_partial):  # a handler's: partial(_context_wrap, handler, fn)
        wrapped: Any = fn.func
        return wrapped.args[1]
    return getattr(fn, "forward", None)


class _Places:
    """A nest of numbers, each as its place among the first arguments; equal if it looks equal."""

    def __init__(self, temperature: Any) -> None:
        self.tensors = [torch.as_tensor(entry) for _, entry in entries(temperature)]
        places = iter(range(len(self.tensors)))
        self.nest = mapped(lambda entry: next(places), temperature)

    def __eq__(self, other: object) -> bool:
        return repr(self.nest) == repr(getattr(other, "nest", None))

    def __hash__(self) -> int:
        return hash(repr(self.nest))


def _compiled_once(loss: Any, *fns: Callable[..., Any]) -> Callable[..., Any]:
    """A compiling ELBO's loss_and_grads that takes temperature= and does not compile it in.

    Such an ELBO compiles once for every value of a keyword argument, while the first arguments are
    tensors that may change. So there the temperatures go, in the default dtype.
    """

    def from_tensors(fn: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, temperature: _Places, **kwargs: Any) -> Any:
            rest = args[len(temperature.tensors) :]
            return fn(*rest, temperature=mapped(args.__getitem__, temperature.nest), **kwargs)

        return call

    inner = [from_tensors(fn) for fn in fns]  # made once: the ELBO tells them apart by their id

    def call(model: Any, guide: Any, *args: Any, temperature: Any, **kwargs: Any) -> Any:
        if isinstance(loss, JitTraceMeanField_ELBO):
            # Pyro looks for what this one has compiled under another's name, and compiles again.
            vars(loss)["_loss_and_surrogate_loss"] = vars(loss).get("_differentiable_loss")
        places = _Places(temperature)
        return loss.loss_and_grads(*inner, *places.tensors, *args, temperature=places, **kwargs)

    return call


class AnnealedSVI(SVI):
    r"""Pyro's SVI with a temperature that follows a schedule.

    At step s the model and the guide are called with ``temperature=schedule(s)``, each only if its
    signature takes it. A ``temperature=`` given to a method stands in place of the schedule's. An
    ELBO that compiles (``JitTrace_ELBO`` and the like) does so once, not at each temperature. A
    schedule of the learning rate is called as in Pyro, ``optim.step()``.

    Args:
        model: A Pyro model.
        guide: A Pyro guide.
        optim: A Pyro optimiser.
        loss: A Pyro ELBO.
        temperature: A schedule: any callable from the step to a positive number. Or a dict, list or
            tuple of schedules and numbers: model and guide get the same, of numbers. By default
            None, for an estimator without a temperature: then none is passed.
        allow_mixed: Names of sites that may be relaxed in the model and discrete in the guide, or
            the other way round.

    Raises:
        ValueError: If neither model nor guide takes a temperature, a site is relaxed on one side
            and discrete on the other (seen by the first call), or the schedule's is not
            positive and finite.

    Reference:
        Jang, Gu, Poole, *Categorical Reparameterization with Gumbel-Softmax* (2017), section 4.2.

    Example:
        >>> import pyro
        >>> from relaxed_dists.schedules import linear
        >>> temperatures = []
        >>> def model(): pyro.sample("x", pyro.distributions.Normal(0.0, 1.0))
        >>> def guide(temperature):
        ...     temperatures.append(temperature)
        ...     loc = pyro.param("loc", torch.tensor(1.0))
        ...     pyro.sample("x", pyro.distributions.Normal(loc, 1.0))
        >>> import torch
        >>> optim = pyro.optim.Adam({"lr": 0.1})
        >>> svi = AnnealedSVI(model, guide, optim, pyro.infer.Trace_ELBO(), linear(1.0, 0.5, 2))
        >>> for _ in range(3): _ = svi.step()
        >>> temperatures
        [1.0, 0.75, 0.5]
    """

    def __init__(
        self,
        model: Callable[..., Any],
        guide: Callable[..., Any],
        optim: Any,
        loss: Any,
        temperature: Any = None,
        *,
        allow_mixed: Collection[str] = (),
    ) -> None:
        self._first = isinstance(guide, AutoGuide) or isinstance(loss, _COMPILED)
        if temperature is not None:
            model, guide = accepting(model, guide, _unwrap)
        super().__init__(model, guide, optim, loss)
        if isinstance(loss, _COMPILED) and temperature is not None:
            self.loss_and_grads = _compiled_once(loss, model, guide)
        self.temperature = None if temperature is None else schedules(temperature)
        self._pairing = Pairing(allow_mixed)
        self.steps = 0
        self._loaded: dict[str, Any] = {}

    def _annealed(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        if self.temperature is None or "temperature" in kwargs:
            return kwargs
        return {**kwargs, "temperature": checked(at_step(self.temperature, self.steps))}

    def step(self, *args: Any, **kwargs: Any) -> float:
        """Take a gradient step at the schedule's temperature, and count it.

        Args:
            args: What the model and the guide take.
            kwargs: The same, by name.

        Returns:
            The loss before the step.
        """
        kwargs = self._annealed(kwargs)
        if self._first and self.steps:
            # In a new process: the first call of these draws more than the later ones.
            rng = get_rng_state()
            with trace(param_only=True) as used:
                self.loss_and_grads(self.model, self.guide, *args, **kwargs)
            params: Any = [site["value"] for site in used.trace.nodes.values()]
            zero_grads(param.unconstrained() for param in params)
            set_rng_state(rng)
        self._first = False
        with self._pairing:
            loss: float = super().step(*args, **kwargs)
        self.steps += 1
        return loss

    def evaluate_loss(self, *args: Any, **kwargs: Any) -> float:
        """The loss at the temperature of the next step.

        Args:
            args: What the model and the guide take.
            kwargs: The same, by name.

        Returns:
            An estimate of the loss.
        """
        with self._pairing:
            loss: float = super().evaluate_loss(*args, **self._annealed(kwargs))
        return loss

    def state_dict(self) -> dict[str, Any]:
        """All that a restart needs: with it, training goes on as if it had not been interrupted.

        Returns:
            A dictionary for ``torch.save``: ``steps``, the optimiser's state ``optim``, the state
            ``params`` of Pyro's param store, and that of the random generators, ``rng``. It holds
            the live tensors: save it, or copy it deeply, before the next step.
        """
        optim = {**self._loaded, **self.optim.get_state()}
        params, rng = pyro.get_param_store().get_state(), get_rng_state()
        return {"steps": self.steps, "optim": optim, "params": params, "rng": rng}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state.

        Parameters and random generators are global in Pyro, and are set for all. Load the file by
        ``torch.load(path, weights_only=False)``, since Pyro's param store holds constraints. A
        plain ``torch.nn.Module`` takes the loaded parameters only if the model names it by
        ``pyro.module(..., update_module_params=True)``.

        Args:
            state: What :meth:`state_dict` returned. What is left out of it stays as it is.
        """
        self.steps = state.get("steps", self.steps)
        if "params" in state:
            pyro.get_param_store().set_state(state["params"])
        if "optim" in state:
            # Pyro hands a state to the optimisers that it makes from now on, and saves none of the
            # states that still wait.
            self._loaded = state["optim"]
            self.optim.optim_objs.clear()
            self.optim.set_state(dict(self._loaded))
        if "rng" in state:
            set_rng_state(state["rng"])
