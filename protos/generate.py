"""Generate arbprov/_proto from hub.proto, or check that it is in step.

    python protos/generate.py --write    write the files
    python protos/generate.py --check    exit 1 and name what differs

Needs grpcio-tools 1.65.5: its code runs on every protobuf runtime from 5.26 on,
while newer generators refuse older runtimes.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

PROTOS = Path(__file__).parent
SOURCE = PROTOS / "arbprov" / "_proto" / "hub.proto"
TARGET = PROTOS.parent / "arbprov" / "_proto"
NAMES = ("hub_pb2.py", "hub_pb2.pyi")

DEFAULT_POOL = "_descriptor_pool.Default()"
# The file has no package, so in the default pool its `Task` would collide with
# any other package-less `Task` of the process.
PRIVATE_POOL = "_descriptor_pool.DescriptorPool()"


def generate(folder: Path) -> None:
    """Write the generated files below `folder`, each in its package's place."""
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{PROTOS}"]
    outputs = [f"--python_out={folder}", f"--pyi_out={folder}"]
    subprocess.run([*command, *outputs, str(SOURCE)], check=True)
    module = folder / "arbprov" / "_proto" / "hub_pb2.py"
    module.write_text(with_private_pool(module.read_text()))


def with_private_pool(code: str) -> str:
    """Return generated `code` that registers its messages in a pool of its own."""
    if code.count(DEFAULT_POOL) != 1:
        raise SystemExit(f"expected {DEFAULT_POOL} once in the generated code")
    return code.replace(DEFAULT_POOL, PRIVATE_POOL)


def main(arguments: list[str]) -> None:
    """Write the files, or compare them with what is committed."""
    if arguments not in (["--write"], ["--check"]):
        raise SystemExit(__doc__)
    with tempfile.TemporaryDirectory() as scratch:
        generate(Path(scratch))
        fresh = {n: (Path(scratch) / "arbprov/_proto" / n).read_bytes() for n in NAMES}
    if arguments == ["--check"]:
        stale = [n for n in NAMES if (TARGET / n).read_bytes() != fresh[n]]
        if stale:
            raise SystemExit(f"out of step with {SOURCE.name}: {', '.join(stale)}")
        return
    for name, content in fresh.items():
        (TARGET / name).write_bytes(content)


if __name__ == "__main__":
    main(sys.argv[1:])
