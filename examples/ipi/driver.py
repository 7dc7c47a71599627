"""What i-PI loads to find the model: `<pes_path>` of an input file, `-P` of i-pi-driver-py."""

from equiforce.calculators.i_pi import EquiforceDriver  # noqa: F401

__DRIVER_CLASS__ = "EquiforceDriver"
