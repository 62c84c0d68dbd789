"""SVI with an annealed temperature."""

from collections.abc import Callable
from typing import Any

from pyro.infer import SVI
from pyro.infer.autoguide import AutoGuide
from pyro.poutine.messenger import _bound_partial

from relaxed_dists._annealing import accepting
from relaxed_dists.schedules import Schedule, checked


def _unwrap(fn: Any) -> Any:
    """What an autoguide, a handler or a module calls; its own signature is *args, **kwargs."""
    if isinstance(fn, AutoGuide):
        return fn.model
    if isinstance(fn, _bound_partial):  # a handler's: partial(_context_wrap, handler, fn)
        wrapped: Any = fn.func
        return wrapped.args[1]
    return getattr(fn, "forward", None)


class AnnealedSVI(SVI):
    r"""Pyro's SVI with a temperature that follows a schedule.

    At step s the model and the guide are called with ``temperature=schedule(s)``, each only if its
    signature takes it. A ``temperature=`` given to a method stands in place of the schedule's.

    Args:
        model: A Pyro model.
        guide: A Pyro guide.
        optim: A Pyro optimiser.
        loss: A Pyro ELBO.
        temperature: A schedule: any callable from the step to a positive number.

    Raises:
        ValueError: If neither model nor guide takes a temperature, or the schedule's is not
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
        temperature: Schedule,
    ) -> None:
        model, guide = accepting(model, guide, _unwrap)
        super().__init__(model, guide, optim, loss)
        self.temperature = temperature
        self.steps = 0

    def _annealed(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        if "temperature" in kwargs:
            return kwargs
        return {**kwargs, "temperature": checked(self.temperature(self.steps))}

    def step(self, *args: Any, **kwargs: Any) -> float:
        """Take a gradient step at the schedule's temperature, and count it.

        Args:
            args: What the model and the guide take.
            kwargs: The same, by name.

        Returns:
            The loss before the step.
        """
        loss: float = super().step(*args, **self._annealed(kwargs))
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
        loss: float = super().evaluate_loss(*args, **self._annealed(kwargs))
        return loss

    def state_dict(self) -> dict[str, Any]:
        """The step and the optimiser's state; the parameters are saved by Pyro's param store.

        Returns:
            A dictionary for ``torch.save``.
        """
        return {"steps": self.steps, "optim": self.optim.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state.

        Args:
            state: What :meth:`state_dict` returned.
        """
        self.steps = state["steps"]
        self.optim.set_state(state["optim"])
