"""``python -m arbprov``, the same as ``arbprov``."""

from arbprov.cli import main

main(prog_name="arbprov")
