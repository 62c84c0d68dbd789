"""
Densities on the simplex
========================

A relaxed category spreads over the triangle at a high temperature and moves to its corners.

The corners of a triangle are three categories, and a point in it is a mixture of them. The colour
is the log density of ``RelaxedOneHotCategorical`` at four temperatures, and the dots are 300 draws.
Each draw is then rounded to its nearest corner. How often that is the first one, the second or the
third depends on the probabilities only, and not on the temperature: annealing changes how close to
a corner the draws are, and not which corner it is.
"""

import matplotlib.pyplot as plt
import numpy as np
import pyro
import torch
from matplotlib.tri import Triangulation

from relaxed_dists.pyro import RelaxedOneHotCategorical

pyro.set_rng_seed(0)
probs = torch.tensor([0.5, 0.3, 0.2])
temperatures = [2.0, 1.0, 0.5, 0.2]

# %%
# The triangle's points
# ---------------------
# A lattice of points that keeps off the border, where densities may be 0 or infinite.
steps = 80
first, second = np.mgrid[1:steps, 1:steps].reshape(2, -1)
inside = first + second < steps
first, second = first[inside], second[inside]
lattice = np.stack([first, second, steps - first - second], -1) / steps
corners = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, 0.75**0.5]])
triangles = Triangulation(*(lattice @ corners).T)

# %%
# Density and draws
# -----------------
points = torch.tensor(lattice, dtype=torch.float32)
figure, axes = plt.subplots(2, 2, figsize=(7, 5.6))
for axis, temperature in zip(axes.flat, temperatures, strict=True):
    d = RelaxedOneHotCategorical(torch.tensor(temperature), probs=probs)
    density = d.log_prob(points).clamp(-3, 4)
    axis.tripcolor(triangles, density, shading="gouraud", cmap="YlGnBu")
    axis.plot(*(d.sample((300,)).numpy() @ corners).T, ".", color="#c8553d", ms=2.5)
    axis.set_title(f"temperature {temperature}", loc="left", fontsize=10)
    axis.set_aspect("equal")
    axis.axis("off")
    for corner, p in zip(corners, probs, strict=True):
        axis.annotate(f"{p:.1f}", corner, ha="center", va="bottom" if corner[1] else "top")
plt.show()

# %%
# The corners' shares
# -------------------
# The category of a draw's largest entry has exactly the probabilities of the discrete distribution:
# with 100,000 draws, a share has a standard error of at most 0.0016. ``largest`` is the mean of the
# largest entry, which grows as the temperature falls.
for temperature in temperatures:
    x = RelaxedOneHotCategorical(torch.tensor(temperature), probs=probs).sample((100_000,))
    shares = x.argmax(-1).bincount() / len(x)
    error = (shares - probs).abs().max()
    print(f"temperature {temperature}: largest {x.max(-1).values.mean():.2f}, shares", end=" ")
    print(" ".join(f"{share:.3f}" for share in shares), f"off by {error:.3f}")

# %%
# Next: :doc:`choose a temperature and a schedule </how-to/temperature>`, and
# :doc:`what relaxing the model, the guide or both optimises </pairings>`.
