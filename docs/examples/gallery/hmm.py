"""
Calm and turbulent days
=======================

A hidden Markov model finds the turbulent weeks of a share, with and without relaxation.

The data are the daily returns of Google's share from 2004 to 2008, which come with Matplotlib. A
day is calm or turbulent, which sets the scale of its return, and is likely to be like the day
before it. The guide is a chain as well. In NumPyro.
"""

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import numpyro
import optax
from matplotlib.cbook import get_sample_data
from numpyro import distributions as dist
from numpyro.contrib.control_flow import scan
from numpyro.distributions.constraints import positive, unit_interval
from numpyro.infer import TraceMeanField_ELBO

from relaxed_dists.numpyro import AnnealedSVI, GumbelSoftmax, OneHotCategorical, evidence_bounds
from relaxed_dists.schedules import exponential

STEPS = 1500
prices = get_sample_data("goog.npz")["price_data"]
returns = 100 * np.diff(np.log(prices["adj_close"]))  # in per cent
x, day = jnp.asarray(returns), prices["date"][1:]


def parameters():
    scales = numpyro.param("scales", jnp.array([1.0, 4.0]), constraint=positive)
    stay = numpyro.param("stay", jnp.array([0.9, 0.9]), constraint=unit_interval)
    return scales, jnp.array([[stay[0], 1 - stay[0]], [1 - stay[1], stay[1]]])


def model(x):
    scales, transition = parameters()

    def step(z, x):
        z = numpyro.sample("z", OneHotCategorical(probs=z @ transition))
        numpyro.sample("x", dist.Normal(0.0, z @ scales), obs=x)
        return z, None

    scan(step, jnp.array([0.5, 0.5]), x)


# %%
# A guide that is a chain
# -----------------------
# Each day has a row of logits for either state of the day before. The samples are soft. The
# parameters have a lower learning rate than the rows.
def guide(x, temperature=1.0):
    estimator = GumbelSoftmax(temperature, hard=False)

    def step(z, row):
        z = numpyro.sample("z", OneHotCategorical(logits=z @ row, estimator=estimator))
        return z, None

    rows = numpyro.param("rows", jnp.zeros((len(x), 2, 2)))
    scan(step, jnp.array([0.5, 0.5]), rows)


rates = {"rows": optax.adam(0.05), "scales": optax.adam(0.01), "stay": optax.adam(0.01)}
adam = optax.multi_transform(rates, lambda params: {name: name for name in params})
temperature = exponential(1.0, rate=3 / STEPS, floor=0.2)
svi = AnnealedSVI(model, guide, adam, TraceMeanField_ELBO(), temperature)
key = jax.random.key(0)
params = svi.run(key, STEPS, x, progress_bar=False).params
bounds = evidence_bounds(key, params, model, guide, x, num_samples=100, progress_bar=False)


def forward(probs, row):
    probs = probs @ jax.nn.softmax(row, -1)
    return probs, probs[1]


fitted = jax.lax.scan(forward, jnp.array([0.5, 0.5]), params["rows"])[1]


# %%
# The exact way
# -------------
# A chain is summed out by the forward algorithm. Its gradient is exact, so that the parameters
# can be fitted to the evidence itself, and the derivative of the log evidence by a day's log
# likelihoods is the posterior of that day's state.
def log_evidence(log_likelihoods, transition):
    def step(log_mass, each):
        log_mass = jax.nn.logsumexp(log_mass[:, None] + jnp.log(transition), 0) + each
        return log_mass, None

    start = jnp.log(jnp.array([0.5, 0.5]))
    return jax.nn.logsumexp(jax.lax.scan(step, start, log_likelihoods)[0])


def summed_out(x):
    scales, transition = parameters()
    each = dist.Normal(0.0, scales).log_prob(x[:, None])
    numpyro.factor("x", log_evidence(each, transition))


exactly = AnnealedSVI(summed_out, lambda x: None, numpyro.optim.Adam(0.03), TraceMeanField_ELBO())
best = exactly.run(key, 1000, x, progress_bar=False).params
posteriors = []
for name, values in {"relaxed": params, "exact": best}.items():
    with numpyro.handlers.substitute(data=values):
        scales, transition = parameters()
    each = dist.Normal(0.0, scales).log_prob(x[:, None])
    evidence, posterior = jax.value_and_grad(log_evidence)(each, transition)
    posteriors.append(posterior[:, 1])
    print(f"{name}: log evidence {evidence:.1f}, scales {scales[0]:.2f} and {scales[1]:.2f}")
    print(f"  mean stay {1 / transition[0, 1]:.0f} and {1 / transition[1, 0]:.0f} days")
print(f"evidence lower bound: {bounds.elbo:.1f}")
turbulent = posteriors[1] > 0.5
print(f"turbulent days by the exact posterior: {100 * turbulent.mean():.0f} %")
alike = (fitted > 0.5) == turbulent
print(f"days on which guide and exact posterior agree: {100 * alike.mean():.0f} %")

# %%
figure, axes = plt.subplots(3, 1, sharex=True, figsize=(8, 5.5))
axes[0].plot(day, returns, lw=0.7)
axes[0].set_ylabel("return, %")
titles = "P(turbulent), trained by annealed SVI", "P(turbulent), summed out"
for axis, title, probs in zip(axes[1:], titles, [fitted, posteriors[1]], strict=True):
    axis.fill_between(day, probs, step="mid", color="C1")
    axis.set_title(title, fontsize=10, loc="left")
plt.show()

# %%
# The exact posterior is that of the parameters that were fitted exactly. Trained by relaxed draws,
# the evidence is lower, and the turbulent state is shorter and wilder: for a chain alone, take the
# forward algorithm. Relax a chain inside a larger model whose other parts can't be summed out.
#
# Next: :doc:`how to write a chain </how-to/relaxable-models>`, and :doc:`when not to relax
# </when-not>`.
