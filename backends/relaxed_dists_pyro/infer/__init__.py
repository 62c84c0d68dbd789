"""Inference: handlers, guides and losses for models of Pyro."""
