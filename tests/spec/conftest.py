"""The reference decoder of bitstream_spec, and the small models of tests/codecs, on the import path."""

import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS.parent / "bitstream_spec"), str(TESTS / "codecs")]
