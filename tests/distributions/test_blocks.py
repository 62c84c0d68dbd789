"""torch's kernels, which compute in blocks of memory, agree with torch's softmax on all at once."""

import contextlib
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from scipy import stats

torch = pytest.importorskip("torch")
pyro = pytest.importorskip("relaxed_dists.pyro")

from relaxed_dists_torch.softmax import Softmaxes, SumLogSoftmax  # noqa: E402

from relaxed_dists_torch import noise as _noise  # noqa: E402
from relaxed_dists_torch import ops, softmax  # noqa: E402

SHAPES = {  # shapes of logits, noise and temperature
    "one axis": ((6,), (6,), (1,)),
    "rows": ((40, 6), (40, 6), (1,)),
    "sample shape": ((5, 6), (3, 40, 5, 6), (5, 1)),
    "leading one": ((1, 40, 6), (1, 40, 6), (1, 40, 1)),
    "temperatures": ((6,), (40, 6), (40, 1)),
}


def given(case: str, seed: int) -> list[Any]:
    """Logits, noise and temperature in double precision."""
    torch.manual_seed(seed)
    x, noise, t = (torch.randn(shape, dtype=torch.float64) for shape in SHAPES[case])
    return [x, noise, t.exp()]


@contextlib.contextmanager
def blocks_of(size: int) -> Any:
    """A context of blocks of `size` elements, with noise in blocks for any number of elements."""
    with (
        patch.object(softmax, "BLOCK", size),
        patch.object(_noise, "BLOCK", size),
        patch.object(_noise, "MANY", 0),
    ):
        yield


@pytest.mark.parametrize("size", [7, 50, 2**18])
@pytest.mark.parametrize("case", SHAPES)
def test_softmaxes_are_torchs(case: str, size: int, seed: int) -> None:
    """Softmax, its log and the one-hot argmax of each row agree with torch's, to 1e-13."""
    x, noise, t = given(case, seed)
    with blocks_of(size):
        y, p = Softmaxes.apply(x, noise, t, False)
        again, hard = Softmaxes.apply(x, noise, t, True)
    expected = torch.log_softmax((x + noise) / t, -1)
    torch.testing.assert_close(y, expected, rtol=1e-13, atol=1e-14)
    torch.testing.assert_close(p, expected.exp(), rtol=1e-13, atol=0)
    assert torch.equal(again, y)
    one_hot = torch.nn.functional.one_hot(expected.argmax(-1), 6)
    assert torch.equal(hard, one_hot.to(hard))


@pytest.mark.parametrize("simplex", [True, False])
@pytest.mark.parametrize("size", [7, 50, 2**18])
@pytest.mark.parametrize("case", SHAPES)
def test_sums_are_torchs(case: str, size: int, simplex: bool, seed: int) -> None:
    """The sum of a density's terms agrees with torch's, to 1e-12."""
    x, y, t = given(case, seed)
    with blocks_of(size):
        found = SumLogSoftmax.apply(x, t, y, simplex, False)
    terms = torch.log_softmax(x - t * y, -1) - (y if simplex else 0.0)
    torch.testing.assert_close(found, terms.sum(-1), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("rows", [True, False])
def test_noise_of_blocks_is_one_sample(rows: bool, seed: int) -> None:
    """A Kolmogorov-Smirnov test of 100,001 draws in blocks, which sees 0.008; false alarms 1e-4."""
    draw, distribution = (
        (_noise.gumbel, stats.gumbel_r) if rows else (_noise.logistic, stats.logistic)
    )
    torch.manual_seed(seed)
    like = torch.zeros(())
    torch.set_default_dtype(torch.float64)  # must not change the noise's dtype
    with blocks_of(1000):
        noise = draw(torch.Size([100_001]), like).numpy()
    torch.set_default_dtype(torch.float32)
    assert noise.dtype == np.float32
    assert stats.kstest(noise, distribution.cdf).pvalue > 1e-4
    assert len(np.unique(noise)) > 0.99 * len(noise)  # no block is another's copy


def test_the_first_of_the_largest_is_the_hard_one() -> None:
    """In rows with ties the first largest is 1; in rows with NaN, the NaN, like torch's argmax."""
    x = torch.tensor([[1.0, 3.0, 3.0], [2.0, 2.0, 2.0], [0.0, 1.0, 2.0], [0.0, torch.nan, 1.0]])
    expected = torch.tensor([[0.0, 1, 0], [1, 0, 0], [0, 0, 1], [0, 1, 0]])
    assert torch.equal(ops.ops.one_hot_argmax(x), expected)
    for row, hard in zip(x[:3], expected, strict=False):
        found = Softmaxes.apply(row, torch.zeros(3), torch.tensor([0.5]), True)[1]
        assert torch.equal(found, hard)


def test_logits_written_to_are_looked_at_again() -> None:
    """A category that is masked after the distribution is made is masked: no result is cached."""
    distribution = pyro.RelaxedOneHotCategorical(0.5, logits=torch.zeros(4, 3))
    distribution.logits[:, 0] = -torch.inf
    torch.manual_seed(0)
    z = distribution.rsample()
    assert (z[:, 0] == 0).all()
    two = pyro.RelaxedOneHotCategorical(0.5, logits=torch.zeros(4, 2))
    torch.testing.assert_close(distribution.log_prob(z.clone()), two.log_prob(z[:, 1:].clone()))
