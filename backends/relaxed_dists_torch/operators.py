"""The compiled kernels as operators of torch.library, which torch.compile leaves as they are.

``by_operator`` calls the operators. It imports this module when torch first compiles, since to
register them takes time. An operator returns new tensors, and an empty one for each result that is
not wanted. The gradients are those of the functions in ``autograd``.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Size, Tensor

from . import compiled
from .autograd import BinaryDensity, BinaryDraw, Density, Draw, Mass
from .layout import joint
from .seed import Seed

NAMESPACE = "relaxed_dists"
_library = torch.library.Library(NAMESPACE, "FRAGMENT")
Outputs = tuple[Tensor, ...]


def _define(schema: str, kernel: Callable[..., Any], shapes: Callable[..., Any]) -> str:
    """Define an operator by its schema, its kernel and its results' shapes, and return its name."""
    name = schema.split("(", 1)[0]
    _library.define(schema)
    _library.impl(name, kernel, "CPU")
    torch.library.register_fake(f"{NAMESPACE}::{name}", shapes, lib=_library)
    return f"{NAMESPACE}::{name}"


def _gradient(name: str, back: Callable[..., Any], setup: Callable[..., Any]) -> None:
    torch.library.register_autograd(name, back, setup_context=setup, lib=_library)


def _filled(like: Tensor, found: tuple[Tensor | None, ...]) -> Outputs:
    """The results, with an empty tensor in place of None."""
    return (*(like.new_empty(0) if x is None else x for x in found),)


def _shapes(like: Tensor, *shapes: Any) -> Outputs:
    """New tensors of these shapes; an empty one for None."""
    return (*(like.new_empty((0,) if shape is None else shape) for shape in shapes),)


def _noise(seed: Tensor, shape: Any, one_hot: bool) -> Tensor:
    made = Seed(int(seed), Size(shape))
    return compiled.gumbel(made) if one_hot else compiled.logistic(made)


def _noise_shape(seed: Tensor, shape: Any, one_hot: bool) -> Tensor:
    return seed.new_empty(shape, dtype=torch.float32)


_define("noise(Tensor seed, SymInt[] shape, bool one_hot) -> Tensor", _noise, _noise_shape)


def _given(noise: Tensor | None, seed: Tensor | None, shape: Any) -> Tensor | Seed:
    return Seed(int(seed), Size(shape)) if noise is None else noise  # type: ignore[arg-type]


def _draw(
    x: Tensor,
    noise: Tensor | None,
    t: Tensor,
    hard: bool,
    log: bool,
    own: bool,
    seed: Tensor | None,
    shape: Any,
) -> Outputs:
    found = compiled.draw(x, _given(noise, seed, shape), t, hard, log, own)
    return _filled(x, found if own else (*found, None))


def _draw_shapes(
    x: Tensor, noise: Any, t: Any, hard: bool, log: bool, own: bool, seed: Any, shape: Any
) -> Outputs:
    return _shapes(x, shape if log else None, shape, shape[:-1] if own else None)


def _draw_setup(ctx: Any, inputs: tuple[Any, ...], output: Outputs) -> None:
    log = inputs[4]
    Draw.setup_context(ctx, inputs, (output[0] if log else None, *output[1:]))


_gradient(
    _define(
        "draw(Tensor x, Tensor? noise, Tensor t, bool hard, bool log, bool own, Tensor? seed, "
        "SymInt[] shape) -> (Tensor, Tensor, Tensor)",
        _draw,
        _draw_shapes,
    ),
    lambda ctx, *given: (*Draw.backward(ctx, *given), None, None),
    _draw_setup,
)


def _draw_back(
    y: Tensor | None,
    p: Tensor | None,
    t: Tensor,
    by_y: Tensor | None,
    by_value: Tensor | None,
    by_t: bool,
    by_own: Tensor | None,
) -> Outputs:
    y, p = (None if x is None else x.contiguous() for x in (y, p))
    return _filled(t, compiled.draw_back(y, p, t, by_y, by_value, by_t, by_own))


def _draw_back_shapes(
    y: Any, p: Any, t: Tensor, by_y: Any, by_value: Any, by_t: bool, by_own: Any
) -> Outputs:
    shape = (y if p is None else p).shape
    return _shapes(t, shape, shape[:-1] if by_t else None)


_define(
    "draw_back(Tensor? y, Tensor? p, Tensor t, Tensor? by_y, Tensor? by_value, bool by_t, "
    "Tensor? by_own) -> (Tensor, Tensor)",
    _draw_back,
    _draw_back_shapes,
)


def _density_shape(x: Tensor, t: Tensor, y: Tensor, simplex: bool) -> Tensor:
    return x.new_empty(joint(y.shape[:-1], x.shape[:-1], t.shape))


_gradient(
    _define(
        "density(Tensor x, Tensor t, Tensor y, bool simplex) -> Tensor",
        compiled.density,
        _density_shape,
    ),
    lambda ctx, g: Density.backward(ctx, g)[:4],
    lambda ctx, inputs, output: Density.setup_context(ctx, (*inputs, False), output),
)


def _density_back(
    x: Tensor, t: Tensor, y: Tensor, g: Tensor, simplex: bool, wanted: Any
) -> Outputs:
    return _filled(x, compiled.density_back(x, t, y, g, simplex, wanted))


def _density_back_shapes(
    x: Tensor, t: Tensor, y: Tensor, g: Tensor, simplex: bool, wanted: Any
) -> Outputs:
    shapes = (*g.shape, x.shape[-1]), g.shape, (*g.shape, x.shape[-1])
    return _shapes(x, *(s if w else None for s, w in zip(shapes, wanted, strict=True)))


_define(
    "density_back(Tensor x, Tensor t, Tensor y, Tensor g, bool simplex, bool[3] wanted) -> "
    "(Tensor, Tensor, Tensor)",
    _density_back,
    _density_back_shapes,
)


def _mass(x: Tensor, value: Tensor) -> Tensor:
    return compiled.mass(x, value)[0]


def _mass_shape(x: Tensor, value: Tensor) -> Tensor:
    return x.new_empty(joint(value.shape[:-1], x.shape[:-1]))


_gradient(
    _define("mass(Tensor x, Tensor value) -> Tensor", _mass, _mass_shape),
    lambda ctx, g: Mass.backward(ctx, g, None),
    lambda ctx, inputs, output: Mass.setup_context(ctx, inputs, (output, None)),
)


def _mass_back(x: Tensor, value: Tensor, g: Tensor, wanted: Any) -> Outputs:
    return _filled(x, compiled.mass_back(x, value, g, wanted))


def _mass_back_shapes(x: Tensor, value: Tensor, g: Tensor, wanted: Any) -> Outputs:
    shape = (*g.shape, x.shape[-1])
    return _shapes(x, *(shape if w else None for w in wanted))


_define(
    "mass_back(Tensor x, Tensor value, Tensor g, bool[2] wanted) -> (Tensor, Tensor)",
    _mass_back,
    _mass_back_shapes,
)


def _binary_draw(
    x: Tensor,
    noise: Tensor | None,
    t: Tensor,
    hard: bool,
    log: bool,
    seed: Tensor | None,
    shape: Any,
) -> Outputs:
    return _filled(x, compiled.binary_draw(x, _given(noise, seed, shape), t, hard, log))


def _binary_draw_shapes(
    x: Tensor, noise: Any, t: Any, hard: bool, log: bool, seed: Any, shape: Any
) -> Outputs:
    return _shapes(x, shape if log else None, shape)


_gradient(
    _define(
        "binary_draw(Tensor x, Tensor? noise, Tensor t, bool hard, bool log, Tensor? seed, "
        "SymInt[] shape) -> (Tensor, Tensor)",
        _binary_draw,
        _binary_draw_shapes,
    ),
    lambda ctx, *given: (*BinaryDraw.backward(ctx, *given), None, None),
    BinaryDraw.setup_context,
)


def _binary_draw_back(
    y: Tensor, t: Tensor, by_y: Tensor | None, by_value: Tensor | None, by_t: bool
) -> Outputs:
    found = compiled.binary_draw_back(y.contiguous(), t, by_y, by_value, by_t)
    return _filled(y, found)


def _binary_draw_back_shapes(y: Tensor, t: Any, by_y: Any, by_value: Any, by_t: bool) -> Outputs:
    return _shapes(y, y.shape, y.shape if by_t else None)


_define(
    "binary_draw_back(Tensor y, Tensor t, Tensor? by_y, Tensor? by_value, bool by_t) -> "
    "(Tensor, Tensor)",
    _binary_draw_back,
    _binary_draw_back_shapes,
)


def _binary_density_shape(x: Tensor, t: Tensor, y: Tensor, unit: bool) -> Tensor:
    return x.new_empty(joint(y.shape, x.shape, t.shape))


_gradient(
    _define(
        "binary_density(Tensor x, Tensor t, Tensor y, bool unit) -> Tensor",
        compiled.binary_density,
        _binary_density_shape,
    ),
    BinaryDensity.backward,
    BinaryDensity.setup_context,
)


def _binary_density_back(
    x: Tensor, t: Tensor, y: Tensor, g: Tensor, unit: bool, wanted: Any
) -> Outputs:
    return _filled(x, compiled.binary_density_back(x, t, y, g, unit, wanted))


def _binary_density_back_shapes(
    x: Tensor, t: Tensor, y: Tensor, g: Tensor, unit: bool, wanted: Any
) -> Outputs:
    return _shapes(x, *(g.shape if w else None for w in wanted))


_define(
    "binary_density_back(Tensor x, Tensor t, Tensor y, Tensor g, bool unit, bool[3] wanted) -> "
    "(Tensor, Tensor, Tensor)",
    _binary_density_back,
    _binary_density_back_shapes,
)
