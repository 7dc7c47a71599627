"""Makes one virtual environment for each package that equiforce is compared with.

python benchmarks/peers/install.py                  # nequip, allegro and mace
python benchmarks/peers/install.py nequip --extra   # with GPU kernels of others: not yet run
"""

import argparse
import hashlib
import subprocess
import sys
import venv
from pathlib import Path

HERE = Path(__file__).parent
ENVIRONMENTS = HERE.parent / ".peers"
PEERS = ("nequip", "allegro", "mace")
EXTRA = HERE / "extra.txt"


def python_of(peer: str) -> Path:
    """The interpreter of a peer's environment, whether it exists or not."""
    return ENVIRONMENTS / peer / "bin" / "python"


def install(peer: str, extra: bool) -> None:
    """Makes the environment of a peer, or finishes one that was interrupted, or leaves a finished one alone."""
    pins = HERE / f"{peer}.txt"
    folder = ENVIRONMENTS / peer
    wanted = hashlib.sha256(pins.read_bytes() + (EXTRA.read_bytes() if extra else b"")).hexdigest()
    ready = folder / "ready"
    if ready.exists() and ready.read_text() == wanted:
        print(f"{peer}: ready")
        return
    if not python_of(peer).exists():
        venv.create(folder, with_pip=True)
    pip = [str(python_of(peer)), "-m", "pip", "install", "--constraint", str(pins)]
    # torch by itself and first: beside others pip may prefer a build that brings gigabytes of CUDA
    subprocess.run([*pip, "torch"], check=True)
    subprocess.run([*pip, "--requirement", str(pins)], check=True)
    if extra:
        subprocess.run([*pip, "--requirement", str(EXTRA)], check=True)
    ready.write_text(wanted)
    print(f"{peer}: ready")


def main() -> None:
    """Installs the peers of the command line, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peers", nargs="*", metavar="peer", help=f"of {', '.join(PEERS)}; all where none is named")
    parser.add_argument(
        "--extra", action="store_true", help="OpenEquivariance and cuEquivariance too, on a GPU machine"
    )
    options = parser.parse_args()
    if unknown := set(options.peers) - set(PEERS):
        parser.error(f"there is no peer {unknown.pop()!r}: choose of {', '.join(PEERS)}")
    for peer in options.peers or PEERS:
        try:
            install(peer, options.extra)
        except subprocess.CalledProcessError as error:
            sys.exit(f"{peer}: pip ended with status {error.returncode}, see above; run the same command to go on")


if __name__ == "__main__":
    main()
