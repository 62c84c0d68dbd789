"""torch: the kernel of relaxed subsets has the formula's numbers and gradients."""

from typing import Any

import pytest

torch = pytest.importorskip("torch")
pyro = pytest.importorskip("relaxed_dists.pyro")

from relaxed_dists._distributions import subset  # noqa: E402
from relaxed_dists_torch import subset as kernel  # noqa: E402
from relaxed_dists_torch.ops import ops  # noqa: E402


@pytest.mark.parametrize("far", [0.0, 8.0, 60.0])
def test_the_kernel_is_the_formula(far: float, seed: int) -> None:
    """Values, gradients and second derivatives agree to 1e-9, also where a softmax rounds to 1."""
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(4, 7, dtype=torch.float64, generator=generator)
    scores[0, 3] += far
    scores.requires_grad_()
    t = torch.tensor([[0.3], [0.5], [1.0], [4.0]], dtype=torch.float64, requires_grad=True)
    exact = kernel._rounds(scores.detach(), t.detach(), 3, False) is not None
    assert exact == (far < 60)

    def all_of(way: Any) -> list[Any]:
        value = way(ops, 3, scores, t)
        total = (value * torch.arange(7.0) ** 2).sum()
        first = torch.autograd.grad(total, [scores, t], retain_graph=True)
        again = torch.autograd.grad(total, [scores, t], create_graph=True)
        second = torch.autograd.grad((again[0] ** 2).sum() + again[1].sum(), [scores, t])
        return [value, *first, *again, *second]

    mine, expected = all_of(kernel.rounds), all_of(subset.rounds.formula)
    for x, y in zip(mine, expected, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-9, atol=1e-9)


def test_float32_gradients_where_a_softmax_rounds_to_one(seed: int) -> None:
    """The kernel's gradients in float32 are those of the formula in float64, to 1e-5."""
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(50, 7, generator=generator)
    scores[:, 2] += 10.0
    found = []
    for way, dtype in ((kernel.rounds, torch.float32), (subset.rounds.formula, torch.float64)):
        leaf = scores.to(dtype, copy=True).requires_grad_()
        value = way(ops, 3, leaf, torch.tensor([[0.5]], dtype=dtype))
        (value * torch.arange(7.0)).sum().backward()
        found.append(torch.cat([value.detach(), leaf.grad], -1).double())
    torch.testing.assert_close(*found, rtol=1e-5, atol=1e-5)
