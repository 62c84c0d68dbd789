"""A categorical autoencoder, trained by AnnealedSVI on a batch that is sharded over a mesh."""

import contextlib
import functools
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from harness import BACKENDS, jax, jnp
from relaxed_dists.schedules import linear

ROWS, PIXELS, CODES, CLASSES, STEPS = 16, 6, 3, 4, 3
SCHEDULE = linear(1.0, 0.4, 6)
DATA = np.random.default_rng(0).normal(size=(ROWS, PIXELS)).astype(np.float32)


def coder() -> Any:
    """An AnnealedSVI of a model and a guide with a linear layer each."""
    backend = BACKENDS["numpyro"]()
    ppl, names = backend.ppl, backend.names

    def dense(name: str, x: Any, width: int) -> Any:
        start = lambda key: 0.3 * jax.random.normal(key, (x.shape[-1], width))  # noqa: E731
        bias = ppl.param(f"{name}.bias", jnp.zeros(width))
        return x @ ppl.param(f"{name}.weight", start) + bias

    def model(x: Any) -> None:
        with ppl.plate("rows", len(x)):
            z = ppl.sample(
                "z", names.OneHotCategorical(logits=jnp.zeros((CODES, CLASSES))).to_event(1)
            )
            loc = dense("decoder", z.reshape(*z.shape[:-2], -1), PIXELS)
            ppl.sample("x", ppl.distributions.Normal(loc, 0.5).to_event(1), obs=x)

    def guide(x: Any, temperature: Any) -> None:
        with ppl.plate("rows", len(x)):
            logits = dense("encoder", x, CODES * CLASSES).reshape(*x.shape[:-1], CODES, CLASSES)
            estimator = names.GumbelSoftmax(temperature, hard=False)
            ppl.sample("z", names.OneHotCategorical(logits=logits, estimator=estimator).to_event(1))

    loss = backend.infer.TraceMeanField_ELBO()
    return names.AnnealedSVI(model, guide, ppl.optim.Adam(0.01), loss, temperature=SCHEDULE)


def trained(svi: Any, x: Any, everywhere: Any = None) -> tuple[Any, Any, Any]:
    """The first state, the state after some steps, and the compiled step."""
    how = {"out_shardings": everywhere} if everywhere else {}
    state = start = jax.jit(svi.init, **how)(jax.random.key(0), x)
    step = jax.jit(svi.update, **how).lower(state, x).compile()
    for _ in range(STEPS):
        state, _ = step(state, x)
    return start, state, step


@functools.cache
def on_one_device() -> tuple[Any, Any]:
    """An AnnealedSVI, and its state after some steps."""
    svi = coder()
    return svi, trained(svi, DATA)[1]


def close(svi: Any, state: Any, expected: Any) -> None:
    """Raise unless the parameters of two states agree to rounding."""
    for name, value in svi.get_params(expected).items():
        np.testing.assert_allclose(svi.get_params(state)[name], value, atol=2e-6, err_msg=name)


def compare(mesh: Any) -> Any:
    """Compare a training over a mesh with one device's, and return the compiled step."""
    one, expected = on_one_device()
    explicit = hasattr(jax, "set_mesh") and mesh.axis_types[0] == jax.sharding.AxisType.Explicit
    by_rows, everywhere = (
        jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*axes))
        for axes in ((mesh.axis_names,), ())
    )
    with jax.set_mesh(mesh) if explicit else contextlib.nullcontext():
        several, x = coder(), jax.device_put(DATA, by_rows)
        start, state, step = trained(several, x, everywhere)
        close(one, state, expected)
        np.testing.assert_allclose(several.current_temperature(state), SCHEDULE(STEPS), rtol=1e-6)
        with tempfile.TemporaryDirectory() as folder:
            several.save(Path(folder) / "state", state)
            loaded = several.load(Path(folder) / "state", start)
            alone = one.load(Path(folder) / "state", expected)
        places = [[leaf.sharding for leaf in jax.tree.leaves(x)] for x in (loaded, state)]
        assert places[0] == places[1]
        then, (again, _) = step(loaded, x), step(state, x)
        close(one, then[0], again)
        close(one, alone, state)
        run = several.run(jax.random.key(0), STEPS, x, init_state=start, progress_bar=False)
        close(one, run.state, expected)
    return step
