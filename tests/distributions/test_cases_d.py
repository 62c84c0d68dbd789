"""Derivatives of, and in-place writes to, parameters and draws, in small programs like a user's."""

import copy
import functools
import multiprocessing
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from carrying import needs_jax, needs_torch
from cases import STRAIGHT_THROUGH
from harness import Jax, Torch, jax, jnp, pyro, torch
from machinery import NAMES, NO_DENSITY, with_logits

T = 0.5
# At the first use of forward mode, torch loads code of its own that torch deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")


def made(name: str, logits: Any) -> Any:
    """The Pyro distribution of a class's name, at given logits."""
    return with_logits(Torch(), name, logits, T)


def drawn(distribution: Any, seed: int) -> Any:
    """A draw, with a gradient if the distribution has one."""
    torch.manual_seed(seed)
    return distribution()


# Tests that write into a draw.


def soft_draws(logits: Any) -> dict[str, Callable[[], Any]]:
    """Functions that draw soft binary values, in every way that the library has."""
    pp = Torch()

    def model() -> Any:
        return pyro.sample("z", pp.names.Bernoulli(logits=logits))

    def relaxed() -> Any:
        return pyro.sample("z", pp.names.RelaxedBernoulli(T, logits=logits))

    def reparam(hard: bool = False) -> Any:
        config = {"z": pp.names.GumbelSoftmaxReparam()}
        return pyro.poutine.reparam(relaxed, config=config)()

    def estimated(estimator: Any) -> Any:
        return pp.names.Bernoulli(logits=logits, estimator=estimator).rsample()

    return {
        "torch's": lambda: torch.distributions.RelaxedBernoulli(
            torch.tensor(T), logits=logits
        ).rsample(),
        "rsample": lambda: pp.names.RelaxedBernoulli(T, logits=logits).rsample(),
        "icdf": lambda: pp.names.RelaxedBernoulli(T, logits=logits).icdf(
            torch.linspace(0.1, 0.9, 16).reshape(4, 4)
        ),
        "estimator": lambda: estimated(pp.names.GumbelSoftmax(T, hard=False)),
        "decoupled": lambda: estimated(pp.names.DecoupledGumbelSoftmax(T, T)),
        "hard": lambda: estimated(pp.names.GumbelSoftmax(T)),
        "straight through": lambda: pp.names.RelaxedBernoulliStraightThrough(
            T, logits=logits
        ).rsample(),
        "gates": lambda: pp.names.HardConcrete(T, logits=logits).rsample(),
        "relax": lambda: pp.names.relax(model, T)(),
        "relax, hard": lambda: pp.names.relax(model, T, hard=True)(),
        "reparam": reparam,
    }


@needs_torch
@pytest.mark.parametrize("way", soft_draws(None))
def test_d3_a_binary_draw_may_be_written_to(way: str, seed: int) -> None:
    """With the diagonal set to 0, the gradient is 0 there, and elsewhere that of the draw."""
    logits = torch.zeros(4, 4, dtype=torch.float64, requires_grad=True)
    draw, weights = soft_draws(logits)[way], torch.arange(1.0, 17.0).reshape(4, 4)
    torch.manual_seed(seed)
    edges = draw()
    edges.fill_diagonal_(0.0)
    (found,) = torch.autograd.grad((edges * weights).sum(), logits)
    assert (found.diagonal() == 0).all()
    torch.manual_seed(seed)
    (expected,) = torch.autograd.grad((draw() * weights * (1 - torch.eye(4))).sum(), logits)
    assert torch.equal(found, expected)
    assert (found.abs().sum() > 0).item()


# Tests that write to the parameters of a distribution.

LOGITS = [name for name in NAMES if " " not in name]


def same(one: Any, other: Any, seed: int) -> None:
    """Check that draws, densities and gradients by the parameters are equal."""
    assert torch.equal(one.logits, other.logits)
    results = []
    for distribution in (one, other):
        x = drawn(distribution, seed)
        total = x.cumsum(-1).sum() if x.requires_grad else 0.0
        density = None
        if type(distribution).__name__ not in NO_DENSITY:
            density = distribution.log_prob(x)
            assert density.isfinite().all()
            total = total + density.sum()
        by = (
            torch.autograd.grad(total, distribution.logits)[0]
            if isinstance(total, torch.Tensor)
            else None
        )
        results.append((x.detach(), density, by))
    for a, b in zip(*results, strict=True):
        assert (a is None and b is None) or torch.equal(a, b)


def mask_by_data(scores: Any) -> None:
    """Mask a category by a write through .data."""
    scores.data[0, 1] = -torch.inf


def mask_by_numpy(scores: Any) -> None:
    """Mask a category by a write through a NumPy view."""
    scores.detach().numpy()[0, 1] = -np.inf


def other_data(scores: Any) -> None:
    """Replace the numbers by setting .data, as load_state_dict(assign=True) and module.to() do."""
    scores.data = torch.linspace(-3.0, 3.0, 16).reshape(4, 4)


WRITES = [mask_by_data, mask_by_numpy, other_data]


@needs_torch
@pytest.mark.parametrize("write", WRITES, ids=lambda f: f.__name__)
@pytest.mark.parametrize("name", LOGITS)
def test_d4_a_distribution_sees_what_is_written(name: str, write: Any, seed: int) -> None:
    """After a write that torch's version counter misses, results equal a new distribution's."""
    scores = torch.nn.Parameter(torch.zeros(4, 4))
    distribution = made(name, scores)
    drawn(distribution, seed)  # this draw must not be cached
    write(scores)
    same(distribution, made(name, scores), seed)


@needs_torch
@pytest.mark.parametrize("name", [name for name in LOGITS if name != "Permutation"])
def test_d4_the_mask_that_was_written_has_no_gradient(name: str, seed: int) -> None:
    """The masked category's gradient is exactly 0; formulas for unmasked ones would give NaN."""
    scores = torch.nn.Parameter(torch.linspace(-1.0, 1.0, 16).reshape(4, 4))
    distribution = made(name, scores)
    scores.data[0, 1] = -torch.inf
    total = sum(term.sum() for term in (drawn(distribution, seed),) if term.requires_grad)
    if name not in NO_DENSITY:
        total = total + distribution.log_prob(drawn(distribution, seed)).sum()
    (by,) = torch.autograd.grad(total, scores)
    assert by[0, 1] == 0
    assert by.isfinite().all()


@needs_torch
@pytest.mark.parametrize("name", LOGITS)
def test_d4_a_module_changes_its_precision(name: str, seed: int) -> None:
    """After module.double(), draws, densities and gradients are those of a new distribution."""

    class Module(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scores = torch.nn.Parameter(torch.linspace(-1.0, 1.0, 16).reshape(4, 4))
            self.law = made(name, self.scores)

    module = Module().double()
    assert module.law.logits.dtype == torch.float64
    same(module.law, made(name, module.scores), seed)


@needs_torch
@pytest.mark.parametrize("name", LOGITS)
def test_d4_a_distribution_of_a_parameter_is_copied(name: str, seed: int) -> None:
    """deepcopy and a queue copy a distribution, like torch's; the copy has its own parameters."""
    scores = torch.nn.Parameter(torch.linspace(-1.0, 1.0, 16).reshape(4, 4))
    distribution = made(name, scores)
    copied = copy.deepcopy(distribution)
    assert copied.logits is not scores
    same(distribution, copied, seed)
    queue = multiprocessing.SimpleQueue()
    queue.put(distribution)
    same(distribution, queue.get(), seed)


# Tests of the density's gradient by the drawn value.

PAIRS = ["RelaxedOneHotCategorical", "RelaxedBernoulli"]


def leaves() -> tuple[Any, Any]:
    """Logits and a temperature with gradients, in double precision."""
    rows = torch.tensor([[0.3, -1.0, 2.0], [0.0, 0.5, -0.5]], dtype=torch.float64)
    return rows.requires_grad_(), torch.tensor(0.7, dtype=torch.float64, requires_grad=True)


def both(name: str, seed: int, how: str = "") -> list[tuple[Any, Any, Any]]:
    """Our distribution with its draw, and torch's with a copy of it, each with its parameters.

    With `how` the draw is a leaf of the graph: detached in place, or drawn without a graph.
    """
    found = []
    for names in (Torch().names, torch.distributions):
        logits, t = leaves()
        distribution = getattr(names, name)(t, logits=logits)
        ours = getattr(Torch().names, name)(t, logits=logits)
        torch.manual_seed(seed)
        x = ours.sample() if how == "no graph" else ours.rsample()
        x = x if names is not torch.distributions else 1.0 * x
        found.append((distribution, x.detach_().requires_grad_() if how else x, [logits, t]))
    return found


def close(found: Any, expected: Any) -> None:
    """Check that each pair agrees to 1e-8 of the largest entry."""
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-8 * float(b.abs().max()))


@needs_torch
@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize(
    "way", ["value", "value and parameters", "kept", "hook", "leaf", "no graph", "second"]
)
def test_d5_gradients_by_a_drawn_value(name: str, way: str, seed: int) -> None:
    """The density's gradients by the value and the parameters equal torch's at the same value."""
    results = []
    for distribution, x, parameters in both(name, seed, way if way in ("leaf", "no graph") else ""):
        seen: list[Any] = []
        if way == "kept":
            x.retain_grad()
        elif way == "hook":
            x.register_hook(seen.append)
        total = distribution.log_prob(x).sum()
        if way in ("kept", "hook"):
            total.backward()
            found = [x.grad if way == "kept" else seen[0], *(leaf.grad for leaf in parameters)]
        elif way == "value":
            found = torch.autograd.grad(total, [x])
        elif way == "second":
            (first,) = torch.autograd.grad(total, x, create_graph=True)
            weights = torch.linspace(1.0, 2.0, x.numel()).reshape(x.shape)
            found = torch.autograd.grad((first.log1p() * weights).nansum(), [x, *parameters])
        else:
            found = torch.autograd.grad(total, [x, *parameters])
        results.append([g.detach().clone() for g in found])
    close(*results)


@needs_torch
@pytest.mark.parametrize("name", PAIRS)
def test_d5_a_loss_beside_the_density(name: str, seed: int) -> None:
    """With a further use of the value in the loss, the gradients equal torch's."""
    results = []
    for distribution, x, parameters in both(name, seed):
        total = (x**3).sum() + distribution.log_prob(x).sum()
        results.append(torch.autograd.grad(total, [x, *parameters]))
    close(*results)


@needs_torch
@pytest.mark.parametrize("name", PAIRS)
def test_d5_of_another_distribution_and_of_the_cdf(name: str, seed: int) -> None:
    """Gradients by the draw, of another distribution's density and of the cdf, equal torch's."""
    results = []
    for (distribution, x, _), names in zip(
        both(name, seed), (Torch().names, torch.distributions), strict=True
    ):
        logits, t = leaves()
        other = getattr(names, name)(t * 1.5, logits=logits[0])
        results.append(torch.autograd.grad(other.log_prob(x).sum(), x))
        if name == "RelaxedBernoulli":
            inside = distribution.temperature * x.logit() - distribution.logits
            cdf = (
                distribution.cdf(x)
                if distribution.__module__.startswith("relaxed")
                else inside.sigmoid()
            )
            results[-1] += torch.autograd.grad(cdf.sum(), x)
    close(*results)


@needs_torch
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("name", [*PAIRS, *STRAIGHT_THROUGH])
def test_d5_where_the_value_is_saturated(name: str, masked: bool, seed: int) -> None:
    """At temperature 0.01, gradients by the value are finite, those by the logits exact.

    The gradient by the logits is -(1 - K x) / t, with K the number of unmasked categories; for
    binary values it is (2 x - 1) / t. It is the same if the value's gradient is computed too.
    """
    logits = torch.linspace(-1.0, 1.0, 20).reshape(4, 5)
    if masked:
        logits[:, 0] = -torch.inf
    logits.requires_grad_()
    distribution = getattr(Torch().names, name)(0.01, logits=logits)
    value = drawn(distribution, seed)
    total = distribution.log_prob(value).sum()
    (alone,) = torch.autograd.grad(total, logits, retain_graph=True)
    by_value, beside = torch.autograd.grad(total, [value, logits])
    assert by_value.isfinite().all()
    assert (by_value != 0).any()
    x = drawn(
        getattr(Torch().names, name.replace("StraightThrough", ""))(0.01, logits=logits), seed
    )
    expected = -(1 - (5 - masked) * x) / 0.01 if "OneHot" in name else (2 * x - 1) / 0.01
    expected = expected.where(logits > -torch.inf, 0.0)
    for found in (alone, beside):
        torch.testing.assert_close(found, expected.detach(), rtol=1e-4, atol=2e-3)


@needs_torch
@pytest.mark.parametrize("how", ["forward mode", "compiled"])
@pytest.mark.parametrize("name", PAIRS)
def test_d5_where_a_saturated_value_is_a_leaf(
    name: str, how: str, seed: int, monkeypatch: Any
) -> None:
    """A leaf's density is exact, also where the kernels with hand-written gradients can't run."""
    # The compiled kernels make other noise of a seed than torch's operations.
    monkeypatch.setattr("relaxed_dists_torch.compiled.KERNELS", None)
    logits = torch.linspace(-1.0, 1.0, 20).reshape(4, 5)

    def scored(logits: Any) -> tuple[Any, Any]:
        distribution = getattr(Torch().names, name)(0.01, logits=logits)
        x = distribution.sample().requires_grad_()
        return distribution.log_prob(x), x

    torch.manual_seed(seed)
    right, _ = scored(logits)
    torch.manual_seed(seed)
    if how == "compiled":
        found, _ = torch.compile(scored, backend="eager")(logits)
    else:
        with torch.autograd.forward_ad.dual_level():
            found, x = scored(logits)
            assert torch.autograd.grad(found.sum(), x)[0].isfinite().all()
    torch.testing.assert_close(found, right)


@needs_torch
@pytest.mark.parametrize("how", ["detached", "without a graph"])
@pytest.mark.parametrize("name", STRAIGHT_THROUGH)
def test_d5_a_hard_draw_made_a_leaf(name: str, how: str, seed: int) -> None:
    """The gradient by a drawn hard value is that by the relaxed sample behind it."""
    logits, t = leaves()
    distribution, soft_name = (
        getattr(Torch().names, name)(t, logits=logits),
        name.replace("Straight", ""),
    )
    soft_name = soft_name.replace("Through", "")
    torch.manual_seed(seed)
    z = distribution.rsample().detach_() if how == "detached" else distribution.sample()
    z.requires_grad_()
    found = torch.autograd.grad(distribution.log_prob(z).sum(), [z, logits, t])
    x = drawn(getattr(Torch().names, soft_name)(t, logits=logits), seed).detach().requires_grad_()
    theirs = getattr(torch.distributions, soft_name)(t, logits=logits)
    close(found, torch.autograd.grad(theirs.log_prob(x).sum(), [x, logits, t]))


# Tests of mixed second derivatives, in NumPyro.

SPACES = ["RelaxedOneHotCategorical", "RelaxedBernoulli"]


@needs_jax
@pytest.mark.parametrize("name", SPACES)
def test_d1_second_derivatives_by_logits_and_temperatures(name: str) -> None:
    """Second derivatives of the KL equal differences of the first, by the logits, to 1e-6.

    One temperature equals the other distribution's, where another formula gives the value. At the
    second, which all rows share, one table serves all rows.
    """
    cls = getattr(Jax().names, name)
    with Jax().double():
        rows = jnp.array([[0.3, 1.0, -0.5], [1.0, 0.0, 0.2]])
        logits = rows if "OneHot" in name else rows[:, 0]
        prior = cls(0.5, logits=jnp.zeros_like(logits))

        def divergence(logits: Any, t: Any) -> Any:
            return Jax().divergence(cls(t, logits=logits), prior).sum()

        def slope(t: Any) -> Any:
            return (jax.grad(divergence)(logits, t) * jnp.sin(1 + logits)).sum()

        first, second = jax.jit(slope), jax.jit(jax.grad(slope))
        for at in (0.5, 0.6):
            t, h = jnp.full(2, at), 1e-4
            expected = [(first(t.at[i].add(h)) - first(t.at[i].add(-h))) / (2 * h) for i in (0, 1)]
            np.testing.assert_allclose(second(t), expected, rtol=1e-6, atol=1e-6)


# Tests of forward mode, in Pyro.


def forward(f: Callable[[Any], Any], x: Any) -> Any:
    """The derivative along ones, by torch.func.jvp; a dual number must give the same."""
    tangent = torch.ones_like(x)
    (_, found) = torch.func.jvp(f, (x,), (tangent,))
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(x, tangent)
        again = torch.autograd.forward_ad.unpack_dual(f(dual)).tangent
    torch.testing.assert_close(again, found, check_dtype=False)
    return found


@needs_torch
@pytest.mark.parametrize("t", [0.5])
@pytest.mark.parametrize("name", SPACES)
def test_d2_forward_mode(name: str, t: float) -> None:
    """Forward derivatives of KL and entropy equal central differences of the values."""
    cls, logits = getattr(Torch().names, name), torch.tensor([1.0, -2.0, 0.5]).double()

    def quantities(x: Any, t: Any) -> Any:
        distribution = cls(t, logits=x)
        divergence = Torch().divergence(distribution, cls(0.5, logits=torch.zeros_like(x)))
        return torch.stack([divergence.sum(), distribution.entropy().sum()])

    for f, x in (
        (lambda t: quantities(logits.to(t), t), torch.tensor(t).double()),
        (lambda x: quantities(x, torch.tensor(t).to(x)), logits),
    ):
        h = 1e-4
        differences = (f(x + h) - f(x - h)) / (2 * h)
        torch.testing.assert_close(forward(f, x), differences, rtol=1e-6, atol=1e-6)
        single = forward(f, x.float())
        torch.testing.assert_close(single.float(), differences.float(), rtol=2e-5, atol=2e-5)


@needs_torch
@pytest.mark.parametrize("estimator", ["ReinMax", "ReinMaxRao"])
@pytest.mark.parametrize("second", ["jvp", "grad", "jvp of grad"])
def test_d2_estimators_without_a_second_derivative(estimator: str, second: str, seed: int) -> None:
    """Forward mode's first derivative equals reverse mode's; a second derivative raises."""
    names, x = Torch().names, torch.tensor([1.0, -2.0, 0.5])
    made = names.ReinMax() if estimator == "ReinMax" else names.ReinMaxRao(1.0)
    weights, tangent = torch.tensor([1.0, 3.0, 2.0]), torch.tensor([1.0, 2.0, 4.0])

    def value(x: Any) -> Any:
        torch.manual_seed(seed)
        return (names.OneHotCategorical(logits=x, estimator=made).rsample() * weights).sum()

    def along(x: Any) -> Any:
        return torch.func.jvp(value, (x,), (tangent,))[1]

    reverse = (torch.func.grad(value)(x) * tangent).sum()
    torch.testing.assert_close(along(x), reverse)
    ways = {
        "jvp": lambda: torch.func.jvp(along, (x,), (tangent,)),
        "grad": lambda: torch.func.grad(along)(x),
        "jvp of grad": lambda: torch.func.jvp(torch.func.grad(value), (x,), (tangent,)),
    }
    with pytest.raises(NotImplementedError, match="ReinMax and ReinMaxRao got asked for a second"):
        ways[second]()


# Tests of torch.func.


@needs_torch
@pytest.mark.parametrize("hard", [False, True])
def test_f9_gradients_of_a_relaxed_permutation(hard: bool, seed: int, monkeypatch: Any) -> None:
    """Each gradient function of torch.func gives autograd's gradient."""
    # The compiled kernels make other noise of a seed than torch's operations.
    monkeypatch.setattr("relaxed_dists_torch.compiled.KERNELS", None)
    # torch switches validation off in the whole process when forward mode loads its compiler.
    how = {"hard": hard, "validate_args": True}
    make = functools.partial(Torch().names.RelaxedPermutation, T, **how)
    scores = torch.linspace(-1.0, 1.0, 9).reshape(3, 3)

    def value(scores: Any) -> Any:
        torch.manual_seed(seed)
        return (make(scores).rsample() * torch.arange(9.0).reshape(3, 3)).sum()

    leaf = scores.clone().requires_grad_()
    (expected,) = torch.autograd.grad(value(leaf), leaf)
    jacfwd = functools.partial(torch.func.jacfwd, randomness="same")
    for way in (torch.func.grad, torch.func.jacrev, jacfwd):
        torch.testing.assert_close(way(value)(scores), expected)
    batch = torch.vmap(torch.func.grad(value), randomness="same")(torch.stack([scores, scores]))
    torch.testing.assert_close(batch, torch.stack([expected, expected]))
    one_column = scores.where(torch.tensor([True, False, False]), -torch.inf)
    with pytest.raises(ValueError, match="no permutation"):
        torch.func.grad(value)(one_column)
