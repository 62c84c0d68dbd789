"""The distributions and estimators, over a few array operations and without a framework."""
