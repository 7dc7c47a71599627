"""Model files that were tampered with, and whose checksum fits all the same."""

import json
import struct

from safetensors import safe_open
from safetensors.torch import save

from equiforce.model_file import with_checksum


def content(path):
    """The weights and the header of a model file."""
    with safe_open(path, framework="pt") as opened:
        weights = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - not a mapping
        return weights, json.loads(opened.metadata()["equiforce"])


def rewritten(file, path, change):
    """Write a copy of a model file whose weights or header ``change`` has changed."""
    weights, header = content(file)
    header = change(weights, header) or header
    path.write_bytes(with_checksum(save(weights, metadata={"equiforce": json.dumps(header)})))
    return path


def parts(data):
    """The header of safetensors, the header of equiforce within it, and the weights of a file."""
    length = int.from_bytes(data[:8], "little")
    outer = json.loads(data[8 : 8 + length])
    return outer, json.loads(outer["__metadata__"]["equiforce"]), data[8 + length :]


def joined(outer, inner, body):
    """The bytes of a file with a checksum that fits, from its parts; the headers may also be texts."""
    if isinstance(outer, dict) and inner is not None:
        text = inner if isinstance(inner, str) else json.dumps(inner)
        outer = {**outer, "__metadata__": {"equiforce": text}}
    head = (outer if isinstance(outer, str) else json.dumps(outer)).encode("utf-8", "surrogatepass")
    return with_checksum(struct.pack("<Q", len(head)) + head + body)


def without(key, *path):
    """A change that deletes an entry of the header."""

    def change(_, header):
        part = header
        for name in path:
            part = part[name]
        del part[key]

    return change


def with_value(value, *path):
    """A change that sets an entry of the header."""

    def change(_, header):
        part = header
        for name in path[:-1]:
            part = part[name]
        part[path[-1]] = value

    return change
