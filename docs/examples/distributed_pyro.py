"""A mixture, fitted by Pyro's SVI in several processes that average their gradients.

python -m torch.distributed.run --standalone --nproc-per-node 2 docs/examples/distributed_pyro.py

Each process has its share of the rows. With --folder it saves checkpoints there, and goes on from
the newest one, in any number of processes. It ends in a row of the table of `make distributed`.
"""

import argparse
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyro
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from pyro.distributions import Normal
from pyro.infer import TraceMeanField_ELBO
from pyro.optim import PyroOptim
from torch import Tensor, nn

from distributed_table import peak, row, sent_in_torch
from relaxed_dists.pyro import AnnealedSVI, GumbelSoftmax, OneHotCategorical, evidence_bounds
from relaxed_dists.schedules import exponential

ROWS, BATCH = 1200, 120  # of all processes together


class Averaged(PyroOptim):
    """An optimiser of Pyro that averages the gradients of all processes before its step."""

    def __init__(self, optim: PyroOptim) -> None:
        super().__init__(optim.pt_optim_constructor, optim.pt_optim_args, optim.pt_clip_args)

    def __call__(self, params: Iterable[Tensor], *args: Any, **kwargs: Any) -> None:
        """Average the gradients, and take a step."""
        # SVI passes a set, whose order differs between processes.
        params = sorted(params, key=pyro.get_param_store().param_name)
        for param in params:
            dist.all_reduce(param.grad)
            param.grad /= dist.get_world_size()
        super().__call__(params, *args, **kwargs)


def make() -> AnnealedSVI:
    """The model and its guide, whose parameters are those of a module and a tensor."""
    encoder = nn.Sequential(nn.Linear(1, 16), nn.Tanh(), nn.Linear(16, 3))

    def model(x: Tensor) -> None:
        means = pyro.param("means", torch.tensor([-1.0, 0.0, 1.0]))
        with pyro.plate("rows", ROWS, subsample=x):  # each process estimates the loss of all rows
            z = pyro.sample("z", OneHotCategorical(probs=torch.ones(3)))
            pyro.sample("x", Normal(z @ means, 0.5), obs=x)

    def guide(x: Tensor, temperature: float) -> None:
        pyro.module("encoder", encoder)
        with pyro.plate("rows", ROWS, subsample=x):
            estimator = GumbelSoftmax(temperature, hard=False)
            pyro.sample("z", OneHotCategorical(logits=encoder(x[:, None]), estimator=estimator))

    optim, schedule = Averaged(pyro.optim.Adam({"lr": 0.01})), exponential(1.0, 2e-3, floor=0.3)
    return AnnealedSVI(model, guide, optim, TraceMeanField_ELBO(), temperature=schedule)


def start_equal(svi: AnnealedSVI, x: Tensor) -> None:
    """Give all processes the first one's parameters."""
    svi.evaluate_loss(x)  # model and guide make their parameters in their first call
    for _, param in sorted(pyro.get_param_store().named_parameters()):
        dist.broadcast(param.detach(), src=0)


def save(svi: AnnealedSVI, folder: Path) -> None:
    """Write a checkpoint: one state for all processes, and each one's random generators."""
    state = svi.state_dict()
    own = {f"generators of rank {dist.get_rank()}": state.pop("rng")}
    dcp.save({"svi": state, **own}, checkpoint_id=folder / str(svi.steps))


def load(svi: AnnealedSVI, folder: Path, x: Tensor) -> None:
    """Go on from the newest checkpoint, if there is one."""
    # A checkpoint's last file is .metadata: without that file, a process was killed meanwhile.
    steps = [int(path.parent.name) for path in folder.glob("*/.metadata")]
    if not steps:
        return
    svi.step(x)  # makes the tensors into which the checkpoint is read
    state, source = svi.state_dict(), folder / str(max(steps))
    own = {(name := f"generators of rank {dist.get_rank()}"): state.pop("rng")}
    dcp.load({"svi": state}, checkpoint_id=source)
    # A rank that was not there when the checkpoint was saved keeps its own generators.
    dcp.load(own, checkpoint_id=source, planner=dcp.DefaultLoadPlanner(allow_partial_load=True))
    svi.load_state_dict({**state, "rng": own[name]})


def spread() -> float:
    """The largest difference between the parameters of two processes."""
    parameters = [p.detach() for _, p in sorted(pyro.get_param_store().named_parameters())]
    flat = torch.cat([p.flatten() for p in parameters])
    everyone = [torch.empty_like(flat) for _ in range(dist.get_world_size())]
    dist.all_gather(everyone, flat)
    return max(float((other - flat).abs().max()) for other in everyone)


def train(steps: int, folder: Path | None = None, every: int = 100, count: bool = False) -> None:
    """Train in the processes of a group, and print a row of a table; count messages if asked."""
    rank, ranks = dist.get_rank(), dist.get_world_size()
    pyro.clear_param_store()
    pyro.set_rng_seed(0)
    rows = torch.tensor([-3.0, 0.0, 3.0]).repeat(ROWS // 3) + 0.5 * torch.randn(ROWS)
    svi, own = make(), rows[rank::ranks]
    start_equal(svi, own)
    pyro.set_rng_seed(1 + rank)  # other noise and other minibatches in each process
    if folder:
        load(svi, folder, own)

    start, first = time.perf_counter(), svi.steps
    while svi.steps < steps:
        svi.step(own[torch.randperm(len(own))[: BATCH // ranks]])
        if folder and svi.steps % every == 0:
            save(svi, folder)
    rate = (svi.steps - first) / (time.perf_counter() - start)

    apart = spread()
    pyro.set_rng_seed(0)
    how = {"temperature": 0.3, "num_samples": 20, "progress_bar": False}
    loss = -evidence_bounds(svi.model, svi.guide, rows, **how).elbo / ROWS  # of the discrete model
    sent = sent_in_torch(lambda: svi.step(own[: BATCH // ranks])) if count else "-"
    if rank == 0:
        row("distributed_pyro", ranks, ranks, loss, apart, sent, peak(), rate)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--folder", type=Path, help="save checkpoints, and go on from the newest")
    parser.add_argument("--every", type=int, default=100, help="steps between two checkpoints")
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    train(**vars(parser.parse_args()), count=True)
    dist.destroy_process_group()
