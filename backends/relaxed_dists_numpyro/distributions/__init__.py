"""The distributions, as NumPyro's."""
