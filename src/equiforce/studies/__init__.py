"""Experiments of many trainings: learning curves and benchmarks, with a table of results and a page for each."""
