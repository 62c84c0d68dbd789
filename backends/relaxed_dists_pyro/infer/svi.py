"""SVI with an annealed temperature."""

import os
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from pyro import infer
from pyro.infer.autoguide import AutoGuide
from pyro.optim import PyroOptim
from pyro.poutine.messenger import _bound_partial

from relaxed_dists._infer import paths
from relaxed_dists._infer.svi import Annealed, Temperature, check_given, entries, mapped, title

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
    """The function inside an autoguide, a handler or a module that hides the signature."""
    if isinstance(fn, AutoGuide):
        return fn.model
    if isinstance(fn, _bound_partial):  # made by a handler: partial(_context_wrap, handler, fn)
        wrapped: Any = fn.func
        return wrapped.args[1]
    return getattr(fn, "forward", None) or getattr(fn, "__wrapped__", None)


class _Positions:
    """The positions of the temperatures among the positional arguments.

    The positions are in the same structure of dicts, lists and tuples as the temperatures. Objects
    with the same positions are equal.
    """

    def __init__(self, temperature: Any) -> None:
        self.tensors = [torch.as_tensor(entry) for _, entry in entries(temperature)]
        positions = iter(range(len(self.tensors)))
        self.nest = mapped(lambda entry: next(positions), temperature)

    def __eq__(self, other: object) -> bool:
        return repr(self.nest) == repr(getattr(other, "nest", None))

    def __hash__(self) -> int:
        return hash(repr(self.nest))


def _compiled_once(loss: Any, *fns: Callable[..., Any]) -> Callable[..., Any]:
    """The loss_and_grads of a compiling ELBO, made to compile once for all temperatures.

    Such an ELBO compiles anew for each value of a keyword argument, but not for new tensors as
    positional arguments. So the temperatures become the first positional arguments.
    """

    def from_tensors(fn: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, temperature: _Positions, **kwargs: Any) -> Any:
            rest = args[len(temperature.tensors) :]
            return fn(*rest, temperature=mapped(args.__getitem__, temperature.nest), **kwargs)

        return call

    inner = [from_tensors(fn) for fn in fns]  # made once, as the ELBO recognises functions by id

    def call(model: Any, guide: Any, *args: Any, temperature: Any = None, **kwargs: Any) -> Any:
        if temperature is None:
            return loss.loss_and_grads(model, guide, *args, **kwargs)
        if isinstance(loss, infer.JitTraceMeanField_ELBO):
            # Pyro looks for this ELBO's compiled loss under a wrong name, and would compile again.
            vars(loss)["_loss_and_surrogate_loss"] = vars(loss).get("_differentiable_loss")
        positions = _Positions(temperature)
        return loss.loss_and_grads(
            *inner, *positions.tensors, *args, temperature=positions, **kwargs
        )

    return call


class AnnealedSVI(Annealed, infer.SVI):
    r"""Pyro's SVI with a temperature that follows a schedule.

    At step s the model and the guide are called with ``temperature=schedule(s)``, each only if its
    signature takes a temperature. A ``temperature=`` passed to a method replaces the schedule's,
    and may be passed without a schedule. An ELBO that compiles (such as ``JitTrace_ELBO``) compiles
    once for all temperatures. Step a learning-rate schedule as in Pyro, by ``optim.step()``.
    ``steps`` is the number of steps that were taken.

    Args:
        model: A Pyro model.
        guide: A Pyro guide.
        optim: A Pyro optimiser.
        loss: A Pyro ELBO.
        temperature: A schedule, which is any callable from a step to a positive number; or a dict,
            list or tuple of schedules and numbers, for which model and guide get numbers in the
            same structure; or None, for an estimator without a temperature or a loop that passes
            ``temperature=`` to each method.
        allow_mixed: Names of sites that may be relaxed in the model and discrete in the guide, or
            the other way round.

    Raises:
        ValueError: If there is a temperature but neither model nor guide takes one; a site is
            relaxed in the model and discrete in the guide, or the other way round (checked in the
            first call); the schedule yields a temperature that is not positive and finite; or the
            model uses a site's value only through functions without a derivative (an argmax, an
            index), so that no gradient reaches the guide. The first step checks this last condition
            by running guide and model once more; it warns if a derivative exists but is 0, unless
            several processes train by torch.distributed. The check passes if only one of several
            uses has a derivative.

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
        optim: PyroOptim,
        loss: infer.ELBO,
        temperature: Temperature | None = None,
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
        self._first = True  # no step was taken in this process
        self._loaded: dict[str, Any] | None = None  # set between a load and the next call

    def _annealed(self, args: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
        if self._takes and self.temperature is None and "temperature" not in kwargs:
            check_given((self.model, self.guide), args, kwargs)
        return self._with_temperature(self.steps, kwargs)

    def step(self, *args: Any, **kwargs: Any) -> float:
        """Take a gradient step at the schedule's temperature, and count the step.

        Args:
            args: The arguments of model and guide.
            kwargs: The keyword arguments of model and guide.

        Returns:
            The loss before the step.
        """
        kwargs = self._annealed(args, kwargs)
        self._register_loaded(*args, **kwargs)
        self._first = False
        soft = self._pairing.names if self._pathwise else lambda: None
        with paths.explain_index("AnnealedSVI", soft), self._checked():
            loss: float = super().step(*args, **kwargs)
        if not self.steps:
            self._pairing.warn_of_rounded()
        if not self.steps and self._pathwise and self._pairing.carry_gradients():
            # The check runs after the step, so that the check does not change the step.
            check_svi(self.model, self.guide, args, kwargs)
        self.steps += 1
        return loss

    @contextmanager
    def _checked(self) -> Iterator[None]:
        """A context that checks the sites of guide and model."""
        with self._pairing.explain_no_estimator(title(self.loss)), self._pairing:
            yield

    def _register_loaded(self, *args: Any, **kwargs: Any) -> None:
        """Let model and guide register the loaded parameters, in the first call after a load."""
        if self._loaded is not None:
            checkpoint.rehearse(self, self._loaded, *args, **kwargs)
            self._loaded = None

    def evaluate_loss(self, *args: Any, **kwargs: Any) -> float:
        """The loss at the temperature of the next step.

        Args:
            args: The arguments of model and guide.
            kwargs: The keyword arguments of model and guide.

        Returns:
            An estimate of the loss.
        """
        kwargs = self._annealed(args, kwargs)
        self._register_loaded(*args, **kwargs)
        with self._checked():
            loss: float = super().evaluate_loss(*args, **kwargs)
        return loss

    evaluate = evaluate_loss  # NumPyro's name

    def state_dict(self) -> dict[str, Any]:
        """The state from which a restarted training continues as if it had not been interrupted.

        Returns:
            A dictionary that ``torch.save`` writes and ``torch.load(path, weights_only=True)``
            reads: ``steps``, the states ``optim`` of the optimiser, ``params`` of Pyro's param
            store and ``rng`` of the random generators; ``modules``, which names the parameters that
            belong to modules of model and guide; and ``rest``, the buffers and the parameters of
            these modules that are not registered. The dictionary contains the live tensors: save
            it, or copy it deeply, before the next step.

        Raises:
            ValueError: If trained parameters are not in Pyro's param store, as with
                ``module_local_params``.
        """
        return checkpoint.state_dict(self)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a saved state.

        The whole state is checked before anything is changed. Parameters and random generators are
        global in Pyro, and are set globally. The numbers are copied into the tensors that modules
        and param store share. Parameters that model and guide make in their first call get their
        numbers in that call, so the first ``step`` or ``evaluate_loss`` starts with an extra run of
        model and guide.

        Args:
            state: A state that `state_dict` returned. For an entry that is missing in it, nothing
                is changed.

        Raises:
            ValueError: If the state does not fit this process, or its random generators are those
                of another rank of torch.distributed; or in the first call, if model or guide
                registers a parameter with another shape or under another name. The first call warns
                about loaded parameters that neither model nor guide registers.
        """
        self._load(state, "a state")

    def _load(self, state: dict[str, Any], source: str) -> None:
        self._loaded = checkpoint.restore(self, state, source)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write `state_dict` to a file, which is never left half written.

        The file is written under a temporary name in the same folder and then renamed, so that a
        process which is killed meanwhile leaves the old file intact. If several processes train by
        torch.distributed, the file has the random generators of one of them, so each needs a file.

        Args:
            path: The file.

        Raises:
            ValueError: If a part of the state, such as a parameter's constraint, can't be written
                without pickle; parameters are not in Pyro's param store; or each process holds a
                part of a parameter, as under ``fully_shard``.
        """
        checkpoint.save(path, self.state_dict())

    def load(self, path: str | os.PathLike[str], map_location: Any = None) -> None:
        """Continue from a file that `save` wrote, as `load_state_dict` does.

        Nothing in the file is executed (``weights_only=True``).

        Args:
            path: The file.
            map_location: The device on which to put the tensors, as for ``torch.load``.

        Raises:
            ValueError: If the file is damaged or no checkpoint, or does not fit this process. In
                these cases nothing is changed.
        """
        self._load(checkpoint.read(path, map_location), f"the file {str(path)!r}")
