"""Inference: what goes around models and guides of Pyro."""
