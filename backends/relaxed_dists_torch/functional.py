"""Functions that draw discrete samples with an estimated gradient, in torch alone."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution

from relaxed_dists._distributions import discrete, formulas
from relaxed_dists._distributions.call import Call
from relaxed_dists._distributions.estimator_base import Estimator
from relaxed_dists._distributions.estimators import GumbelSoftmax
from relaxed_dists._ops import ArrayLike

from . import kernels
from .carrier import keep_relaxed
from .from_logits import EstimatedFromLogits
from .ops import ops


class _Call(Call, EstimatedFromLogits):
    """A function's call as a distribution with logits and an estimator."""


def gumbel_softmax(
    logits: Tensor,
    tau: ArrayLike = 1,
    hard: bool = False,
    eps: float = 1e-10,
    dim: int = -1,
    *,
    key: torch.Generator | None = None,
) -> Tensor:
    """A Gumbel-Softmax sample: ``softmax((logits + G) / tau)``, with Gumbel noise G.

    The arguments are those of ``torch.nn.functional.gumbel_softmax``, and a generator. This
    function differs from torch's in that logits of -inf mask categories, the noise has exact tails,
    half precision is computed in float32, and bad arguments are refused.

    The distribution of a hard value does not depend on ``tau``, so the gradient with respect to
    ``tau`` is 0 here. torch's function returns that of the soft value.

    Args:
        logits: Real numbers, with the categories on the axis ``dim``; -inf masks a category.
        tau: The temperature, positive, a number or numbers that broadcast with the logits' shape
            without the categories' axis.
        hard: Whether the value is the one-hot argmax, with the gradient of the soft value.
        eps: Not used, as in torch's function.
        dim: The axis of the categories.
        key: A torch generator; by default torch's global one.

    Returns:
        A value of the logits' shape and dtype.

    Raises:
        ValueError: If an argument is out of its range.

    Reference:
        Jang, Gu, Poole, *Categorical Reparameterization with Gumbel-Softmax* (2017), section 2.

    Example:
        >>> import torch
        >>> _ = torch.manual_seed(0)
        >>> gumbel_softmax(torch.zeros(3), tau=0.5, hard=True).sum().item()
        1.0
    """
    if eps != 1e-10:
        warnings.warn("`eps` parameter is deprecated and has no effect.", stacklevel=2)
    if dim == -1 and (value := kernels.gumbel_softmax(logits, tau, hard, key)) is not None:
        return value if hard else keep_relaxed(value, True, "soft")
    last = logits if dim == -1 else torch.movedim(logits, dim, -1)
    call = _call("gumbel_softmax", discrete.OneHot(), last)
    call.estimator = GumbelSoftmax(call._fitted(tau, "tau"), hard)
    value = call._draw((), key)
    return value if dim == -1 else torch.movedim(value, -1, dim)


def straight_through(hard: Tensor, soft: Tensor) -> Tensor:
    """The hard value in the forward pass, the gradient of the soft value in the backward pass.

    Args:
        hard: Any tensor; its gradient is not used.
        soft: A tensor of a shape that broadcasts with that of ``hard``.

    Returns:
        Exactly the hard value, with the gradient of the soft value.

    Reference:
        Bengio, Leonard, Courville, *Estimating or Propagating Gradients Through Stochastic
        Neurons* (2013), section 4.

    Example:
        >>> import torch
        >>> soft = torch.tensor([0.3, 0.7], requires_grad=True)
        >>> straight_through(torch.tensor([0.0, 1.0]), soft)
        tensor([0., 1.], grad_fn=<AddBackward0>)
    """
    result: Tensor = formulas.straight_through(ops, hard, soft)
    return result


def sample_one_hot(
    logits: Tensor,
    estimator: Estimator | Callable[..., Any] | None,
    sample_shape: Sequence[int] = (),
    *,
    key: torch.Generator | None = None,
) -> Tensor:
    """A one-hot sample of softmax(logits), with the gradient of an estimator.

    Args:
        logits: Real numbers of shape ``(..., K)``; -inf masks a category.
        estimator: An estimator such as ``StraightThrough()`` or ``GumbelRao(0.5)``; a function of
            the logits, the one-hot draw and the Gumbel noise that made it; or None, for a sample
            without a gradient.
        sample_shape: The shape of independent samples.
        key: A torch generator; by default torch's global one.

    Returns:
        Values of shape ``sample_shape + logits.shape``: one-hot, or soft if the estimator's
        values are soft.

    Raises:
        ValueError: If an argument is out of its range.

    Reference:
        Jang, Gu, Poole, *Categorical Reparameterization with Gumbel-Softmax* (2017), section 2.

    Example:
        >>> import torch
        >>> from relaxed_dists.torch import ReinMax
        >>> _ = torch.manual_seed(0)
        >>> logits = torch.zeros(3, requires_grad=True)
        >>> z = sample_one_hot(logits, ReinMax())
        >>> sorted(z.tolist())
        [0.0, 0.0, 1.0]
        >>> z[0].backward()
        >>> bool(logits.grad.abs().sum() > 0)
        True
    """
    return _sample("sample_one_hot", discrete.OneHot(), logits, estimator, sample_shape, key)


def sample_bernoulli(
    logits: Tensor,
    estimator: Estimator | Callable[..., Any] | None,
    sample_shape: Sequence[int] = (),
    *,
    key: torch.Generator | None = None,
) -> Tensor:
    """A sample that is 1 with probability sigmoid(logits), else 0, with an estimator's gradient.

    The sample is distributed like the first entry of one from `sample_one_hot` for two categories,
    whose logits are ``logits`` and 0.

    Args:
        logits: Real numbers, or -inf for the probability 0.
        estimator: An estimator, a function of the user, or None, as for `sample_one_hot`.
        sample_shape: The shape of independent samples.
        key: A torch generator; by default torch's global one.

    Returns:
        Values of shape ``sample_shape + logits.shape``: 0 or 1, or soft if the estimator's
        values are soft.

    Raises:
        ValueError: If an argument is out of its range.

    Reference:
        Maddison, Mnih, Teh, *The Concrete Distribution* (2017), appendix B.

    Example:
        >>> import torch
        >>> from relaxed_dists.torch import StraightThrough
        >>> _ = torch.manual_seed(0)
        >>> set(sample_bernoulli(torch.zeros(9), StraightThrough()).tolist())
        {0.0, 1.0}
    """
    return _sample("sample_bernoulli", discrete.Bernoulli(), logits, estimator, sample_shape, key)


def _call(name: str, family: discrete.OneHot, logits: Any) -> _Call:
    # torch's own setting, set_default_validate_args, says whether arguments are checked.
    return _Call(name, family, None, logits=logits, validate_args=Distribution._validate_args)


def _sample(
    name: str,
    family: discrete.OneHot,
    logits: Any,
    estimator: Any,
    sample_shape: Sequence[int],
    key: torch.Generator | None,
) -> Tensor:
    call = _call(name, family, logits)
    call._fit(estimator)
    return call._draw(sample_shape, key)
