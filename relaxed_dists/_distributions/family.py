"""A family of distributions, written once over the array operations of a framework.

A family is a small frozen object that knows how a value is drawn from noise, its density, its
moments and its support. Each backend has one adapter that makes a distribution of its framework
from a family. Families are hashable and compare by their fields, since JAX takes them as static
data.
"""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple

from relaxed_dists import _errors
from relaxed_dists._ops import Array, QuadratureOps


class Parameters(NamedTuple):
    """The parameters of a distribution, in the dtype to compute in."""

    logits: Array
    temperature: Any
    """The temperature, of the batch shape; None for a discrete family with hard values."""
    tiny: float = 0.0
    """The smallest normal number of the value's dtype."""
    eps: float = 0.0
    """The spacing of that dtype at 1."""


class Family:
    """The interface of a family.

    In addition a family has those of the following methods that have a known formula: ``mean``,
    ``variance``, ``mode`` and ``entropy``, which take ``(ops, p)``; ``cdf(ops, p, value, sample)``;
    ``icdf(ops, p, q)``; and ``kl(ops, other, p, q)``, where ``other`` is the family of ``q``.
    """

    event_dim: ClassVar[int] = 1
    """How many of the last axes of logits and values are one event."""

    space: ClassVar[str] = ""
    """The name of what a draw keeps behind its value; empty if it keeps nothing."""

    noun: ClassVar[str] = "points of the simplex"
    """A noun for the values, in messages."""

    remedy: ClassVar[str] = "Apply softmax to scores."
    """The advice about a value off the support, in messages."""

    needs_sample: ClassVar[bool] = False
    """Whether the density needs the sample behind a value."""

    scores_value: ClassVar[bool] = False
    """Whether the density is computed from the value even if there is a sample behind it."""

    checks_logits: ClassVar[bool] = False
    """Whether the logits' shape and masks must fit the family: ``checked`` and ``possible``."""

    is_discrete: ClassVar[bool] = False
    """Whether the support is discrete."""

    counts: ClassVar[bool] = False
    """Whether the values are 0, 1, 2 and so on, as NumPyro's enumeration takes them to be."""

    lacks: ClassVar[Mapping[str, Callable[[str], Exception]]] = {}
    """For methods that the family lacks: errors that say more than the usual one, by name."""

    lost: ClassVar[Any] = None
    """The error about a value in an ELBO that has lost its sample and so part of its gradient."""

    rounded: Callable[..., Array] | None = None
    """Which values are so rounded that they do not determine their density; ``(ops, p, value)``."""

    own_log_prob: Callable[..., Array] | None = None
    """The log density of a draw from these very parameters; ``(ops, p, sample)``."""

    def draw(self, ops: QuadratureOps, p: Parameters, noise: Array) -> tuple[Array, Array | None]:
        """A value made from noise, and what is kept behind it.

        Args:
            ops: The framework's operations.
            p: The parameters.
            noise: Noise of the value's shape: logistic if an event is a number, else Gumbel.
        """
        raise NotImplementedError

    def log_prob(self, ops: QuadratureOps, p: Parameters, value: Array, sample: Any) -> Array:
        """The log density of a value, from the sample behind it if that is not None."""
        raise NotImplementedError

    def valid(self, ops: QuadratureOps, value: Array, slack: float, soft: bool = False) -> Array:
        """Whether each event is on the support.

        Args:
            ops: The framework's operations.
            value: Events.
            slack: How far rounding may take the sum of an event's entries from 1.
            soft: Whether a discrete family's value comes from an estimator with soft values.
        """
        raise NotImplementedError

    def probs(self, ops: QuadratureOps, p: Parameters) -> Array:
        """The probabilities."""
        return ops.sigmoid(p.logits)

    def discrete_logits(self, ops: QuadratureOps, p: Parameters) -> Array:
        """The logits of the discrete counterpart."""
        return p.logits

    def possible(self, logits: Any) -> bool:
        """Whether the masks in logits, a NumPy array, leave at least one value."""
        return True

    def impossible(self, name: str, logits: Any) -> Exception:
        """The error about masks that leave no value."""
        raise NotImplementedError

    @property
    def scored_as(self) -> type:
        """The class whose density the values are scored by; divergences need equal ones."""
        return type(self)

    def checked(self, name: str, event_shape: Any) -> "Family":
        """The family, with its fields checked against the shape of an event."""
        return self

    @property
    def support_name(self) -> str:
        """The name of the support, if the framework has no constraint for it."""
        return type(self).__name__

    def feasible(self, event_shape: Any) -> Any:
        """An event on the support, as a NumPy array."""
        raise NotImplementedError

    def no_transform(self) -> Exception:
        """The error about a sampler or an autoguide that would move through the values."""
        return _errors.discrete_site(self.noun)

    def no_integers(self, name: str) -> Exception:
        """The error about an enumeration that takes the values to be 0, 1, 2 and so on."""
        return _errors.no_integers(name)

    def method(self, what: str, name: str) -> Callable[..., Any]:
        """The method of that name; raises an error if the family lacks it."""
        if what in self.lacks:
            raise self.lacks[what](name)
        found = getattr(self, what, None)
        if found is None:
            raise _errors.missing(name, what)
        return found  # type: ignore[no-any-return]

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash((type(self), *vars(self).values()))


class HardValue(Family):
    """A relaxed family with hard values, whose moments are those of the discrete family."""

    discrete: Family

    def method(self, what: str, name: str) -> Callable[..., Any]:
        """The method of that name; moments and mode are the discrete family's."""
        if what not in ("mean", "variance", "mode"):
            return super().method(what, name)
        found = self.discrete.method(what, name)
        return lambda ops, p: found(ops, p._replace(temperature=None))
