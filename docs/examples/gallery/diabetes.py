"""
Gates against the lasso
=======================

Each of ten measurements has a gate that opens if it helps to predict the progress of diabetes.

This is a linear regression for 442 patients, in which a closed gate takes a measurement out.
``AutoRelaxed`` makes the guide of the Bernoulli gates, and Pyro's own ``AutoMultivariateNormal``
that of the weights. The model is small enough for exact results: the posterior of the gates is a
sum over all 1,024 of their values. In Pyro.
"""

from itertools import product

import matplotlib.pyplot as plt
import numpy as np
import pyro
import torch
from pyro import distributions as dist
from pyro.infer import TraceMeanField_ELBO
from pyro.infer.autoguide import AutoMultivariateNormal
from scipy.special import softmax
from scipy.stats import multivariate_normal
from sklearn.datasets import load_diabetes
from sklearn.linear_model import LassoCV

from relaxed_dists.pyro import AnnealedSVI, AutoRelaxed, Bernoulli
from relaxed_dists.schedules import exponential

NOISE, SLAB, OPEN, STEPS = 0.7, 0.3, 0.3, 2000  # deviations of y and of a weight, P(gate = 1)
pyro.set_rng_seed(0)
data = load_diabetes()
x, y = ((a - a.mean(0)) / a.std(0) for a in (data.data, data.target))


def model(x, y):
    with pyro.plate("features", x.shape[-1]):
        gate = pyro.sample("gate", Bernoulli(probs=torch.tensor(OPEN)))
        weight = pyro.sample("weight", dist.Normal(0.0, SLAB))
    with pyro.plate("patients", len(y)):
        pyro.sample("y", dist.Normal(x @ (gate * weight), NOISE), obs=y)


guide = AutoRelaxed(model, continuous=AutoMultivariateNormal)
adam, temperature = pyro.optim.Adam({"lr": 0.02}), exponential(1.0, rate=3 / STEPS, floor=0.2)
svi = AnnealedSVI(model, guide, adam, TraceMeanField_ELBO(), temperature)
tensors = [torch.tensor(a, dtype=torch.float32) for a in (x, y)]
for _ in range(STEPS):
    svi.step(*tensors)
fitted = guide.discrete_posterior()["gate"].probs.numpy()

# %%
# The exact posterior, and the lasso
# ----------------------------------
# Given the gates, y is Gaussian, and its projection on the measurements is all that matters.
gates = np.array(list(product([0, 1], repeat=x.shape[1])))
basis, triangle = np.linalg.qr(x)
target, noise = basis.T @ y, NOISE**2 * np.eye(x.shape[1])
prior = gates.sum(-1) * np.log(OPEN / (1 - OPEN))
log_mass = prior + [
    multivariate_normal(cov=noise + SLAB**2 * (triangle * g) @ triangle.T).logpdf(target)
    for g in gates
]
exact = softmax(log_mass) @ gates
lasso = LassoCV(random_state=0).fit(x, y).coef_
print("          fitted   exact   lasso")
for name, *row in zip(data.feature_names, fitted, exact, lasso, strict=True):
    print(f"{name:<8}", *(f"{number:7.3f}" for number in row))
joint = (softmax(log_mass) * gates.T) @ gates  # P(both gates open)
covariance = joint - np.outer(exact, exact)
correlation = covariance / np.sqrt(np.outer(*2 * [np.diag(covariance)]))
print(f"exact correlation of the gates s1 and s3: {correlation[4, 6]:.2f}", end=", ")
print(f"s1 and s4: {correlation[4, 7]:.2f}, s3 and s4: {correlation[6, 7]:.2f}")
decided = abs(exact - 0.5) > 0.4
print(f"decided gates: {decided.sum()}, off by at most {abs(fitted - exact)[decided].max():.3f}")
print(f"other gates: {(~decided).sum()}, off by at most {abs(fitted - exact)[~decided].max():.3f}")

# %%
# The measurements s1 to s4 are of blood fats, and their gates depend on each other in the
# posterior. The guide's gates are independent, so that it picks one of the answers: see the bars of
# s1, s3 and s4. The lasso has no such probabilities; its coefficients are shown beside them.
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 4))
at = np.arange(len(exact))
left.bar(at - 0.2, exact, 0.4, label="exact posterior")
left.bar(at + 0.2, fitted, 0.4, label="annealed SVI")
left.set(title="Probability that the gate is open", ylim=(0, 1.2))
left.legend(loc="upper center", ncols=2)
right.bar(at, abs(lasso), 0.6, color="C2")
right.set_title("Lasso: size of the coefficient")
for axis in (left, right):
    axis.set_xticks(at, data.feature_names)
plt.show()

# %%
# Next: :doc:`gates that are exactly 0 </gates>`, and :ref:`what a guide of independent sites
# misses <independent-sites>`.
