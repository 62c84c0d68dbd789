"""torch.compile keeps the compiled kernels as operators, and computes what eager code computes."""

import shutil
from collections.abc import Callable
from typing import Any

import pytest

from harness import one_graph, scalar_code

torch = pytest.importorskip("torch")
pyro = pytest.importorskip("relaxed_dists.pyro")

from relaxed_dists.torch import gumbel_softmax  # noqa: E402
from relaxed_dists_torch.compiled.load import KERNELS  # noqa: E402

pytestmark = [
    pytest.mark.skipif(KERNELS is None, reason="there are no compiled kernels"),
    # Inductor's first import defines a torch.jit.script_method, which torch deprecates itself.
    pytest.mark.filterwarnings("ignore:.*torch.jit.script_method.*:DeprecationWarning"),
    # After a break in the graph torch.compile reads .grad of each tensor.
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning"),
]

RELAXED = ("RelaxedOneHotCategorical", "RelaxedBernoulli")
SPACES = ("ExpRelaxedOneHotCategorical", "LogitRelaxedBernoulli")
HARD = tuple(f"{name}StraightThrough" for name in RELAXED)
DISCRETE = ("OneHotCategorical", "Bernoulli")
Function = Callable[..., Any]


def compiled(f: Function) -> tuple[Function, list[str]]:
    """The function as one compiled graph, and a list that gets the operators in its graphs."""
    from functorch.compile import make_boxed_func
    from torch._dynamo.backends.common import aot_autograd

    names: list[str] = []

    def compiler(graph: Any, example: Any) -> Any:
        targets = [str(node.target) for node in graph.graph.nodes if node.op == "call_function"]
        names.extend(t.split(".")[1] for t in targets if t.startswith("relaxed_dists."))
        return make_boxed_func(graph.forward)

    backend = aot_autograd(fw_compiler=compiler)
    return one_graph(f, backend=backend), names


def gradients(f: Function, *given: Any) -> list[Any]:
    """The results of a function for one seed, and the gradients of a sum of them."""
    torch.manual_seed(3)
    leaves = [x.clone().requires_grad_() for x in given]
    found = f(*leaves)
    total = sum((x * torch.arange(x.numel()).reshape(x.shape).cos()).sum() for x in found)
    return [x.detach() for x in found] + list(torch.autograd.grad(total, leaves))


def parameters(one_hot: bool, masked: bool = False) -> tuple[Any, Any]:
    """Logits, and a temperature for each row."""
    torch.manual_seed(0)
    x = torch.randn(5, 4)
    if masked:
        x[1, 2] = -torch.inf
    return x, (torch.rand(5) + 0.3 if one_hot else torch.rand(4) + 0.3)


def same(found: list[Any], expected: list[Any], error: float = 1e-6) -> None:
    """Equal to 1e-6: the order of a sum may differ."""
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=error, atol=error)


@pytest.mark.parametrize("name", [*RELAXED, *SPACES, *HARD])
def test_draws_densities_and_gradients(name: str) -> None:
    """Those of eager code from the same seed, with a mask and a sample shape, by kernels alone."""
    one_hot = "OneHot" in name

    def f(x: Any, t: Any) -> Any:
        d = getattr(pyro, name)(t, logits=x)
        z, more = d.rsample(), d.rsample((3,))
        return z, d.log_prob(z), more, d.log_prob(more)

    given = parameters(one_hot, masked=name in RELAXED)
    function, names = compiled(f)
    found = gradients(function, *given)
    expected = gradients(f, *given)
    assert torch.equal(found[0], expected[0])
    assert torch.equal(found[2], expected[2])
    same(found, expected)
    binary = "" if one_hot else "binary_"
    own = one_hot and name not in SPACES  # their density comes with the draw, and has no kernel
    density = set() if own else {f"{binary}density", f"{binary}density_back"}
    assert set(names) == {f"{binary}draw", f"{binary}draw_back"} | density


@pytest.mark.parametrize("name", DISCRETE)
@pytest.mark.parametrize("soft", [True, False])
def test_estimators_and_masses(name: str, soft: bool) -> None:
    """Draws with an estimator and without one, and masses of values that are given."""
    one_hot = name == "OneHotCategorical"

    def f(x: Any, t: Any) -> Any:
        cls = getattr(pyro, name)
        z = cls(logits=x, estimator=pyro.GumbelSoftmax(t, hard=not soft)).rsample()
        plain = cls(logits=x).sample()
        return z + 0.0 * t.sum(), plain, cls(logits=x).log_prob(plain)

    given = parameters(one_hot)
    function, names = compiled(f)
    same(gradients(function, *given), gradients(f, *given))
    draw = "draw" if one_hot else "binary_draw"
    assert {draw, f"{draw}_back", *(["mass", "mass_back"] if one_hot else [])} <= set(names)


def test_further_noise_and_functions() -> None:
    """An estimator with noise of its own, a subset's noise, and gumbel_softmax."""

    def f(x: Any) -> Any:
        rao = pyro.OneHotCategorical(logits=x, estimator=pyro.GumbelRao(0.5, samples=2))
        z = pyro.RelaxedSubset(0.5, 2, logits=x).rsample()
        return rao.rsample(), z, gumbel_softmax(x), gumbel_softmax(x, 2.0, hard=True)

    x, _ = parameters(True)
    function, names = compiled(f)
    same(gradients(function, x), gradients(f, x))
    assert {"noise", "draw", "draw_back"} == set(names)


def elbo(x: Any, t: Any) -> Any:
    d = pyro.RelaxedOneHotCategorical(t, logits=x)
    z, other = d.rsample(), d.rsample()
    return z, d.log_prob(z), other


def test_noise_is_drawn_when_the_code_runs() -> None:
    """Calls differ, so do draws in one graph, and torch.manual_seed brings a draw back."""
    function, _ = compiled(elbo)
    x, t = parameters(True)
    torch.manual_seed(1)
    one, two = function(x, t), function(x, t)
    torch.manual_seed(1)
    again = function(x, t)
    assert all(map(torch.equal, one, again))
    assert not torch.equal(one[0], two[0])
    assert not torch.equal(one[0], one[2])


def test_one_graph_for_any_batch() -> None:
    """A dynamic batch needs one compilation, and the numbers are those of eager code."""
    function, names = compiled(elbo)
    number = []
    for rows in (5, 7, 40):
        x, t = torch.randn(rows, 4), torch.rand(rows) + 0.3
        given = [z.requires_grad_() for z in (x, t)]
        for z in given:
            torch._dynamo.mark_dynamic(z, 0)
        torch.manual_seed(2)
        found = function(*given)
        back = torch.autograd.grad(sum(z.sum() for z in found), given)
        torch.manual_seed(2)
        expected = elbo(x, t)
        same(
            [*found, *back],
            [*expected, *torch.autograd.grad(sum(z.sum() for z in expected), given)],
        )
        number.append(len(names))
    assert number[0] == number[-1] > 0


@pytest.mark.skipif(shutil.which("c++") is None, reason="no C++ compiler")
def test_inductor() -> None:
    """Its code, here without the processor's vectors, computes the eager numbers to 1e-6."""

    def f(x: Any) -> Any:
        d = pyro.RelaxedOneHotCategorical(0.5, logits=x)
        z = d.rsample()
        return z, d.log_prob(z)

    (x, _), function = parameters(True), one_graph(f)
    with scalar_code():
        same(gradients(function, x), gradients(f, x))


def test_logits_that_nobody_checks() -> None:
    """NaN and +inf count as masks in draws, densities, moments and divergences."""

    def f(x: Any) -> Any:
        p = pyro.RelaxedOneHotCategorical(0.5, logits=x, validate_args=False)
        q = pyro.OneHotCategorical(logits=x, estimator=pyro.ReinMax(), validate_args=False)
        parts = p.rsample(), p.log_prob(torch.tensor([0.5, 0.0, 0.5, 0.0])), p.mean, p.probs
        return *parts, q.rsample(), q.entropy()

    x = torch.tensor([[1.0, torch.nan, 2.0, torch.inf]])
    function, _ = compiled(f)
    expected = gradients(f, torch.tensor([[1.0, -torch.inf, 2.0, -torch.inf]]))
    same(gradients(function, x), expected, 1e-5)  # the error of a mean's gradient in float32
    made = torch.compile(lambda x: pyro.RelaxedOneHotCategorical(0.5, logits=x), backend="eager")(x)
    assert torch.equal(made.mean[0] > 0, torch.tensor([True, False, True, False]))


@pytest.mark.parametrize("write", [False, True])
def test_parameters_written_to(write: bool) -> None:
    """After a write to the logits the density is that of the new logits, at the old draw."""

    def f(x: Any) -> Any:
        logits = 1.0 * x
        d = pyro.RelaxedOneHotCategorical(0.5, logits=logits)
        z = d.rsample()
        if write:
            logits.mul_(0.5)
        return z, d.log_prob(z)

    x, _ = parameters(True)
    function, names = compiled(f)
    same(gradients(function, x), gradients(f, x))
    assert ("density" in names) == write


def test_a_value_that_leaves_compiled_code() -> None:
    """Its density outside is exact, and a write makes it that of the new numbers."""
    d = pyro.RelaxedOneHotCategorical(0.01, logits=torch.randn(5, 4))
    function, _ = compiled(lambda x: pyro.RelaxedOneHotCategorical(0.01, logits=x).rsample())
    x = d.logits.clone().requires_grad_()
    torch.manual_seed(0)
    z = function(x)
    torch.manual_seed(0)
    expected = pyro.RelaxedOneHotCategorical(0.01, logits=x).rsample()
    assert torch.equal(z, expected)
    torch.testing.assert_close(d.log_prob(z), d.log_prob(expected), rtol=1e-6, atol=1e-5)
    broken = torch.compile(elbo_with_break, backend="aot_eager")
    same(gradients(broken, x.detach()), gradients(elbo_with_break, x.detach()))


def elbo_with_break(x: Any) -> Any:
    d = pyro.RelaxedOneHotCategorical(0.5, logits=x)
    z = d.rsample()
    torch._dynamo.graph_break()
    return z, d.log_prob(z)


def test_second_derivatives() -> None:
    """Those of eager code, where torch.compile leaves the gradients to torch."""

    def second(f: Function) -> Any:
        x = parameters(True)[0].requires_grad_()
        torch.manual_seed(0)
        (g,) = torch.autograd.grad(f(x).sum(), x, create_graph=True)
        return torch.autograd.grad(g.square().sum(), x)[0]

    def f(x: Any) -> Any:
        return pyro.RelaxedOneHotCategorical(0.5, logits=x).rsample().square()

    found = second(one_graph(f, backend="eager"))
    torch.testing.assert_close(found, second(f), rtol=1e-5, atol=1e-5)


# torch scripts its rules of forward mode, which it deprecates itself.
@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")
def test_forward_mode() -> None:
    """Compiled code that has run with operators computes forward derivatives, without them."""
    if torch.__version__ >= "2.14":
        pytest.skip("since torch 2.14, torch.compile refuses dual tensors")

    def f(x: Any) -> Any:
        return pyro.RelaxedOneHotCategorical(0.5, logits=x).log_prob(torch.full((5, 4), 0.25))

    x, _ = parameters(True)
    function, names = compiled(f)
    function(x)
    assert names == ["density"]
    (gradient,) = torch.autograd.grad(f(x.requires_grad_()).sum(), x)
    forward = torch.autograd.forward_ad
    with forward.dual_level():
        found = function(forward.make_dual(x.detach(), torch.ones(5, 4).cumsum(-1)))
        tangent = forward.unpack_dual(found).tangent
    torch.testing.assert_close(tangent, (gradient * torch.ones(5, 4).cumsum(-1)).sum(-1))


def drawn(x: Any, **options: Any) -> Any:
    return pyro.RelaxedOneHotCategorical(0.5, logits=x).rsample(**options)


FORMULAS: dict[str, Function] = {
    "double": lambda x: drawn(x.double()),
    "vmap": lambda x: torch.func.vmap(drawn, randomness="different")(x),
    "grad": lambda x: torch.func.grad(lambda y: drawn(y).square().sum())(x),
}


@pytest.mark.parametrize("what", FORMULAS)
def test_formulas_elsewhere(what: str) -> None:
    """Code with other dtypes or torch.func's transforms has no operator, and computes."""
    function, names = compiled(FORMULAS[what])
    x, _ = parameters(True)
    assert function(x).isfinite().all()
    assert names == []


def test_an_exported_program_has_no_operator() -> None:
    """So that it runs, and converts to other formats, where this library is not imported."""

    class Module(torch.nn.Module):
        def forward(self, x: Any) -> Any:
            return drawn(x)

    program = torch.export.export(Module(), (parameters(True)[0],), strict=False)
    assert "relaxed_dists" not in str(program.graph)


def test_the_operators_are_sound() -> None:
    """torch's own check: no aliases, no writes, shapes as they say, gradients registered."""
    from relaxed_dists_torch import operators

    assert operators
    ops = torch.ops.relaxed_dists
    x, t = parameters(True)
    t, seed, g = t.requires_grad_(), torch.tensor(3), torch.randn(5, 4)
    x.requires_grad_()
    y, p = (z.detach() for z in ops.draw(x, g, t, False, True, False, None, [5, 4])[:2])
    row, flags = torch.randn(5), (True, False, True)
    u = torch.rand(4) + 0.3
    cases = [
        (ops.noise, seed, [3, 4], True),
        (ops.noise, seed, [3], False),
        (ops.draw, x, None, t, False, True, True, seed, [2, 5, 4]),
        (ops.draw, x, g, t, True, False, False, None, [5, 4]),
        (ops.draw_back, y, p, t.detach(), None, g, True, row),
        (ops.draw_back, None, p, t.detach(), None, g, False, None),
        (ops.density, x, t, y, True),
        (ops.density_back, x.detach(), t.detach(), y, row, False, flags),
        (ops.mass, x, p),
        (ops.mass_back, x.detach(), p, row, (True, False)),
        (ops.binary_draw, x, None, u, False, True, seed, [2, 5, 4]),
        (ops.binary_draw, x, g, u, True, False, None, [5, 4]),
        (ops.binary_draw_back, g, u, None, g, True),
        (ops.binary_density, x, u, g, True),
        (ops.binary_density_back, x.detach(), u, g, g, False, flags),
    ]
    checks = ("test_schema", "test_autograd_registration", "test_faketensor")
    for operator, *given in cases:
        torch.library.opcheck(operator.default, tuple(given), test_utils=checks)
