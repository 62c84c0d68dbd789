"""Functions for code that uses neither sample statements nor distributions."""

from typing import Any

import torch
from torch import Tensor

from relaxed_dists._distributions import formulas
from relaxed_dists._distributions.estimators import GumbelSoftmax
from relaxed_dists_torch.ops import ops

from .discrete import OneHotCategorical


def gumbel_softmax(
    logits: Tensor, temperature: Any, hard: bool = False, key: torch.Generator | None = None
) -> Tensor:
    r"""A Gumbel-Softmax sample: softmax((logits + G) / temperature), with Gumbel noise G.

    Args:
        logits: Scores of shape ``(..., K)``, categories last; -inf masks a category.
        temperature: A positive number, or positive numbers that broadcast with ``logits[..., 0]``.
            A hard value's distribution does not depend on the temperature, so with ``hard`` the
            gradient by the temperature is 0 (in torch's own function it is the soft value's).
        hard: Whether the value is the one-hot argmax, with the gradient of the soft value.
        key: A torch generator; by default torch's global one.

    Returns:
        A value of the logits' shape and dtype.

    Raises:
        ValueError: If logits are NaN or inf, a row has no unmasked category, or a temperature is
            not positive.

    Reference:
        Jang, Gu, Poole, *Categorical Reparameterization with Gumbel-Softmax* (2017), section 2.

    Example:
        >>> import torch
        >>> _ = torch.manual_seed(0)
        >>> gumbel_softmax(torch.zeros(3), 0.5, hard=True).sum().item()
        1.0
    """
    distribution = OneHotCategorical(logits=logits, estimator=GumbelSoftmax(temperature, hard))
    return distribution._draw((), key)


def straight_through(hard: Tensor, soft: Tensor) -> Tensor:
    """The hard value in the forward pass, the gradient of the soft value in the backward pass.

    Args:
        hard: Any tensor; its gradient is not used.
        soft: A tensor of a shape that broadcasts with that of ``hard``.

    Returns:
        Exactly the hard value, with the soft value's gradient.

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
