"""torch on a GPU, as far as a CPU shows it: the path without a look at numbers, its launches."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import stats

torch = pytest.importorskip("torch")
pyro = pytest.importorskip("relaxed_dists.pyro")

from benchmarks.speed import launches  # noqa: E402
from relaxed_dists_torch import noise  # noqa: E402

# Triton's interpreter warns of infinity times 0 in what a where leaves out.
pytestmark = pytest.mark.filterwarnings("ignore:.*encountered in:RuntimeWarning:triton")

INF, NAN = torch.inf, torch.nan
MAKERS: dict[str, Callable[..., Any]] = {
    "relaxed": lambda x, t, **more: pyro.RelaxedOneHotCategorical(t, logits=x, **more),
    "hard": lambda x, t, **more: pyro.RelaxedOneHotCategoricalStraightThrough(t, logits=x, **more),
    "estimator": lambda x, t, **more: pyro.OneHotCategorical(
        logits=x, estimator=pyro.GumbelSoftmax(t), **more
    ),
    "binary": lambda x, t, **more: pyro.RelaxedBernoulli(t, logits=x, **more),
}


def test_the_goals_for_launches_hold() -> None:
    """Those of torch's operations; a launch more is seen."""
    assert launches.report(False) == 0
    with launches.counted() as found:
        (torch.ones(3)[:2] + 1.0).masked_fill(torch.ones(2, dtype=torch.bool), 0.0).sum().item()
    assert found.names == ["ones", "add", "ones", "masked_fill", "sum"]
    assert (found.number, found.waits) == (6, 1)


@pytest.mark.parametrize("name", MAKERS)
def test_a_gpu_is_waited_for_at_most_once(name: str) -> None:
    """Once in a constructor and a density with validation, never without, and not in a draw."""
    for t, validate in ((0.5, True), (torch.tensor(0.5), True), (0.5, False)):
        x = torch.randn(5, 3, requires_grad=True)
        at_most = int(validate)
        with launches.counted() as made:
            d = MAKERS[name](x, t, validate_args=validate)
        tensor = isinstance(t, torch.Tensor) and name == "estimator"  # checked when it is fitted
        assert made.waits <= at_most + tensor
        with launches.counted() as drawn:
            z = d.rsample()
        assert drawn.waits == 0
        with launches.counted() as scored:
            d.log_prob(z).sum().backward()
        assert scored.waits <= at_most
        assert bool(x.grad.isfinite().all())


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize(
    ("logits", "t"),
    [
        ([[0.0, NAN], [0.0, 0.0]], 0.5),
        ([[0.0, INF], [0.0, 0.0]], 0.5),
        ([[-INF, -INF], [0.0, 0.0]], 0.5),
        ([[0.0, 1.0], [0.0, 0.0]], NAN),
        ([[0.0, 1.0], [0.0, 0.0]], 0.0),
        ([[0.0, 1.0], [0.0, 0.0]], [0.5, 2.0**21]),
        ([[0.0, NAN], [0.0, 0.0]], -1.0),
    ],
)
def test_bad_parameters_are_the_same_errors(name: str, logits: Any, t: Any) -> None:
    """The text is that of a CPU, also where one answer is asked for both parameters."""
    for temperature in (t, torch.tensor(t)):
        if isinstance(temperature, list):
            continue
        given = torch.tensor(logits), temperature
        texts = []
        for where in (launches.counted, torch.enable_grad):
            with where():
                try:
                    MAKERS[name](*given)
                    texts.append("")
                except ValueError as error:
                    texts.append(str(error))
        assert texts[0] == texts[1]
        assert texts[0] or name == "binary"  # whose infinite logits are point masses


@pytest.mark.parametrize("name", MAKERS)
def test_unchecked_parameters_do_what_they_do_on_a_cpu(name: str, seed: int) -> None:
    """NaN and infinity mask, a row without a category is zero, and temperatures are clamped."""
    rows = [[0.0, NAN, 99.0], [INF, 0.0, 2.0**24], [-INF] * 3, [-(2.0**25), 1.0, 99.0]]
    leaves, found = [], []
    for where in (launches.counted, torch.enable_grad):
        x = torch.tensor(rows, requires_grad=True)
        for t in (0.5, torch.tensor(NAN), torch.tensor(1e9)):
            torch.manual_seed(seed)
            with where():
                d = MAKERS[name](x, t, validate_args=False)
                z = d.rsample()
                density = d.log_prob(z)
                (density.where(density.isfinite(), 0.0).sum() + z.sum()).backward()
            found.append((z == 0, z.isnan(), density.isfinite()))
        leaves.append(x.grad.isfinite())
    for ours, theirs in zip(found[:3], found[3:], strict=True):
        for a, b in zip(ours[1:], theirs[1:], strict=True):
            assert torch.equal(a, b)
        if name == "relaxed":
            assert torch.equal(ours[0], theirs[0])
    assert torch.equal(*leaves)


@pytest.mark.parametrize("one_hot", [True, False])
def test_noise_of_a_gpu_has_exact_tails(one_hot: bool, seed: int) -> None:
    """Kolmogorov-Smirnov of 100,000 draws, and of the uppermost ones; false alarms 2e-4."""
    draw, distribution = (
        (noise.gumbel, stats.gumbel_r) if one_hot else (noise.logistic, stats.logistic)
    )
    torch.manual_seed(seed)
    with launches.as_on_a_gpu():
        found = draw(torch.Size((100_000,)), torch.zeros(()))
        again = draw(torch.Size((9,)), torch.zeros(()), torch.Generator().manual_seed(3))
        same = draw(torch.Size((9,)), torch.zeros(()), torch.Generator().manual_seed(3))
    assert found.dtype == torch.float32
    assert torch.equal(again, same)
    numbers = found.double().numpy()
    assert stats.kstest(numbers, distribution.cdf).pvalue > 1e-4
    top = numbers[numbers > 3.0]
    tail = lambda x: 1 - distribution.sf(x) / distribution.sf(3.0)  # noqa: E731
    assert stats.kstest(top, tail).pvalue > 1e-4
    assert np.unique(numbers).size > 0.95 * numbers.size
