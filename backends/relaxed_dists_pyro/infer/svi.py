"""SVI with an annealed temperature."""

import os
from collections.abc import Callable, Collection
from typing import Any

import torch
from pyro import infer
from pyro.infer.autoguide import AutoGuide
from pyro.poutine.messenger import _bound_partial

from relaxed_dists._infer import paths
from relaxed_dists._infer.svi import Annealed, check_given, entries, mapped

from . import checkpoint
from .pairing import Pairing
from .paths import check_svi, pathwise

_COMPILED = (
    infer.JitTrace_ELBO,
    infer.JitTraceEnum_ELBO,
    infer.JitTraceGraph_ELBO,
    infer.JitTraceMeanField_ELBO,
)


def _unwrap(fn: Any) -> Any:
    """What an autoguide, a handler or a module calls; its own signature is *args, **kwargs."""
    if isinstance(fn, AutoGuide):
        return fn.model
    if isinstance(fn, _bound_partial):  # a handler's: partial(_context_wrap, handler, fn)
        wrapped: Any = fn.func
        return wrapped.args[1]
    return getattr(fn, "forward", None) or getattr(fn, "__wrapped__", None)


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

    def call(model: Any, guide: Any, *args: Any, temperature: Any = None, **kwargs: Any) -> Any:
        if temperature is None:
            return loss.loss_and_grads(model, guide, *args, **kwargs)
        if isinstance(loss, infer.JitTraceMeanField_ELBO):
            # Pyro looks for what this one has compiled under another's name, and compiles again.
            vars(loss)["_loss_and_surrogate_loss"] = vars(loss).get("_differentiable_loss")
        places = _Places(temperature)
        return loss.loss_and_grads(*inner, *places.tensors, *args, temperature=places, **kwargs)

    return call


class AnnealedSVI(Annealed, infer.SVI):
    r"""Pyro's SVI with a temperature that follows a schedule.

    At step s the model and the guide are called with ``temperature=schedule(s)``, each only if its
    signature takes it. A ``temperature=`` given to a method stands in place of the schedule's,
    also where there is none. An
    ELBO that compiles (``JitTrace_ELBO`` and the like) does so once, not at each temperature. A
    schedule of the learning rate is called as in Pyro, ``optim.step()``.

    Args:
        model: A Pyro model.
        guide: A Pyro guide.
        optim: A Pyro optimiser.
        loss: A Pyro ELBO.
        temperature: A schedule: any callable from the step to a positive number. Or a dict, list or
            tuple of schedules and numbers: model and guide get the same, of numbers. By default
            None, for an estimator without a temperature or a loop of your own: then none is passed
            but a ``temperature=`` that a method is given.
        allow_mixed: Names of sites that may be relaxed in the model and discrete in the guide, or
            the other way round.

    Raises:
        ValueError: If neither model nor guide takes a temperature that there is, a site is relaxed
            on one side and discrete on the other (seen by the first call), the schedule's is not
            positive and finite, or the model uses a site's value in steps only (an argmax, an
            index), so that no gradient reaches it (seen by the first step, which runs guide and
            model once more; where a derivative exists but is 0, a warning). A path that breaks
            while another one holds is not seen.

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
        model, guide = self._accept(model, guide, temperature, _unwrap)
        super().__init__(model, guide, optim, loss)
        if isinstance(loss, _COMPILED) and self._takes:
            self.loss_and_grads = _compiled_once(loss, model, guide)
        self._pathwise = pathwise(loss)
        self.allow_mixed = allow_mixed
        self._pairing = Pairing(allow_mixed)
        self.steps = 0
        self._first = True  # no step was taken in this process yet
        self._loaded: dict[str, Any] | None = None  # what waits for the first call after a load

    def _annealed(self, args: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
        if self._takes and self.temperature is None and "temperature" not in kwargs:
            check_given((self.model, self.guide), args, kwargs)
        return self._with_temperature(self.steps, kwargs)

    def step(self, *args: Any, **kwargs: Any) -> float:
        """Take a gradient step at the schedule's temperature, and count it.

        Args:
            args: What the model and the guide take.
            kwargs: The same, by name.

        Returns:
            The loss before the step.
        """
        kwargs = self._annealed(args, kwargs)
        self._settle(*args, **kwargs)
        self._first = False
        soft = self._pairing.names if self._pathwise else lambda: None
        with paths.explain_index("AnnealedSVI", soft), self._pairing:
            loss: float = super().step(*args, **kwargs)
        if not self.steps and self._pathwise and self._pairing.carry_gradients():
            # Afterwards, when all is there, so that the step is the one that it is without.
            check_svi(self.model, self.guide, args, kwargs)
        self.steps += 1
        return loss

    def _settle(self, *args: Any, **kwargs: Any) -> None:
        """Let model and guide register what was loaded, in the first call after it."""
        if self._loaded is not None:
            checkpoint.rehearse(self, self._loaded, *args, **kwargs)
            self._loaded = None

    def evaluate_loss(self, *args: Any, **kwargs: Any) -> float:
        """The loss at the temperature of the next step.

        Args:
            args: What the model and the guide take.
            kwargs: The same, by name.

        Returns:
            An estimate of the loss.
        """
        kwargs = self._annealed(args, kwargs)
        self._settle(*args, **kwargs)
        with self._pairing:
            loss: float = super().evaluate_loss(*args, **kwargs)
        return loss

    evaluate = evaluate_loss  # NumPyro's name of it

    def state_dict(self) -> dict[str, Any]:
        """All that a restart needs: with it, training goes on as if it had not been interrupted.

        Returns:
            A dictionary that ``torch.save`` writes and ``torch.load(path, weights_only=True)``
            reads: ``steps``, the optimiser's state ``optim``, the state ``params`` of Pyro's param
            store, that of the random generators ``rng``; in ``modules`` which of the parameters
            belong to modules that model and guide hold, and in ``rest`` what else these hold:
            buffers, and parameters that are not registered. It holds the live tensors: save it, or
            copy it deeply, before the next step.

        Raises:
            ValueError: If parameters are not in Pyro's param store.
        """
        return checkpoint.state_dict(self)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state.

        All of it is looked at before anything is changed. Parameters and random generators are
        global in Pyro, and are set for all. The numbers are copied into the tensors that modules
        and param store share; what model and guide make in their first call gets them there, and
        so the first ``step`` or ``evaluate_loss`` runs them once more before.

        Args:
            state: What :meth:`state_dict` returned. What is left out of it stays as it is.

        Raises:
            ValueError: If the state does not fit this process. The first call raises if model or
                guide registers a parameter with another shape or under another name, and warns of
                loaded parameters that they do not register.
        """
        self._load(state, "a state")

    def _load(self, state: dict[str, Any], source: str) -> None:
        self._loaded = checkpoint.restore(self, state, source)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write :meth:`state_dict` to a file, all at once.

        The file is written under a temporary name beside it and then renamed, so that a process
        which is killed meanwhile leaves the file that was there.

        Args:
            path: The file.

        Raises:
            ValueError: If something in the state, such as a parameter's constraint, can't be
                written without pickle, or parameters are not in Pyro's param store.
        """
        checkpoint.save(path, self.state_dict())

    def load(self, path: str | os.PathLike[str], map_location: Any = None) -> None:
        """Go on from a file that :meth:`save` wrote, as :meth:`load_state_dict` does.

        Nothing in the file is executed (``weights_only=True``).

        Args:
            path: The file.
            map_location: The device on which to put the tensors, as for ``torch.load``.

        Raises:
            ValueError: If the file is cut short or no checkpoint, or does not fit this process;
                nothing is changed then.
        """
        self._load(checkpoint.read(path, map_location), f"the file {str(path)!r}")
