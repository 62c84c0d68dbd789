"""torch: the density of an own sample. Its scores don't depend on the logits: no gradient."""

from typing import Any

import numpy as np
import pytest
from scipy.special import softmax

torch = pytest.importorskip("torch")
pyro = pytest.importorskip("relaxed_dists.pyro")

from relaxed_dists_torch.autograd import (  # noqa: E402
    BinaryDensity,
    BinaryDraw,
    Density,
    Draw,
    Mass,
)

LAWS = ["RelaxedOneHotCategorical", "RelaxedOneHotCategoricalStraightThrough"]
T = 0.7


def drawn(name: str, k: int, seed: int) -> tuple[Any, Any, Any, Any]:
    """A distribution, its logits and temperature, and a draw."""
    torch.manual_seed(seed)
    logits = torch.randn(3, k, dtype=torch.float64, requires_grad=True)
    t = torch.tensor(T, dtype=torch.float64, requires_grad=True)
    distribution = getattr(pyro, name)(t, logits=logits)
    return distribution, logits, t, distribution.rsample()


def log_value(value: Any) -> np.ndarray:
    """The log of the relaxed sample behind a value."""
    y: np.ndarray = value._relaxed_sample[1].detach().numpy()
    return y


def partial(logits: np.ndarray, t: float, y: np.ndarray) -> np.ndarray:
    """The gradient of sum log_softmax(l - t y) by the logits at a fixed value: 1 - K softmax."""
    return 1 - y.shape[-1] * softmax(logits - t * y, -1)


def total(logits: np.ndarray, t: float, y: np.ndarray) -> np.ndarray:
    """The total derivative: the partial one, plus that through y = log_softmax((l + G) / t)."""
    by_logits = partial(logits, t, y)
    by_y = -t * by_logits - 1
    return by_logits + (by_y - np.exp(y) * by_y.sum(-1, keepdims=True)) / t


@pytest.mark.parametrize("k", [2, 10, 64])
@pytest.mark.parametrize("name", LAWS)
def test_gradients_of_an_own_density(name: str, k: int, seed: int) -> None:
    """The gradients are -(1 - K x) / t and (K - 1 + sum y - K sum x y) / t, to 1e-9."""
    distribution, logits, t, value = drawn(name, k, seed)
    assert distribution._own(value._relaxed_sample[1])
    by_logits, by_t = torch.autograd.grad(distribution.log_prob(value).sum(), [logits, t])
    y = log_value(value)
    x = np.exp(y)
    np.testing.assert_allclose(by_logits, -(1 - k * x) / T, 1e-9, 1e-9)
    np.testing.assert_allclose(by_logits, total(logits.detach().numpy(), T, y), 1e-9, 1e-9)
    np.testing.assert_allclose(by_t, ((k - 1 + y.sum(-1) - k * (x * y).sum(-1)) / T).sum(), 1e-9)


@pytest.mark.parametrize("way", ["another law", "detached", "no graph", "written to"])
@pytest.mark.parametrize("name", LAWS)
def test_what_is_not_an_own_sample_has_the_whole_gradient(name: str, way: str, seed: int) -> None:
    """Other values have the gradient through the scores: partial if detached, else total (1e-9)."""
    distribution, logits, _, value = drawn(name, 5, seed)
    if way == "another law":
        moved = logits + 0.3
        distribution = getattr(pyro, name)(T, logits=moved)
    elif way == "detached":
        value.detach_()
    elif way == "no graph":
        value = distribution.sample()
    else:
        with torch.no_grad():
            logits += torch.arange(5.0)
    assert not distribution._own(value._relaxed_sample[1]) or way == "detached"
    (found,) = torch.autograd.grad(distribution.log_prob(value).sum(), logits)
    expected = partial if way in ("detached", "no graph") else total
    y, now = log_value(value), distribution.logits.detach().numpy()
    np.testing.assert_allclose(found, expected(now, T, y), 1e-9, 1e-9)


def test_written_gradients_are_those_of_the_values(seed: int) -> None:
    """torch's gradcheck and gradgradcheck agree: finite differences in double."""
    torch.manual_seed(seed)
    x, noise, y = torch.randn(3, 4, 5, dtype=torch.float64).unbind()
    t = torch.tensor([0.5, 2.0, 1.0, 0.7], dtype=torch.float64)
    for function, given, more in (
        (Draw, (x, noise, t), (False,)),
        (Draw, (x[0], noise, t[:1]), (False,)),
        (BinaryDraw, (x, noise, t[:, None]), (False,)),
        (Density, (x, t, y), (True, False)),
        (Density, (x[0], t, y.repeat(2, 1, 1)), (False, False)),
        (BinaryDensity, (x, t[:, None], y), (True,)),
        (BinaryDensity, (x[0], t[:, None], y), (False,)),
        (Mass, (x, y.softmax(-1)), ()),
    ):
        leaves = [x.clone().requires_grad_() for x in given]
        assert torch.autograd.gradcheck(lambda *x: function.apply(*x, *more), leaves)  # noqa: B023
        assert torch.autograd.gradgradcheck(
            lambda *x: function.apply(*x, *more),  # noqa: B023
            leaves,
        )


def kept(term: Any, logits: Any) -> int:
    """How many tensors of the logits' size autograd keeps, without the logits."""
    found = {}

    def keep(x: Any) -> Any:
        if x.numel() >= logits.numel() and x.data_ptr() != logits.data_ptr():
            found[x.untyped_storage().data_ptr()] = x
        return x

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        term()
    return len(found)


@pytest.mark.parametrize("k", [10, 64])
@pytest.mark.parametrize("name", LAWS)
def test_the_way_back_of_an_elbo_term_keeps_two_tensors(name: str, k: int) -> None:
    """The backward pass keeps the value and its log; Pyro's distributions keep three or more."""
    from pyro import distributions

    logits = torch.randn(20, k, requires_grad=True)

    def term(make: Any) -> Any:
        distribution = make(torch.tensor(T), logits=logits, validate_args=False)
        z = distribution.rsample()
        return z.sum() + distribution.log_prob(z).sum()

    assert kept(lambda: term(getattr(pyro, name)), logits) <= 2
    assert kept(lambda: term(getattr(distributions, name)), logits) >= 3


@pytest.mark.parametrize("name", LAWS)
def test_parameters_that_were_written_to_are_refused(name: str) -> None:
    """torch raises its error, since the gradient by the value would be that at other logits."""
    logits = torch.randn(2, 3, requires_grad=True)
    distribution = getattr(pyro, name)(torch.tensor(T), logits=logits)
    x = distribution.rsample()
    total = distribution.log_prob(x).sum()
    with torch.no_grad():
        logits += 1.0
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        torch.autograd.grad(total, x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", LAWS)
def test_a_density_may_be_written_to_and_asked_for_again(name: str, dtype: Any, seed: int) -> None:
    """Each call returns numbers of its own, and without a graph where gradients are off."""
    torch.manual_seed(seed)
    logits = torch.randn(4, 3, dtype=dtype, requires_grad=True)
    distribution = getattr(pyro, name)(torch.tensor(T, dtype=dtype), logits=logits)
    x = distribution.rsample()
    first = distribution.log_prob(x)
    expected = first.detach().clone()
    first += 1.0
    with torch.no_grad():
        again = distribution.log_prob(x)
    assert not again.requires_grad
    assert torch.equal(again, expected)
    assert torch.equal(distribution.log_prob(x), expected)
    (one,) = torch.autograd.grad(first.sum(), logits, retain_graph=True)
    (other,) = torch.autograd.grad(distribution.log_prob(x).sum(), logits)
    torch.testing.assert_close(one, other)


def test_a_temperature_may_be_a_subclass() -> None:
    """Its draw has a density and a gradient, as that of a plain temperature."""

    class Temperature(torch.Tensor):
        """A tensor with another name."""

    t = torch.tensor(T).as_subclass(Temperature)
    logits = torch.zeros(2, 3, requires_grad=True)
    distribution = pyro.RelaxedOneHotCategorical(t, logits=logits)
    distribution.log_prob(distribution.rsample()).sum().backward()
    assert bool(logits.grad.isfinite().all())
