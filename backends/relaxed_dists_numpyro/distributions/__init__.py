"""The public distributions, for NumPyro."""
