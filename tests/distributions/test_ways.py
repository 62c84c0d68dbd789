"""torch: compiled kernels, Triton's and torch's operations compute the same, to rounding."""

import importlib.util
import itertools
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from scipy import stats

torch = pytest.importorskip("torch")
pyro = pytest.importorskip("relaxed_dists.pyro")

from relaxed_dists_torch import by_operations, by_triton, compiled, noise, ops  # noqa: E402
from relaxed_dists_torch.autograd import Density, Draw  # noqa: E402
from relaxed_dists_torch.compiled.load import KERNELS  # noqa: E402
from relaxed_dists_torch.seed import Seed  # noqa: E402

needs_kernels = pytest.mark.skipif(KERNELS is None, reason="there are no compiled kernels")
HAS_TRITON = importlib.util.find_spec("triton") is not None
RUNS_TRITON = HAS_TRITON and (by_triton.INTERPRET or torch.cuda.is_available())
needs_triton = pytest.mark.skipif(
    not RUNS_TRITON, reason="Triton is not installed, or needs a GPU or TRITON_INTERPRET=1"
)
# Triton's interpreter warns of infinity times 0 in what a where leaves out.
pytestmark = pytest.mark.filterwarnings("ignore:.*encountered in:RuntimeWarning:triton")
EPS = 2.0**-23

SHAPES = {  # of the logits, the noise and the temperature
    "one row": ((6,), (6,), ()),
    "one category": ((4, 1), (4, 1), ()),
    "no row": ((0, 6), (0, 6), ()),
    "rows": ((40, 6), (40, 6), ()),
    "sample shape": ((5, 6), (3, 40, 5, 6), (5,)),
    "leading one": ((1, 40, 6), (1, 40, 6), (1, 40)),
    "temperatures": ((6,), (40, 6), (40,)),
    "a temperature a block": ((40, 5, 6), (40, 5, 6), (40, 1)),
    "blocks": ((700, 11), (700, 11), ()),
    "a block less one": ((3, 2047), (3, 2047), (3,)),
    "a block": ((3, 2048), (3, 2048), ()),
    "a block and one": ((3, 2049), (3, 2049), (3,)),
    "long rows": ((2, 5000), (2, 5000), ()),
}


def given(case: str, seed: int, masked: bool = False, dtype: Any = None) -> list[Any]:
    """Logits, noise and temperatures; if masked, about a tenth of the categories are."""
    torch.manual_seed(seed)
    x, g, t = (torch.randn(shape, dtype=torch.float32) for shape in SHAPES[case])
    if masked:
        x = torch.where(torch.rand(x.shape) < 0.1, -torch.inf, x * 3)
        x[..., 0] = 0.0  # a category is left in each row
    return [z.to(dtype or torch.float32) for z in (x, g, (t / 2).exp())]


@pytest.mark.parametrize("case", SHAPES)
def test_draws_are_torchs_softmaxes(case: str, seed: int) -> None:
    """The softmax of each row and its one-hot argmax, in double, to rtol 1e-13."""
    x, g, t = given(case, seed, dtype=torch.float64)
    y, p = Draw.apply(x, g, t, False)
    again, hard = Draw.apply(x, g, t, True)
    expected = torch.log_softmax((x + g) / t[..., None], -1)
    torch.testing.assert_close(y, expected, rtol=1e-13, atol=1e-14)
    torch.testing.assert_close(p, expected.exp(), rtol=1e-13, atol=0)
    assert torch.equal(again, y)
    one_hot = torch.nn.functional.one_hot(expected.argmax(-1), x.shape[-1])
    assert torch.equal(hard, one_hot.to(hard))


@pytest.mark.parametrize("simplex", [True, False])
@pytest.mark.parametrize("case", SHAPES)
def test_densities_are_torchs_softmaxes(case: str, simplex: bool, seed: int) -> None:
    """The sum of the density's terms in double, to rtol 1e-12."""
    x, y, t = given(case, seed, dtype=torch.float64)
    found = Density.apply(x, t, y, simplex, False)
    terms = torch.log_softmax(x - t[..., None] * y, -1) - (y if simplex else 0.0)
    k = torch.tensor(float(x.shape[-1]), dtype=torch.float64)
    expected = terms.sum(-1) + torch.lgamma(k) + (k - 1) * torch.log(t)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def near(found: Any, exact: Any, size: Any, ulps: float) -> None:
    """Float32 numbers equal double ones to so many ulps of a size; infinities are equal."""
    assert found.dtype == torch.float32
    assert found.shape == exact.shape
    finite = exact.isfinite()
    assert torch.equal(found.double()[~finite], exact[~finite])
    off = (found.double() - exact)[finite].abs() / (
        EPS * torch.as_tensor(size).expand_as(exact)[finite]
    )
    assert off.numel() == 0 or off.max() <= ulps


WAYS = pytest.mark.parametrize(
    "way",
    [
        pytest.param(compiled, id="compiled", marks=needs_kernels),
        pytest.param(by_triton, id="triton", marks=needs_triton),
    ],
)


@WAYS
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("case", SHAPES)
def test_a_kernels_draw_is_the_formula(way: Any, case: str, masked: bool, seed: int) -> None:
    """The same noise gives log values to 2 ulp of 1 + |y|, and values to 2 ulp for each of |y|."""
    x, g, t = given(case, seed, masked)
    wide = [z.double() for z in (x, g, t)]
    for hard in (False, True):
        y, value = way.draw(x, g, t, hard)
        # Scores are rounded before the softmax, in the formula in float32 too.
        scores = (x + g).double()
        exact_y, exact = by_operations.draw(scores, torch.zeros_like(scores), wide[2], hard)
        size = 1 + exact_y.abs()
        near(y, exact_y, size, 2)
        if hard:
            assert torch.equal(value.double(), exact)
            assert torch.equal(way.draw(x, g, t, True, log=False)[1], value)
        else:
            near(value, exact, 2.0**-103 + exact * size.where(size < torch.inf, 1.0), 2)


@WAYS
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("simplex", [False, True])
@pytest.mark.parametrize("case", SHAPES)
def test_a_kernels_density_is_the_formula(
    way: Any, case: str, simplex: bool, masked: bool, seed: int
) -> None:
    """Values and gradients agree with those in double; sums to 2 ulp of their terms' sizes."""
    x, g, t = given(case, seed, masked)
    y = by_operations.draw(x, g, t, False)[0]
    wide = [z.double() for z in (x, t, y)]
    finite = torch.where(y.isfinite(), y, 0.0).abs()
    size = 1 + (finite * (1 + t[..., None])).sum(-1).double() + x.shape[-1]
    exact = by_operations.density(*wide, simplex)
    near(way.density(x, t, y, simplex), exact, size, 2)
    by_out = torch.randn(exact.shape)
    found = way.density_back(x, t, y, by_out, simplex, (True, True, True))
    expected = by_operations.density_back(*wide, by_out.double(), simplex, (True, True, True))
    k = x.shape[-1]
    largest = by_out.abs().double() * (1 + t) * (1 + finite.amax(-1)) * k if k else 1.0
    for a, b in zip(found, expected, strict=True):
        near(a, b, 1 + (largest[..., None] if a.dim() > largest.dim() else largest) * 4, 2)


@needs_kernels
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("case", SHAPES)
def test_the_density_computed_with_a_draw_is_the_formula(
    case: str, masked: bool, seed: int
) -> None:
    """It is the density of the log value that is drawn, in double, to 2 ulp of its terms."""
    x, g, t = given(case, seed, masked)
    shape = torch.broadcast_shapes(x.shape, g.shape, (*t.shape, 1))
    y, _, found = compiled.draw(x, Seed(seed, shape), t, False, own=True)
    exact = by_operations.density(x.double(), t.double(), y.double(), True)
    finite = torch.where(y.isfinite(), y, 0.0).abs()
    near(found, exact, x.shape[-1] * 4 + (finite * (1 + t[..., None])).sum(-1).double(), 2)


@WAYS
@pytest.mark.parametrize("hard", [False, True])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("case", SHAPES)
def test_kernels_gradients_of_draws_are_the_formulas(
    way: Any, case: str, masked: bool, hard: bool, seed: int
) -> None:
    """The gradients by logits and temperature, for gradients that are full, per row, and one."""
    x, g, t = given(case, seed, masked)
    y, p = way.draw(x, g, t, False)
    ones = torch.ones(())
    full, row = torch.randn(y.shape), torch.randn((*y.shape[:-1], 1)).expand(y.shape)
    choices = [
        None,
        full,
        row,
        ones.expand(y.shape),
        full.transpose(0, -1).contiguous().transpose(0, -1),
    ]
    # Triton's interpreter is slow, so it takes one in three of the pairs.
    step = 3 if way is by_triton else 1
    for by_y, by_value in itertools.islice(itertools.product(choices, choices), 0, None, step):
        found = way.draw_back(y, None if hard else p, t, by_y, by_value, True)
        wide = [None if z is None else z.double() for z in (y, t, by_y, by_value)]
        exact = by_operations.draw_back(wide[0], None, *wide[1:], True)
        parts = [z.abs().amax(-1, keepdim=True) for z in (by_y, by_value) if z is not None]
        size = sum(parts, torch.zeros(())).double() * y.shape[-1] / t[..., None]
        near(found[0], exact[0], size + 1e-30, 8)
        finite = torch.where(y.isfinite(), y, 0.0).abs().amax(-1)
        near(found[1], exact[1], (size + 1e-30).expand(y.shape)[..., 0] * (1 + finite) * 4, 8)


@needs_kernels
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("case", SHAPES)
def test_a_density_computed_with_a_draw_has_the_formulas_gradient(
    case: str, masked: bool, seed: int
) -> None:
    """Alone and beside that by the value; a gradient per row, and one for all rows."""
    x, g, t = given(case, seed, masked)
    y, p = compiled.draw(x, g, t, False)
    by_value, batch = torch.randn(y.shape), y.shape[:-1]
    for by_own in (torch.randn(batch), torch.tensor(0.3).expand(batch)):
        for by in (None, by_value):
            found = compiled.draw_back(y, p, t, None, by, True, by_own)
            wide = [None if z is None else z.double() for z in (y, p, t, None, by)]
            exact = by_operations.draw_back(*wide, True, by_own.double())
            largest = by_own.double().abs() + (0.0 if by is None else by.double().abs().amax(-1))
            size = 1e-30 + (largest * y.shape[-1] / t)[..., None]
            near(found[0], exact[0], size, 8)
            finite = torch.where(y.isfinite(), y, 0.0).abs().amax(-1)
            near(found[1], exact[1], size[..., 0] * (1 + finite) * 4, 8)


@WAYS
@pytest.mark.parametrize("unit", [False, True])
def test_kernels_binary_formulas(way: Any, unit: bool, seed: int) -> None:
    """Draws, densities and gradients of infinite, large and small logits, to 4 ulp of terms."""
    torch.manual_seed(seed)
    x = torch.cat([torch.randn(3000) * 4, torch.tensor([torch.inf, -torch.inf, 40.0, -40.0, 0.0])])
    g, t = torch.randn(len(x)) * 3, torch.rand(len(x)) + 0.2
    for hard in (False, True):
        y, value = way.binary_draw(x, g, t, hard)
        scores = (x + g).double()
        finite = torch.where(x.isfinite(), scores, x.double())
        exact_y, exact = by_operations.binary_draw(finite, 0.0 * g.double(), t.double(), hard)
        near(y, exact_y, 1 + exact_y.abs(), 1)
        near(value, exact, exact.clamp(min=1e-37) * (1 + exact_y.abs().clamp(max=90)), 2)
        assert torch.equal(way.binary_draw(x, g, t, True, log=False)[1], (x + g > 0).float())
    by_y, by_value = torch.randn(2, len(x))
    found = way.binary_draw_back(y, t, by_y, by_value, True)
    exact = by_operations.binary_draw_back(*(z.double() for z in (y, t, by_y, by_value)), True)
    some = torch.where(y.isfinite(), y, 0.0).double().abs()
    for a, b, size in zip(found, exact, (1.0, some), strict=True):
        near(a, b, (by_y.abs() + by_value.abs()).double() / t * (1 + size), 4)
    wide = [z.double() for z in (x, t, y)]
    near(
        way.binary_density(x, t, y, unit),
        by_operations.binary_density(*wide, unit),
        4 + 3 * some,
        4,
    )
    found = way.binary_density_back(x, t, y, by_y, unit, (True, True, True))
    exact = by_operations.binary_density_back(*wide, by_y.double(), unit, (True, True, True))
    # d = x - t y is rounded, and its error is that of x.
    size = (1 + by_y.abs().double()) * (1 + some) * 4 * (1 + wide[0].abs().clamp(max=50))
    for a, b in zip(found, exact, strict=True):
        near(a, b, size, 2)


@WAYS
@pytest.mark.parametrize("case", SHAPES)
def test_a_kernels_mass_is_the_formula(way: Any, case: str, seed: int) -> None:
    """Masses of hard and soft values, also at masked categories, their gradients and the look."""
    x, g, t = given(case, seed, masked=True)
    for hard in (True, False):
        value = way.draw(torch.where(x.isfinite(), x, 0.0), g, t, hard)[1]
        found = way.mass(x, value)[0]
        exact = by_operations.mass(x.double(), value.double())[0]
        size = 1 + torch.where(x.isfinite(), x, 0.0).abs().amax(-1).double()
        near(found, exact, size + np.log(x.shape[-1]), 4)
        by_out = torch.randn(exact.shape)
        back = way.mass_back(x, value, by_out, (True, True))
        wide = by_operations.mass_back(x.double(), value.double(), by_out.double(), (True, True))
        for a, b in zip(back, wide, strict=True):
            near(a, b, 1 + by_out.abs().double()[..., None] * (size[..., None] + 10), 4)


@needs_kernels
def test_a_look_finds_what_is_not_allowed() -> None:
    """0 for finite logits, 1 for masked ones, 2 for NaN, +inf, and rows without a category."""
    x = torch.zeros(3, 2050)
    assert compiled.look(x, True) == 0
    x[1, 7] = -torch.inf
    assert compiled.look(x, True) == compiled.look(x, False) == 1
    for wrong in (torch.nan, torch.inf, 2.0**24):
        y = x.clone()
        y[2, 2049] = wrong
        assert compiled.look(y, True) == compiled.look(y, False) == 2
    x[1] = -torch.inf
    assert compiled.look(x, True) == 2


@needs_kernels
@pytest.mark.parametrize("shape", [(3000, 10), (40, 4096), (3, 100_001), (300_001,)])
def test_threads_change_no_number(shape: tuple[int, ...], seed: int) -> None:
    """Draws, noise and gradients are the same numbers with one thread and with three."""
    x, t, found = torch.randn(shape), torch.tensor(0.5), []
    before = torch.get_num_threads()
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            s = Seed(seed + 1, x.shape)
            y, p = compiled.draw(x, s, t, False)
            back = compiled.draw_back(y, p, t, x, x, True)
            binary = compiled.binary_draw(x, s, t, False)
            found.append([y, p, *back, compiled.gumbel(s), compiled.logistic(s), *binary])
    finally:
        torch.set_num_threads(before)
    assert all(map(torch.equal, *found))


@needs_kernels
def test_a_draw_from_a_seed_is_one_from_its_noise(seed: int) -> None:
    """What the kernels draw from a seed they draw from the noise of this seed."""
    for shape in ((5, 10), (300, 7), (3, 5000)):
        x, t, s = torch.randn(shape), torch.tensor(0.7), Seed(seed, torch.Size(shape))
        assert all(
            map(
                torch.equal,
                compiled.draw(x, s, t, False),
                compiled.draw(x, compiled.gumbel(s), t, False),
            )
        )
        binary = (
            compiled.binary_draw(x, s, t, False),
            compiled.binary_draw(x, compiled.logistic(s), t, False),
        )
        assert all(map(torch.equal, *binary))


@pytest.mark.parametrize("one_hot", [True, False])
@pytest.mark.parametrize("shape", [(100_001,), (10_001, 10)])
def test_noise_of_blocks_is_one_sample(shape: Any, one_hot: bool, seed: int) -> None:
    """Kolmogorov-Smirnov of 100,001 draws or more; false alarms 1e-4, sees errors of 0.008."""
    draw, distribution = (
        (noise.gumbel, stats.gumbel_r) if one_hot else (noise.logistic, stats.logistic)
    )
    torch.manual_seed(seed)
    like = torch.zeros(())
    torch.set_default_dtype(torch.float64)  # must not change the noise's dtype
    found = draw(torch.Size(shape), like).numpy()
    torch.set_default_dtype(torch.float32)
    assert found.dtype == np.float32
    assert stats.kstest(found.ravel(), distribution.cdf).pvalue > 1e-4
    assert len(np.unique(found)) > 0.99 * found.size  # no block is another's copy
    if len(shape) > 1:  # and no column depends on its neighbour
        pairs = stats.spearmanr(found[:, 0], found[:, 1]).pvalue
        assert pairs > 1e-4


def test_the_first_of_the_largest_is_the_hard_one() -> None:
    """In rows of ties, and of all equal numbers."""
    x = torch.tensor([[1.0, 3.0, 3.0], [2.0, 2.0, 2.0], [0.0, 1.0, 2.0]])
    expected = torch.tensor([[0.0, 1, 0], [1, 0, 0], [0, 0, 1]])
    assert torch.equal(ops.ops.one_hot_argmax(x), expected)
    assert torch.equal(Draw.apply(x, torch.zeros(3, 3), torch.tensor(0.5), True)[1], expected)


def test_logits_written_to_are_looked_at_again() -> None:
    """A category masked after the distribution was made is masked: nothing is remembered."""
    distribution = pyro.RelaxedOneHotCategorical(0.5, logits=torch.zeros(4, 3))
    distribution.logits[:, 0] = -torch.inf
    torch.manual_seed(0)
    z = distribution.rsample()
    assert (z[:, 0] == 0).all()
    two = pyro.RelaxedOneHotCategorical(0.5, logits=torch.zeros(4, 2))
    torch.testing.assert_close(distribution.log_prob(z.clone()), two.log_prob(z[:, 1:].clone()))


@needs_triton
@pytest.mark.parametrize("one_hot", [True, False])
def test_triton_draws_from_a_seed_what_it_draws_from_its_noise(one_hot: bool, seed: int) -> None:
    """The noise is the same in a draw and alone, in parts of long rows too; seeds differ."""
    for shape in ((5, 10), (3, 5000), (2, 1)):
        x, t, s = torch.randn(shape), torch.tensor(0.7), Seed(2**62 + seed, torch.Size(shape))
        draw = by_triton.draw if one_hot else by_triton.binary_draw
        make = by_triton.gumbel if one_hot else by_triton.logistic
        g = make(s, x)
        assert all(map(torch.equal, draw(x, s, t, False), draw(x, g, t, False)))
        assert not torch.equal(g, make(Seed(2**62 + seed + 1, s.shape), x))


@needs_triton
@pytest.mark.parametrize("one_hot", [True, False])
def test_the_noise_of_triton_has_exact_tails(one_hot: bool, seed: int) -> None:
    """Kolmogorov-Smirnov of 100,000 draws, and of the uppermost ones; false alarms 2e-4."""
    make, distribution = (
        (by_triton.gumbel, stats.gumbel_r) if one_hot else (by_triton.logistic, stats.logistic)
    )
    found = make(Seed(seed, torch.Size((1000, 100))), torch.zeros(())).double().numpy()
    assert stats.kstest(found.ravel(), distribution.cdf).pvalue > 1e-4
    top = found[found > 3.0]
    tail = lambda x: 1 - distribution.sf(x) / distribution.sf(3.0)  # noqa: E731
    assert stats.kstest(top, tail).pvalue > 1e-4
    assert len(np.unique(found)) > 0.99 * found.size
    assert stats.spearmanr(found[:, 0], found[:, 1]).pvalue > 1e-4


COMPILE = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from relaxed_dists_torch import triton_kernels

sizes, whole = {"ROWS": 4, "BLOCK": 128}, ("x_rows", "t_rows", "number", "K")
for name in "noise", "draw", "density", "mass", "binary_draw", "binary_density":
    for kernel in (name, name + "_back"):
        function = getattr(triton_kernels, kernel, None)
        for flag in (True, False) if function else ():
            types, constants = {}, {}
            for p in function.params:
                types[p.name] = "constexpr" if p.is_constexpr else "*fp32"
                if p.is_constexpr:
                    constants[p.name] = sizes.get(p.name, flag)
                elif p.name == "seed":
                    types[p.name] = "i64"
                elif p.name in whole or p.name.endswith(("_row", "_column", "_stride", "_number")):
                    types[p.name] = "i32"
            source = ASTSource(function, types, constants)
            assert "cubin" in triton.compile(source, target=GPUTarget("cuda", 80, 32)).asm
            print(kernel)
"""


@pytest.mark.skipif(not HAS_TRITON, reason="Triton is not installed")
@pytest.mark.skipif(sys.platform != "linux", reason="Triton's assembler is a program for Linux")
def test_triton_compiles_each_kernel_for_a_gpu(tmp_path: Any, monkeypatch: Any) -> None:
    """To machine code for a GPU that need not be there; the interpreter takes more than that."""
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    command = [sys.executable, "-c", COMPILE]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert len(set(result.stdout.split())) == 11
