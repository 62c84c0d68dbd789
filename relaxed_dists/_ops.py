"""The array operations that a framework gives to the formulas."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

Array = Any  # of the framework whose operations are passed in


class Ops(Protocol):
    """The array operations that the formulas need. Reductions are over the last axis."""

    kernels: dict[str, Callable[..., Any]]
    """The framework's own ways of formulas, by name: see ``formulas.hot``."""

    def exp(self, x: Array, /) -> Array: ...
    def log(self, x: Array, /) -> Array: ...
    def log1p(self, x: Array, /) -> Array: ...
    def expm1(self, x: Array, /) -> Array: ...
    def softplus(self, x: Array, /) -> Array: ...
    def sigmoid(self, x: Array, /) -> Array: ...
    def lgamma(self, x: Array, /) -> Array: ...
    def digamma(self, x: Array, /) -> Array: ...
    def log_softmax(self, x: Array, /) -> Array: ...
    def sum(self, x: Array, /) -> Array: ...
    def max(self, x: Array, /) -> Array: ...
    def stack(self, x: Array, y: Array, /) -> Array: ...
    def where(self, condition: Array, x: Array | float, y: Array | float, /) -> Array: ...
    def clip(self, x: Array, low: float, high: float, /) -> Array: ...
    def one_hot_argmax(self, x: Array, /) -> Array: ...
    def top(self, x: Array, k: int, /) -> Array:
        """1 at the k largest entries, 0 elsewhere."""

    def matching(self, x: Array, /) -> Array:
        """The permutation matrix whose entries of x, ``(..., N, N)``, have the largest sum."""

    def stop_gradient(self, x: Array, /) -> Array: ...
    def slope(self, logits: Array, p: Array, /) -> Array:
        """Zeros, of p's shape, whose derivative by the logits is J(p) = diag(p) - p p^T.

        It is no Jacobian of anything, so that a second derivative raises an error.
        """


class QuadratureOps(Ops, Protocol):
    """The operations that integrals and loops need besides."""

    def columns(self, x: Array, /) -> Array:
        """A column a row, ``(categories, rows)``: so that sums over categories add vectors."""

    def rows(self, x: Array, like: Array, /) -> Array:
        """From columns back to the shape of like."""

    def total(self, x: Array, /) -> Array:
        """The sum of each column, over the last but one axis, which stays as one of length 1."""

    def constant(self, values: Any, like: Array, /) -> Array:
        """NumPy values as an array of like's dtype."""

    def is_double(self, x: Array, /) -> bool: ...
    def interpolate(self, tables: list[Array], position: Array, /) -> list[Array]:
        """Functions that are polynomials on intervals, ``(order, *rows, intervals)``.

        With i the integer nearest to the position, the sum of table[p, *rows, i] (position - i)^p.
        The rows are none, or broadcast with the position's leading axes. Positions beyond the
        first or the last interval are taken as its centre.
        """

    def integrate(
        self, f: Callable[[Array], Sequence[Array]], points: Any, weights: Any, like: Array, /
    ) -> list[Array]:
        """sum_j weights_j f(points_j), for each of f's values, whose size is like's or less."""

    def dot(self, x: Array, y: Array, /) -> Array:
        """The sum over x's last axis and y's first, to full precision."""

    def scan(self, step: Callable[..., Any], start: Any, values: Any, number: int, /) -> Any:
        """jax.lax.scan; through values in reverse where there are some."""

    def with_gradient(
        self, function: Callable[..., list[Array | None]], *arguments: Array
    ) -> Array:
        """A number a row, with the gradients that the function computes beside it.

        function(wanted, *arguments) is the value, and a gradient for each argument, None where it
        has none or none is wanted: that by the first has its shape, the others the value's.
        """
