"""The formulas' array operations in NumPy, beside torch and JAX, and the papers' densities."""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
from scipy import special


class NumpyOps:
    """The array operations that the library's formulas use, in NumPy's float64."""

    kernels: ClassVar[dict[str, Any]] = {}

    exp = staticmethod(np.exp)
    log = staticmethod(np.log)
    log1p = staticmethod(np.log1p)
    sigmoid = staticmethod(special.expit)
    lgamma = staticmethod(special.gammaln)
    digamma = staticmethod(special.digamma)
    where = staticmethod(np.where)
    clip = staticmethod(np.clip)

    def softplus(self, x: np.ndarray) -> np.ndarray:
        return np.logaddexp(x, 0)

    def log_softmax(self, x: np.ndarray) -> np.ndarray:
        return special.log_softmax(x, -1)

    def sum(self, x: np.ndarray) -> np.ndarray:
        return x.sum(-1)

    def stack(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.stack([x, y], -1)

    def one_hot_argmax(self, x: np.ndarray) -> np.ndarray:
        return np.eye(x.shape[-1])[x.argmax(-1)]

    def top(self, x: np.ndarray, k: int) -> np.ndarray:
        return (x.argsort(-1).argsort(-1) >= x.shape[-1] - k).astype(float)

    def matching(self, x: np.ndarray) -> np.ndarray:
        every = np.eye(x.shape[-1])[list(itertools.permutations(range(x.shape[-1])))]
        return every[np.where(every > 0, x[..., None, :, :], 0).sum((-2, -1)).argmax(-1)]

    def stop_gradient(self, x: np.ndarray) -> np.ndarray:
        return x

    expm1 = staticmethod(np.expm1)

    def max(self, x: np.ndarray) -> np.ndarray:
        return x.max(-1)

    def constant(self, values: np.ndarray, like: np.ndarray) -> np.ndarray:
        return np.asarray(values)

    def is_double(self, x: np.ndarray) -> bool:
        return True

    def interpolate(self, tables: list[np.ndarray], position: np.ndarray) -> list[np.ndarray]:
        position = np.clip(position, 0, tables[0].shape[-1] - 1)
        index = np.round(position).astype(int)
        values = []
        for table in tables:
            ones = (1,) * (index.ndim + 1 - table.ndim)
            rows = table.reshape(len(table), *ones, *table.shape[1:])
            coefficients = np.take_along_axis(rows, index[None], -1)
            values.append(sum(c * (position - index) ** n for n, c in enumerate(coefficients)))
        return values

    def integrate(
        self,
        f: Callable[[Any], Sequence[np.ndarray]],
        points: np.ndarray,
        weights: np.ndarray,
        like: np.ndarray,
    ) -> list[np.ndarray]:
        return [
            sum(parts)
            for parts in zip(
                *([w * y for y in f(t)] for t, w in zip(points, weights, strict=True)), strict=True
            )
        ]

    def columns(self, x: np.ndarray) -> np.ndarray:
        return x.reshape(-1, x.shape[-1]).T

    def rows(self, x: np.ndarray, like: np.ndarray) -> np.ndarray:
        return x.T.reshape(like.shape)

    def total(self, x: np.ndarray) -> np.ndarray:
        return x.sum(-2, keepdims=True)

    def dot(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.tensordot(x, y, 1)

    def scan(self, step: Callable[..., Any], start: Any, values: Any, number: int) -> Any:
        outs = []
        for i in reversed(range(number)):
            start, out = step(start, None if values is None else values[i])
            outs.append(out)
        if outs[0] is None:
            return start, None
        return start, np.stack(outs if values is None else outs[::-1])

    def sums(self, basis: Any, a: np.ndarray, v: np.ndarray) -> np.ndarray:
        return basis.sums(self, a, v)

    def series(self, basis: Any, a: np.ndarray, c: np.ndarray) -> np.ndarray:
        return basis.series(self, a, c)

    def with_gradient(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return function([False] * len(arguments), *arguments)[0]


def concrete_density(logits: np.ndarray, t: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Maddison et al. (2017), equation 5, as printed: products, not logs."""
    n, t = x.shape[-1], np.asarray(t)
    weighted = np.exp(logits) * x ** (-t[..., None])
    product = (weighted / x / weighted.sum(-1, keepdims=True)).prod(-1)
    return math.factorial(n - 1) * t ** (n - 1) * product


def binary_concrete_density(logits: np.ndarray, t: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Maddison et al. (2017), appendix B, equation 24, as printed."""
    alpha = np.exp(logits)
    top = t * alpha * x ** (-t - 1) * (1 - x) ** (-t - 1)
    return top / (alpha * x ** (-t) + (1 - x) ** (-t)) ** 2
