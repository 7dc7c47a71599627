"""Experiments on top of training: many runs, one table, and what it says."""
