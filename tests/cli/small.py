"""Options of a training run that takes a second."""

from tests.data_sets import TINY

SETS = [part for name, value in TINY.items() for part in ("--set", f"model.{name}={value}")]
