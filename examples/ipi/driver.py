"""The file that i-PI loads to find the driver: `<pes_path>` in its input, or `-P` of i-pi-driver-py."""

from equiforce.calculators.i_pi import EquiforceDriver  # noqa: F401

__DRIVER_CLASS__ = "EquiforceDriver"
