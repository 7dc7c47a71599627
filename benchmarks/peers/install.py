"""Makes a virtual environment for each package with which equiforce is compared.

python benchmarks/peers/install.py                  # all peers
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
PEERS = ("nequip", "allegro", "mace", "nequix", "nequix-torch", "sevenn", "suites")
# These list all that is used of their packages. Those of the suites name many more and contradict one another; Nequix
# wants JAX with gigabytes of CUDA, and its torch extra a package for GPUs that downloads while it is built.
COMPLETE = ("nequix-torch", "suites")
EXTRA = HERE / "extra.txt"


def python_of(peer: str) -> Path:
    """Return the path of the interpreter in a peer's environment, which may not exist."""
    return ENVIRONMENTS / peer / "bin" / "python"


def install(peer: str, extra: bool) -> None:
    """Make the environment of a peer, or finish one that was interrupted."""
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
    # torch comes first, because together with other packages pip may choose a build with gigabytes of CUDA
    if "\ntorch==" in pins.read_text():
        subprocess.run([*pip, "torch"], check=True)
    alone = ["--no-deps"] if peer in COMPLETE else []
    subprocess.run([*pip, *alone, "--requirement", str(pins)], check=True)
    if extra:
        subprocess.run([*pip, "--requirement", str(EXTRA)], check=True)
    ready.write_text(wanted)
    print(f"{peer}: ready")


def main() -> None:
    """Install the peers of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peers", nargs="*", metavar="peer", help=f"one of {', '.join(PEERS)}; all by default")
    parser.add_argument(
        "--extra", action="store_true", help="also install OpenEquivariance and cuEquivariance, for a GPU"
    )
    options = parser.parse_args()
    if unknown := set(options.peers) - set(PEERS):
        parser.error(f"there is no peer {unknown.pop()!r}: choose from {', '.join(PEERS)}")
    for peer in options.peers or PEERS:
        try:
            install(peer, options.extra)
        except subprocess.CalledProcessError as error:
            sys.exit(f"{peer}: pip ended with status {error.returncode}, see above; the same command continues")


if __name__ == "__main__":
    main()
