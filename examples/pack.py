"""Pack a trained checkpoint as a network that lgir ships, with its checksum.

    python examples/pack.py cifar10-s cifar10.pt

It writes lgir/pretrained/NAME.onnx.xz and lgir/pretrained/SHA256SUMS in this repository.
"""

import hashlib
import lzma
import sys

import lgir
from lgir.files import write_atomically
from lgir.formats import container
from lgir.zoo import pretrained_file


def main(name: str, checkpoint: str) -> None:
    """Lift `checkpoint` and write it as the network called `name`."""
    data = lzma.compress(container.to_bytes(lgir.lift(checkpoint, name=name)), preset=9)
    path = pretrained_file(name)
    path.parent.mkdir(exist_ok=True)
    write_atomically(path, data)
    files = sorted(path.parent.glob("*.onnx.xz"))
    sums = [f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in files]
    write_atomically(path.with_name("SHA256SUMS"), "".join(sums).encode())
    print(f"{path}: {len(data):,} bytes")


if __name__ == "__main__":
    main(*sys.argv[1:])
