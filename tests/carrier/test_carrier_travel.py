"""Operations on a value before log_prob: some keep its relaxed sample, some lose it."""

import copy
import importlib
import io
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from carrying import (
    LOGITS,
    LOST,
    RIGHT,
    SPACE,
    TEMPERATURE,
    VIEWS,
    cells,
    check,
    density,
    enter,
    letter,
    make,
    needs_torch,
    pair,
)
from cases import STRAIGHT_THROUGH
from harness import Torch, jax, jnp, torch


def _through_file(z: Any) -> Any:
    file = io.BytesIO()
    torch.save(z, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def _writing(write: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A function that changes a value in place, and returns it."""

    def moved(z: Any) -> Any:
        write(z)
        return z

    return moved


def _pickled(z: Any) -> Any:
    return pickle.loads(pickle.dumps(z))


TRAVEL: dict[str, dict[str, tuple[Callable[[Any], Any], str]]] = {
    "pyro": {
        "the same object": (lambda z: z, RIGHT),
        "to its own dtype and device": (lambda z: z.double().cpu().contiguous(), RIGHT),
        "detach_": (lambda z: z.detach_(), RIGHT),
        "clone": (lambda z: z.clone(), LOST),
        "index": (lambda z: z[:1], LOST),
        "new axis": (lambda z: z[None], LOST),
        "reshape": (lambda z: z.reshape(1, *z.shape), LOST),
        "expand": (lambda z: z.expand(2, *z.shape), LOST),
        "expand to its own shape": (lambda z: z.expand(z.shape), LOST),
        "stack": (lambda z: torch.stack([z, z]), LOST),
        "cat": (lambda z: torch.cat([z, z]), LOST),
        "where": (lambda z: torch.where(z > 0, z, z), LOST),
        "detach": (lambda z: z.detach(), LOST),
        "data": (lambda z: z.data, LOST),
        "requires_grad_": (lambda z: z.requires_grad_(), RIGHT),
        "numpy": (lambda z: torch.as_tensor(z.numpy()), LOST),
        "add": (lambda z: z + 0, LOST),
        "to float32": (lambda z: z.float(), LOST),
        "copy": (copy.copy, LOST),
        "deepcopy": (copy.deepcopy, LOST),
        "pickle": (_pickled, LOST),
        "torch.save": (_through_file, LOST),
        "zero_": (lambda z: z.zero_(), LOST),
        "mul_ by one": (lambda z: z.mul_(1), LOST),
        "write to an item": (_writing(lambda z: z.__setitem__(0, 1.0)), LOST),
        "write to a view": (_writing(lambda z: z[0].fill_(1.0)), LOST),
        "write to a detached": (_writing(lambda z: z.detach().zero_()), LOST),
        "write, copy": (lambda z: copy.copy(z.zero_()), LOST),
        "write, deepcopy": (lambda z: copy.deepcopy(z.zero_()), LOST),
        "write, pickle": (lambda z: _pickled(z.zero_()), LOST),
        "write, torch.save": (lambda z: _through_file(z.zero_()), LOST),
    },
    "numpyro": {
        "the same object": (lambda z: z, RIGHT),
        "asarray": (lambda z: jnp.asarray(z), RIGHT),
        "device_put": (lambda z: jax.device_put(z), RIGHT),
        "a tree": (lambda z: jax.tree.map(lambda leaf: leaf, {"z": z})["z"], RIGHT),
        "array": (lambda z: jnp.array(z), LOST),
        "index": (lambda z: z[:1], LOST),
        "new axis": (lambda z: z[None], LOST),
        "reshape": (lambda z: z.reshape(1, *z.shape), LOST),
        "broadcast_to": (lambda z: jnp.broadcast_to(z, (2, *z.shape)), LOST),
        "stack": (lambda z: jnp.stack([z, z]), LOST),
        "concatenate": (lambda z: jnp.concatenate([z, z]), LOST),
        "where": (lambda z: jnp.where(z > 0, z, z), LOST),
        "stop_gradient": (lambda z: jax.lax.stop_gradient(z) + 0, LOST),
        "add": (lambda z: z + 0, LOST),
        "astype": (lambda z: z.astype("float32"), LOST),
        "at": (lambda z: z.at[0].set(1.0), LOST),
        "numpy": (lambda z: np.asarray(z), LOST),
        "copy": (copy.copy, LOST),
        "deepcopy": (copy.deepcopy, LOST),
        "pickle": (_pickled, LOST),
    },
}


@cells(TRAVEL)
@pytest.mark.parametrize("name", STRAIGHT_THROUGH)
def test_each_way_that_a_value_travels(framework: str, way: str, name: str, seed: int) -> None:
    """log_prob of the result and of the original is right, or raises the error."""
    travel, cell = TRAVEL[framework][way]
    backend, context = enter(framework)
    with context:
        d, value, y = pair(backend, name, seed, shape=(2,))
        expected = density(name, y, TEMPERATURE)
        moved = travel(value)
        check(cell, lambda: d.log_prob(moved), expected, backend)
        written = "write" in way or moved is value
        check(cell if written else RIGHT, lambda: d.log_prob(value), expected, backend)


COPIES = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": _pickled,
    "torch.save": _through_file,
}


@needs_torch
@pytest.mark.parametrize("way", COPIES)
@pytest.mark.parametrize("space", ["log_simplex", "logit", "masses", "soft"])
def test_a_written_copy_never_has_the_sample(space: str, way: str) -> None:
    """However often the drawn tensor and its copy were written to, the copy has no sample."""
    carrier = importlib.import_module("relaxed_dists_torch.carrier")
    for before in range(4):
        value = torch.ones(3)
        for _ in range(before):
            value.add_(1.0)
        carrier.keep_relaxed(value, True if space == "soft" else torch.zeros(3), space)
        copied = COPIES[way](value)
        for _ in range(4):
            copied.add_(1.0)
            assert carrier.get_relaxed(copied, space) is None
        assert carrier.get_relaxed(value, space) is not None


@needs_torch
@pytest.mark.parametrize("name", VIEWS)
def test_a_relaxed_value_that_was_written_to_is_scored_by_its_new_numbers(
    name: str, seed: int
) -> None:
    """After an in-place write in torch, the density is that of the new numbers, to 1e-6."""
    d, value, y = pair(Torch(), name, seed)
    value.copy_(value.flip(0))
    actual = Torch().numpy(d.log_prob(value))
    np.testing.assert_allclose(actual, density(name, y[::-1], TEMPERATURE), 1e-6)


@needs_torch
@pytest.mark.parametrize("name", [*STRAIGHT_THROUGH, *VIEWS])
def test_detach_in_place_detaches_the_relaxed_sample_too(name: str, seed: int) -> None:
    """After detach_() the density's gradient goes through its parameters, not through the draw."""
    backend = Torch()
    logits = backend.array(LOGITS).requires_grad_()
    d = getattr(backend.names, name)(TEMPERATURE, logits=logits)
    value = backend.draw(d, seed).detach_()
    y = backend.draw(make(backend, SPACE[letter(name)]), seed)
    space = getattr(backend.names, SPACE[letter(name)])(TEMPERATURE, logits=logits)
    expected = torch.autograd.grad(space.log_prob(y).sum(), logits)[0]
    actual = torch.autograd.grad(d.log_prob(value).sum(), logits)[0]
    np.testing.assert_allclose(actual, expected, 1e-9, 1e-12)
