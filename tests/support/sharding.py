"""Sharded computations of every distribution of the table, in a process with four devices.

    python sharding.py < CASES

reads a JSON list of cases, each a check's name and its arguments by name. It prints a JSON list of
what is wrong in each case, which is empty if nothing is.
"""

import itertools
import json
import math
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from harness import BACKENDS, jax, jnp
from machinery import event_dim, with_logits

DEVICES = 4
# What part of which axis a device has; the mesh is 2 by 2. Logits have the axes batch, plate and
# categories.
PLACEMENTS: dict[str, tuple[Any, ...]] = {
    "batch": ("i",),
    "batch over both": (("i", "j"),),
    "plate": (None, "i"),
    "batch and plate": ("i", "j"),
    "categories": (None, None, "i"),
    "batch and categories": ("i", None, "j"),
}
BY_ROWS = list(PLACEMENTS)[:4]
# How a computation comes to several devices, with a placement.
WAYS = [
    ("auto", "batch"),
    ("auto", "batch and plate"),
    ("auto", "categories"),
    ("auto", "batch and categories"),
    ("explicit", "batch over both"),
    ("explicit", "plate"),
    ("explicit", "categories"),
    ("explicit", "batch and categories"),
    ("shard_map", "batch"),
    ("shard_map", "batch and plate"),
    ("shard_map, gradient outside", "batch over both"),
    ("shard_map, gradient outside", "plate"),
    ("shard_map unchecked", "batch and plate"),
    ("vmap", "batch"),
    ("pmap", "batch"),
]
COLLECTIVE = re.compile(
    r"= (.*?) (all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter)(?:-start)?\("
)
Values = dict[str, Any]
Program = Callable[..., Values]
SHAPE = (4, 2)  # the batch


def logits(name: str, batch: tuple[int, ...] = SHAPE, categories: int = 4) -> np.ndarray:
    """Logits of a batch shape."""
    shape = batch + (categories,) * event_dim(name)
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def total(values: Values) -> Any:
    """A number to differentiate: not linear in the values, of which infinite ones are left out."""
    finite = {k: jnp.where(jnp.isfinite(x), x, 0.0) for k, x in values.items()}
    return sum(jnp.sin(x).sum() for x in finite.values())


def ask(what: str, f: Callable[[], Any]) -> Values:
    """The value of f by name; nothing if the distribution does not have it."""
    try:
        return {what: f()}
    except NotImplementedError:
        return {}


GROUPS = {
    "draws": ["draw", "draws", "own density", "density"],
    "moments": ["mean", "variance"],
    "rest": ["mode", "probs", "prob_nonzero", "prob_one", "cdf", "icdf", "entropy"],
    "kl": ["kl at one temperature", "kl to one for all"],
}


def values_of(name: str, group: str) -> Program:
    """A function to what a distribution computes, each array with the batch shape first."""

    def program(x: Any, w: Any, t: Any, key: Any) -> Values:
        backend = BACKENDS["numpyro"]()
        d = with_logits(backend, name, x * w, t)
        value, intermediates = d.sample_with_intermediates(key)
        other = with_logits(backend, name, jnp.ones(x.shape[2:]) / 2, 0.7)
        asked: dict[str, Callable[[], Any]] = {
            "draw": lambda: value,
            "draws": lambda: jnp.moveaxis(d.sample(key, (3,)), 0, 2),
            "own density": lambda: d.log_prob(value, intermediates),
            "density": lambda: d.log_prob(jax.lax.stop_gradient(other.sample(key, x.shape[:2]))),
            "cdf": lambda: d.cdf(jnp.full(x.shape, 0.3)),
            "icdf": lambda: d.icdf(jnp.full(x.shape, 0.3)),
            "entropy": d.entropy,
        }
        if d._family.needs_sample:
            del asked["density"]
        kind = type(d)
        for what in ("mean", "variance", "mode", "probs", "prob_nonzero", "prob_one"):
            if hasattr(kind, what):
                asked[what] = lambda what=what: getattr(d, what)
        if hasattr(d._family, "kl"):
            scaled = with_logits(backend, name, x / 2, t)
            asked["kl at one temperature"] = lambda: backend.divergence(d, scaled)
            asked["kl to one for all"] = lambda: backend.divergence(d, other)
        found = [ask(what, f) for what, f in asked.items() if what in GROUPS[group]]
        return {what: x for one in found for what, x in one.items()}

    return program


def with_gradients(f: Program, by_all: bool = True) -> Program:
    """The values of a program and the gradients of their total by its arguments.

    The second argument, which is the same for all rows, is left out unless ``by_all``.
    """

    def program(x: Any, w: Any, t: Any, key: Any) -> Values:
        def both(*given: Any) -> tuple[Any, Values]:
            found = f(*given)
            return total(found), found

        by = (0, 1, 2) if by_all else (0, 2)
        gradients, found = jax.grad(both, by, has_aux=True)(x, w, t, key)
        return found | dict(zip([f"by {i}" for i in by], gradients, strict=True))

    return program


def mesh_of(kind: str) -> Any:
    """A mesh of 2 by 2 devices."""
    kinds = (getattr(jax.sharding.AxisType, kind),) * 2
    return jax.make_mesh((2, 2), ("i", "j"), axis_types=kinds)


def specs_of(placement: str, name: str) -> tuple[Any, ...]:
    """How the arguments of a program are sharded."""
    axes, rest = PLACEMENTS[placement], jax.sharding.PartitionSpec()
    rows = jax.sharding.PartitionSpec(*axes[:2])
    return jax.sharding.PartitionSpec(*axes[: 2 + event_dim(name)]), rest, rows, rest


def compiled(f: Program, given: tuple[Any, ...], kind: str, specs: tuple[Any, ...]) -> Any:
    """The program compiled for arguments that are sharded over a mesh, and these arguments."""
    mesh = mesh_of(kind)
    given = tuple(
        jax.device_put(x, jax.sharding.NamedSharding(mesh, spec))
        for x, spec in zip(given, specs, strict=True)
    )
    if kind == "Auto":
        return jax.jit(f).lower(*given).compile(), given
    with jax.set_mesh(mesh):
        return jax.jit(f).lower(*given).compile(), given


def blocks(placement: str) -> Iterator[tuple[slice, slice]]:
    """The part of the batch of each device."""
    sizes = {None: 1, "i": 2, "j": 2, ("i", "j"): 4}
    parts = [sizes[axis] for axis in (*PLACEMENTS[placement], None)[:2]]
    cuts = [
        [slice(i * n // k, (i + 1) * n // k) for i in range(k)]
        for n, k in zip(SHAPE, parts, strict=True)
    ]
    return itertools.product(*cuts)


def sharded(name: str, group: str, way: str, placement: str, given: tuple[Any, ...]) -> Values:
    """The values and gradients of a distribution, computed on several devices."""
    f, specs = values_of(name, group), specs_of(placement, name)
    if way in ("auto", "explicit"):
        program, given = compiled(with_gradients(f), given, way.capitalize(), specs)
        return program(*given)
    if way in ("vmap", "pmap"):
        over = getattr(jax, way)(with_gradients(f), in_axes=(0, None, 0, None), axis_name="i")
        x, w, t, key = given
        cut = x.reshape(2, 2, *x.shape[1:]), w, t.reshape(2, 2, *t.shape[1:]), key
        found = (jax.jit(over) if way == "vmap" else over)(*cut)
        found["by 1"] = found["by 1"].sum(0)
        merged = {k: v if k == "by 1" else v.reshape(-1, *v.shape[2:]) for k, v in found.items()}
        return merged
    rows, everywhere = specs[2], specs[1]
    outside = way.endswith("outside")
    checked = way != "shard_map unchecked"
    inner = f if outside else with_gradients(f, by_all=checked)
    names = jax.eval_shape(inner, *given)
    out = {k: everywhere if k == "by 1" else rows for k in names}
    over = jax.shard_map(
        inner, mesh=mesh_of("Auto"), in_specs=specs, out_specs=out, check_vma=checked
    )
    return jax.jit(with_gradients(over) if outside else over)(*given)


def integrals(group: str, name: str, way: list[str]) -> str:
    """Whether the values of a group, and their gradients, are those of one device."""
    x, (how, placement) = logits(name), way
    w = np.ones(x.shape[2:], np.float32)
    t = np.linspace(0.4, 0.9, 8).reshape(SHAPE).astype(np.float32)
    key = jax.random.key(1)
    whole = how in ("auto", "explicit")
    one = jax.jit(with_gradients(values_of(name, group)))
    expected: dict[str, np.ndarray] = {}
    cuts = [(slice(None), slice(None))] if whole else list(blocks(placement))
    for cut in cuts:
        for k, part in one(x[cut], w, t[cut], key).items():
            if k == "by 1":
                expected[k] = expected.get(k, 0) + np.asarray(part)
            else:
                expected.setdefault(k, np.zeros(SHAPE + part.shape[2:]))[cut] = part
    found = sharded(name, group, how, placement, (x, w, t, key))
    assert set(found) >= set(expected) - {"by 1"}
    for k, y in found.items():
        np.testing.assert_allclose(y, expected[k], rtol=1e-4, atol=1e-4, err_msg=k)
    return ""


def draws(name: str, way: list[str]) -> str:
    """Whether draws, densities and their gradients are those of one device."""
    return integrals("draws", name, way)


def elbo_term(name: str) -> Callable[..., Any]:
    """A draw, its density, and the gradient of a function of both by the logits."""
    backend = BACKENDS["numpyro"]()

    def term(x: Any, key: Any) -> tuple[Any, Values]:
        d = with_logits(backend, name, x)
        value, intermediates = d.sample_with_intermediates(key)
        found = {"draw": value, **ask("density", lambda: d.log_prob(value, intermediates))}
        return total(found), found

    return lambda x, key: jax.grad(term, has_aux=True)(x, key)


def compiled_term(placement: str, mesh: str, name: str, batch: tuple[int, ...], k: int) -> Any:
    """The compiled elbo_term of logits of a batch shape with k categories."""
    x, key, specs = logits(name, batch, k), jax.random.key(1), specs_of(placement, name)
    return compiled(elbo_term(name), (x, key), mesh.capitalize(), (specs[0], specs[1]))[0]


def sent(program: Any) -> list[tuple[str, str]]:
    """The messages between devices in a compiled program: what is sent, and the shapes."""
    return [(what, shapes) for shapes, what in COLLECTIVE.findall(program.as_text())]


def messages(placement: str, mesh: str, name: str) -> str:
    """Whether devices that have rows of their own send each other nothing."""
    found = sent(compiled_term(placement, mesh, name, (8, 4), 12))
    return "; ".join(f"{what} of {shapes}" for what, shapes in found)


def reductions(placement: str, mesh: str, name: str) -> str:
    """Whether devices that share a row's categories send no more than a number a row."""
    rows, wrong = 8 * 4 * 2, []  # some estimators draw two samples a row
    for what, shapes in sent(compiled_term(placement, mesh, name, (8, 4), 12)):
        sizes = [math.prod(map(int, x.split(","))) for x in re.findall(r"\[([\d,]+)\]", shapes)]
        if what == "all-gather" or max(sizes, default=0) > rows:
            wrong.append(f"{what} of {shapes}")
    return "; ".join(wrong)


def memory(placement: str, mesh: str, name: str) -> str:
    """Whether each device needs a share of the memory that one device would need."""
    one = jax.jit(elbo_term(name)).lower(logits(name, (64, 16), 12), jax.random.key(1)).compile()
    each = compiled_term(placement, mesh, name, (64, 16), 12)
    sizes = [program.memory_analysis() for program in (one, each)]
    whole, part = (s.temp_size_in_bytes + s.output_size_in_bytes for s in sizes)
    parts = math.prod(2 if isinstance(axis, str) else 4 for axis in PLACEMENTS[placement] if axis)
    return "" if part < 1.3 * whole / parts else f"{part} bytes of {whole}"


def concatenated_noise(name: str) -> str:
    """The result of ``messages`` if the noise is made of concatenated halves."""
    noise = BACKENDS["numpyro"]().noises
    right = noise._threefry_by_place
    noise._threefry_by_place = lambda key, shape: noise._threefry(key, math.prod(shape)).reshape(
        shape
    )
    jax.clear_caches()
    try:
        return messages("batch", "auto", name)
    finally:
        noise._threefry_by_place = right
        jax.clear_caches()


def main() -> None:
    """Run the cases that are given on the standard input."""
    found = []
    for check, arguments in json.load(sys.stdin):
        try:
            found.append(globals()[check](**arguments))
        except Exception:
            found.append(traceback.format_exc())
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    flags = os.environ.get("XLA_FLAGS", "")
    os.environ["XLA_FLAGS"] = f"{flags} --xla_force_host_platform_device_count={DEVICES}"
    main()
