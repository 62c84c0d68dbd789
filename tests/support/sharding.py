"""Sharded computations of every distribution of the table, in a process with eight devices.

    python sharding.py < CASES

reads a JSON list of cases, each a check's name and its arguments by name. It prints a JSON list of
what is wrong in each case, which is empty if nothing is.
"""

import contextlib
import functools
import importlib
import itertools
import json
import math
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

import sharded_svi
from harness import BACKENDS, jax, jnp
from machinery import event_dim, with_logits

MESH = {"i": 4, "j": 2}
DEVICES = math.prod(MESH.values())
# What part of which axis a device has. Logits have the axes batch, plate and categories.
PLACEMENTS: dict[str, tuple[Any, ...]] = {
    "batch": ("i",),
    "batch over both": (("i", "j"),),
    "plate": (None, "j"),
    "batch and plate": ("i", "j"),
    "categories": (None, None, "j"),
    "batch and categories": ("i", None, "j"),
}
BY_ROWS = list(PLACEMENTS)[:4]
# How a computation comes to several devices, with a placement.
WAYS = [
    ("auto", "batch"),
    ("explicit, mesh not set", "batch and plate"),
    ("explicit and auto", "batch and plate"),
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
    ("pmap", "batch over both"),
]
WHOLE = ("auto", "explicit")  # these ways compute the batch as a whole
BY_CATEGORIES = [way for way in WAYS if way[1] not in BY_ROWS]
COLLECTIVE = re.compile(
    r"= (.*?) (all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter)(?:-start)?\("
)
MATCHED = ["Permutation", "RelaxedPermutation hard"]  # SciPy computes their draws, on one device
Values = dict[str, Any]
Program = Callable[..., Values]
SHAPE = (8, 2)  # the batch
CATEGORIES = 12  # of draws; integrals have fewer


def logits(name: str, categories: int, batch: tuple[int, ...] = SHAPE) -> np.ndarray:
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
    "draws": ["draw", "own density", "density"],
    "mean": ["mean"],
    "variance": ["variance"],
    "rest": ["mode", "probs", "prob_nonzero", "prob_one", "cdf", "icdf", "entropy"],
    "kl": ["kl at one temperature", "kl to one for all"],
}


def values_of(name: str, group: str, samples: tuple[int, ...]) -> Program:
    """A function to what a distribution computes, each array with the batch shape first."""

    def behind(x: Any) -> Any:
        return jnp.moveaxis(x, 0, 2) if samples else x

    def program(x: Any, w: Any, t: Any, key: Any) -> Values:
        backend = BACKENDS["numpyro"]()
        masked = jnp.isneginf(x)  # with these numbers, the derivative by w would be NaN
        d = with_logits(backend, name, jnp.where(masked, x, jnp.where(masked, 0, x) * w), t)
        value, intermediates = d.sample_with_intermediates(key, samples)
        other = with_logits(backend, name, jnp.ones(x.shape[2:]) / 2, 0.7)
        asked: dict[str, Callable[[], Any]] = {
            "draw": lambda: behind(value),
            "own density": lambda: behind(d.log_prob(value, intermediates)),
            "density": lambda: behind(d.log_prob(jax.lax.stop_gradient(value))),
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


@functools.cache
def on_one_device(*asked: Any) -> Callable[..., Values]:
    """The values of ``values_of`` and their gradients, computed on one device."""
    return jax.jit(with_gradients(values_of(*asked)))


def mesh_of(way: str) -> Any:
    """A mesh of all devices, with the kinds of axes of a way."""
    if not hasattr(jax, "set_mesh"):  # all axes are automatic
        return jax.make_mesh(tuple(MESH.values()), tuple(MESH))
    auto, explicit = jax.sharding.AxisType.Auto, jax.sharding.AxisType.Explicit
    first = explicit if way.startswith("explicit") else auto
    kinds = first, auto if way == "explicit and auto" else first
    return jax.make_mesh(tuple(MESH.values()), tuple(MESH), axis_types=kinds)


def shard_map(f: Program, checked: bool, **how: Any) -> Program:
    """JAX's shard_map over all devices, unchecked also before JAX 0.6, which has it elsewhere."""
    if hasattr(jax, "shard_map"):
        return jax.shard_map(f, mesh=mesh_of("auto"), check_vma=checked, **how)
    mapped = importlib.import_module("jax.experimental.shard_map").shard_map
    return mapped(f, mesh=mesh_of("auto"), check_rep=checked, **how)


def specs_of(placement: str, name: str) -> tuple[Any, ...]:
    """How the arguments of a program are sharded."""
    axes, rest = PLACEMENTS[placement], jax.sharding.PartitionSpec()
    rows = jax.sharding.PartitionSpec(*axes[:2])
    return jax.sharding.PartitionSpec(*axes[: 2 + event_dim(name)]), rest, rows, rest


def compiled(f: Program, given: tuple[Any, ...], way: str, specs: tuple[Any, ...]) -> Any:
    """The program compiled for arguments that are sharded over a mesh, and these arguments."""
    mesh = mesh_of(way)
    given = tuple(
        jax.device_put(x, jax.sharding.NamedSharding(mesh, spec))
        for x, spec in zip(given, specs, strict=True)
    )
    explicit = way in ("explicit", "explicit and auto")
    with jax.set_mesh(mesh) if explicit else contextlib.nullcontext():
        return jax.jit(f).lower(*given).compile(), given


def parts(axis: Any) -> int:
    """In how many parts an axis of an array is cut over axes of the mesh."""
    names = (axis,) if isinstance(axis, str) else axis or ()
    return math.prod(MESH[name] for name in names)


def blocks(placement: str) -> Iterator[tuple[slice, slice]]:
    """The part of the batch of each device."""
    axes = (*PLACEMENTS[placement], None)[:2]
    cuts = [
        [slice(i * n // parts(axis), (i + 1) * n // parts(axis)) for i in range(parts(axis))]
        for n, axis in zip(SHAPE, axes, strict=True)
    ]
    return itertools.product(*cuts)


def sharded(
    f: Program, specs: tuple[Any, ...], way: str, given: tuple[Any, ...], names: list[str]
) -> tuple[Values, list[tuple[str, str]]]:
    """The values and gradients, by their names, computed on several devices, and what they send."""
    if way in ("vmap", "pmap"):
        how = {"spmd_axis_name": "i"} if way == "vmap" else {}
        how |= {"in_axes": (0, None, 0, None), "axis_name": "i"}
        over = getattr(jax, way)(with_gradients(f), **how)
        (x, w, t, key), n = given, parts(specs[0][0])
        cut = x.reshape(n, -1, *x.shape[1:]), w, t.reshape(n, -1, *t.shape[1:]), key
        if way == "vmap":  # the mapped axis is sharded
            rows = jax.sharding.NamedSharding(mesh_of("auto"), specs[0])
            cut = jax.device_put(cut[0], rows), *cut[1:]
        found = (jax.jit(over) if way == "vmap" else over)(*cut)
        found["by 1"] = found["by 1"].sum(0)
        merged = {k: v if k == "by 1" else v.reshape(-1, *v.shape[2:]) for k, v in found.items()}
        return merged, []
    if way.startswith(WHOLE):
        program, given = compiled(with_gradients(f), given, way, specs)
        return program(*given), sent(program)
    rows, everywhere = specs[2], specs[1]
    outside = way.endswith("outside")
    checked = way != "shard_map unchecked"
    inner = f if outside else with_gradients(f, by_all=checked)
    by = ["by 0", "by 1", "by 2"] if outside else [] if checked else ["by 1"]
    out = {k: everywhere if k == "by 1" else rows for k in names if k not in by}
    over = shard_map(inner, checked, in_specs=specs, out_specs=out)
    program, given = compiled(with_gradients(over) if outside else over, given, "auto", specs)
    return program(*given), sent(program)


def samples_of(how: str) -> tuple[int, ...]:
    """The sample shape of a draw: () under the simplest way only, since each is compiled anew."""
    return () if how == "auto" else (3,)


def compared(group: str, name: str, way: list[str], categories: int) -> list[tuple[str, str]]:
    """Compare the values of a group, and their gradients, with one device's; what devices send."""
    x, (how, placement) = logits(name, categories), way
    if placement not in BY_ROWS and group == "draws":
        x[1, 0, categories // 2 :] = -np.inf  # all that one of the devices has of a row
    w = np.ones(x.shape[2:], np.float32)
    t = np.linspace(0.4, 0.9, math.prod(SHAPE)).reshape(SHAPE).astype(np.float32)
    key, samples = jax.random.key(1), samples_of(how)
    whole = how.startswith(WHOLE)
    expected: dict[str, np.ndarray] = {}
    cuts = [(slice(None), slice(None))] if whole else list(blocks(placement))
    for cut in cuts:
        for k, part in on_one_device(name, group, samples)(x[cut], w, t[cut], key).items():
            if k == "by 1":
                expected[k] = expected.get(k, 0) + np.asarray(part)
            else:
                expected.setdefault(k, np.zeros(SHAPE + part.shape[2:]))[cut] = part
    f, given = values_of(name, group, samples), (x, w, t, key)
    found, messages = sharded(f, specs_of(placement, name), how, given, list(expected))
    assert set(found) >= set(expected) - {"by 1"}
    for k, y in found.items():
        size = abs(expected[k]).max() if k.startswith("by ") else 1.0  # sums of large numbers
        limit = max(1e-4, 1e-5 * size)
        np.testing.assert_allclose(y, expected[k], rtol=1e-4, atol=limit, err_msg=k)
    return messages


def integrals(group: str, name: str, way: list[str]) -> str:
    """Whether moments or divergences are those of one device."""
    compared(group, name, way, 4)
    return ""


def rows(name: str, way: list[str]) -> str:
    """The messages of devices with whole rows, without the gradient of what all rows share."""
    found, most = compared("draws", name, way, CATEGORIES), CATEGORIES ** event_dim(name)
    wrong = [x for x in found if x[0] != "all-reduce" or largest(x[1]) > most]
    return "" if name in MATCHED else told(wrong)


def categories(name: str, way: list[str]) -> str:
    """The messages of devices with parts of rows, without those of a number for each row."""
    found, (how, placement) = compared("draws", name, way, CATEGORIES), way
    numbers = math.prod(SHAPE) // parts(PLACEMENTS[placement][0]) * math.prod(samples_of(how))
    # Some estimators draw two samples a row. The gradient of what all rows have is gathered.
    most = {"all-gather": CATEGORIES, "all-reduce": max(CATEGORIES, 2 * numbers)}
    return told(x for x in found if largest(x[1]) > most.get(x[0], 2 * numbers))


def sent(program: Any) -> list[tuple[str, str]]:
    """The messages between devices in a compiled program: what is sent, and the shapes."""
    return [(what, shapes) for shapes, what in COLLECTIVE.findall(program.as_text())]


def largest(shapes: str) -> int:
    """The size of the largest array of a message."""
    found = re.findall(r"\[([\d,]+)\]", shapes)
    return max((math.prod(map(int, x.split(","))) for x in found), default=0)


def told(found: Iterable[tuple[str, str]]) -> str:
    """Messages in words."""
    return "; ".join(f"{what} of {shapes}" for what, shapes in found)


def elbo_term(name: str) -> Callable[..., Any]:
    """A draw, its density, and the gradient of a function of both by the logits."""
    backend = BACKENDS["numpyro"]()

    def term(x: Any, key: Any) -> tuple[Any, Values]:
        d = with_logits(backend, name, x)
        value, intermediates = d.sample_with_intermediates(key)
        found = {"draw": value, **ask("density", lambda: d.log_prob(value, intermediates))}
        return total(found), found

    return lambda x, key: jax.grad(term, has_aux=True)(x, key)


def memory(placement: str, mesh: str, name: str) -> str:
    """Whether each device needs a share of the memory that one device would need."""
    given, specs = (logits(name, 12, (64, 16)), jax.random.key(1)), specs_of(placement, name)
    one = jax.jit(elbo_term(name)).lower(*given).compile()
    each, _ = compiled(elbo_term(name), given, mesh, specs[:2])
    sizes = [program.memory_analysis() for program in (one, each)]
    whole, part = (s.temp_size_in_bytes + s.output_size_in_bytes for s in sizes)
    share = whole / math.prod(map(parts, PLACEMENTS[placement]))
    return "" if part < 1.35 * share else f"{part} bytes of {whole}"


def concatenated_noise(name: str) -> str:
    """What devices send in a draw if its noise is made of concatenated halves."""
    noise = BACKENDS["numpyro"]().noises
    right = noise._threefry_by_place
    noise._threefry_by_place = lambda key, shape: noise._threefry(key, math.prod(shape)).reshape(
        shape
    )
    jax.clear_caches()
    try:
        given, specs = (logits(name, 12), jax.random.key(1)), specs_of("batch", name)
        return told(sent(compiled(elbo_term(name), given, "auto", specs[:2])[0]))
    finally:
        noise._threefry_by_place = right
        jax.clear_caches()


def masks(name: str) -> str:
    """Whether densities of hidden values on explicit axes are those of one device."""

    def density(x: Any, mask: Any, value: Any) -> Values:
        return {"density": with_logits(BACKENDS["numpyro"](), name, x).mask(mask).log_prob(value)}

    x, rest = logits(name, 4), jax.sharding.PartitionSpec()
    value = np.full_like(x, np.nan)
    value[:, 1] = np.eye(4)[0] if event_dim(name) else 1.0  # the values of a plate that is seen
    rows = specs_of("batch and plate", name)[0]
    for mask, spec in ((np.array([False, True]), rest), (np.ones(SHAPE) * [0, 1] > 0, rows)):
        given = x, mask, value
        program, parts = compiled(density, given, "explicit", (rows, spec, rows))
        np.testing.assert_allclose(
            program(*parts)["density"], density(*given)["density"], rtol=1e-5
        )
    return ""


def svi(mesh: str) -> str:
    """The messages in a step of a training, without the sums of parameters' gradients."""
    program = sharded_svi.compare(mesh_of(mesh))
    most = sharded_svi.PIXELS * sharded_svi.CODES * sharded_svi.CLASSES
    return told(x for x in sent(program) if x[0] != "all-reduce" or largest(x[1]) > most)


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
    flags += f" --xla_force_host_platform_device_count={DEVICES}"
    # Small programs compile faster in one piece.
    os.environ["XLA_FLAGS"] = f"{flags} --xla_cpu_parallel_codegen_split_count=1"
    main()
