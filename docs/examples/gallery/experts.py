"""
Experts that share a landscape
==============================

Twelve planes and a gate describe the land around a fault, each plane where it fits.

The heights of the Jacksboro fault in Tennessee come with Matplotlib. Each of 2,193 points belongs
to one of twelve experts, which are planes. The gate gives the experts their probabilities at each
place: a softmax of linear functions. In Pyro.
"""

import matplotlib.pyplot as plt
import numpy as np
import pyro
import torch
from matplotlib.cbook import get_sample_data
from pyro import distributions as dist
from pyro.infer import TraceMeanField_ELBO

from relaxed_dists.pyro import AnnealedSVI, AutoRelaxed, OneHotCategorical, evidence_bounds
from relaxed_dists.schedules import exponential

EXPERTS, STEPS = 12, 1000
pyro.set_rng_seed(0)
heights = get_sample_data("jacksboro_fault_dem.npz")["elevation"].astype(np.float32)


def points(offset):
    """Every eighth point of the map: the place with a 1, and the height, both scaled."""
    sides = [np.linspace(-1, 1, n)[offset::8] for n in heights.shape]
    place = np.stack(np.meshgrid(*sides, indexing="ij"), -1)
    scaled = (heights[offset::8, offset::8] - heights.mean()) / heights.std()
    place = torch.tensor(place.reshape(-1, 2), dtype=torch.float32)
    return torch.cat([place, torch.ones(len(place), 1)], -1), torch.tensor(scaled.flatten())


(x, y), held_out = points(0), points(4)
centres = x[torch.randperm(len(x))[:EXPERTS], :2]
# The gate's start: each expert around a place of its own.
gate_start = torch.cat([8 * centres, -4 * (centres**2).sum(-1, keepdim=True)], -1).T


def parameters():
    gate = pyro.param("gate", gate_start.clone())
    planes = pyro.param("planes", torch.zeros(3, EXPERTS))
    noise = pyro.param("noise", torch.tensor(0.5), constraint=dist.constraints.positive)
    return gate, planes, noise


def model(x, y):
    gate, planes, noise = parameters()
    with pyro.plate("points", len(x)):
        z = pyro.sample("z", OneHotCategorical(logits=x @ gate))
        pyro.sample("y", dist.Normal((z * (x @ planes)).sum(-1), noise), obs=y)


guide = AutoRelaxed(model)
adam, temperature = pyro.optim.Adam({"lr": 0.03}), exponential(1.0, rate=3 / STEPS, floor=0.3)
svi = AnnealedSVI(model, guide, adam, TraceMeanField_ELBO(), temperature)
for _ in range(STEPS):
    svi.step(x, y)
bounds = evidence_bounds(model, guide, x, y, num_samples=20, progress_bar=False)
fitted = [p.detach() for p in parameters()]

# %%
# Against the exact gradient
# --------------------------
# Each point can be summed over its twelve experts, so that the evidence and its gradient are exact.
# That ends higher, and is the way to take for this model. Relaxation is for models with more
# choices than can be summed over. The held-out points lie between those of the training. All
# numbers are nats a point.


def log_likelihood(x, y, gate, planes, noise):
    each = dist.Normal(x @ planes, noise).log_prob(y[:, None])
    return ((x @ gate).log_softmax(-1) + each).logsumexp(-1).mean()


start = [gate_start, torch.zeros(3, EXPERTS), torch.tensor(0.5)]
summed = [p.clone().requires_grad_() for p in start]
summed[1].data += 0.01 * torch.randn(3, EXPERTS)
optimizer = torch.optim.Adam(summed, lr=0.03)
for _ in range(STEPS):
    optimizer.zero_grad()
    (-log_likelihood(x, y, *summed)).backward()
    optimizer.step()
plane = torch.linalg.lstsq(x, y[:, None]).solution[:, 0]
one = dist.Normal(held_out[0] @ plane, (y - x @ plane).std())
print(f"evidence lower bound: {bounds.elbo / len(x):.3f}")
print(f"log evidence: {log_likelihood(x, y, *fitted):.3f}")
print(f"held out, relaxed: {log_likelihood(*held_out, *fitted):.3f}")
print(f"held out, summed out: {log_likelihood(*held_out, *summed):.3f}")
print(f"held out, one plane: {one.log_prob(held_out[1]).mean():.3f}")

# %%
shape = heights[::8, ::8].shape
gate, planes, _ = fitted
expert = (x @ gate).argmax(-1)
height = (x @ planes).gather(-1, expert[:, None]).reshape(shape)
figure, axes = plt.subplots(1, 3, figsize=(9, 3.2))
limits = {"vmin": -2, "vmax": 3, "cmap": "YlGnBu"}
axes[0].imshow(y.reshape(shape), **limits)
axes[1].imshow(height, **limits)
axes[2].imshow(expert.reshape(shape), cmap="tab20")
for axis, title in zip(axes, ["height", "planes", "the gate's choice"], strict=True):
    axis.set_title(title)
    axis.axis("off")
plt.show()

# %%
# Next: :doc:`write a model that can be relaxed </how-to/relaxable-models>`, and
# :doc:`when not to relax </when-not>`.
