"""The reference decoder of bitstream_spec on the import path."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bitstream_spec"))
