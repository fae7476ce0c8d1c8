"""``python -m neuralcodec`` is ``ncodec``."""

from neuralcodec.cli import main

main(prog_name="ncodec")
