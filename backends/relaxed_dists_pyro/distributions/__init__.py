"""The public distributions, for Pyro."""
