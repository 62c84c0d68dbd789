"""The distributions, as Pyro's."""
