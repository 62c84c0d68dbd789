"""What the frameworks' distributions may have and ours lack: errors that name what to use."""

from typing import Any

from relaxed_dists import _errors


class Missing:
    """Comes before the framework's base class, whose errors would have no text."""

    @property
    def mean(self) -> Any:
        """The mean, if it is known."""
        raise _errors.missing(type(self).__name__, "mean")

    @property
    def variance(self) -> Any:
        """The variance of each entry, if it is known."""
        raise _errors.missing(type(self).__name__, "variance")

    @property
    def mode(self) -> Any:
        """The most probable value, if it is known."""
        raise _errors.missing(type(self).__name__, "mode")

    def entropy(self) -> Any:
        """The entropy, if it is known."""
        raise _errors.missing(type(self).__name__, "entropy")

    def enumerate_support(self, expand: bool = True) -> Any:
        """All values, if they can be listed."""
        raise _errors.missing(type(self).__name__, "enumerate_support")

    def cdf(self, value: Any) -> Any:
        """The probability of at most the value, if it is known."""
        raise _errors.missing(type(self).__name__, "cdf")

    def icdf(self, q: Any) -> Any:
        """The quantile of a probability, if it is known."""
        raise _errors.missing(type(self).__name__, "icdf")

    def conjugate_update(self, other: Any) -> Any:
        """Pyro's product of two densities, which none of ours has."""
        raise _errors.missing(type(self).__name__, "conjugate_update")
