"""Make the integer tables of the entropy coding: ``python bitstream_spec/make_entropy_tables.py``.

Needs mpmath. The output, ``entropy_tables.json``, is part of the specification (entropy.md, section 3) and is committed
twice: beside this script and, byte for byte the same, in ``neuralcodec/entropy``. Changing it makes old streams
undecodable. All rounding is done on numbers with 60 decimal digits, so that every machine writes the same file.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import mpmath

HERE = Path(__file__).resolve().parent
OUTPUTS = (HERE / "entropy_tables.json", HERE.parent / "neuralcodec" / "entropy" / "entropy_tables.json")

PRECISION = 24
TOTAL = 1 << PRECISION
TABLES = 64
SMALLEST_SCALE, LARGEST_SCALE = "0.11", "64"
RADIUS_IN_SCALES = "4.5"
LARGEST_RADIUS = 255
# A symbol of a table costs at most 20 bits, however improbable.
SMALLEST_FREQUENCY = 16
# An escape costs at most 18 bits (plus its remainder): real residuals have heavier tails than a Gaussian.
SMALLEST_ESCAPE = 64
# Probabilities of a flag being 1, in units of 2^-12.
FLAGS = (1, 4, 16, 48, 128, 256, 448, 704, 1024, 1408, 1792, 2304, 2816, 3328, 3776, 4032)
CLASSES = 15


def to_frequency(probability: mpmath.mpf) -> int:
    """Probability to the nearest multiple of 2^-24, halves upwards."""
    return int(mpmath.floor(probability * TOTAL + mpmath.mpf("0.5")))


def make_table(scale: mpmath.mpf) -> dict:
    """Frequencies of one discretised zero-mean Gaussian: the escape and the symbols 1..R (equal to those of -1..-R)."""
    radius = min(max(int(mpmath.ceil(mpmath.mpf(RADIUS_IN_SCALES) * scale)), 1), LARGEST_RADIUS)

    def upper_tail(x: mpmath.mpf) -> mpmath.mpf:  # 1 - Phi(x / scale), without cancellation
        return mpmath.erfc(x / (scale * mpmath.sqrt(2))) / 2

    half = mpmath.mpf("0.5")
    exact = [upper_tail(k - half) - upper_tail(k + half) for k in range(1, radius + 1)]
    positive = [max(SMALLEST_FREQUENCY, to_frequency(p)) for p in exact]
    escape = max(SMALLEST_ESCAPE, to_frequency(2 * upper_tail(radius + half)))
    return {"escape": escape, "positive": positive}


def main() -> None:
    mpmath.mp.dps = 60
    low, high = mpmath.log(mpmath.mpf(SMALLEST_SCALE)), mpmath.log(mpmath.mpf(LARGEST_SCALE))
    scales = [mpmath.exp(low + (high - low) * i / (TABLES - 1)) for i in range(TABLES)]
    classes = [1 << (PRECISION - 1 - c) for c in range(CLASSES - 1)]
    document = {
        "precision": PRECISION,
        "scales": [float(s) for s in scales],
        "tables": [make_table(s) for s in scales],
        "flags": [n << (PRECISION - 12) for n in FLAGS],
        "classes": classes + [TOTAL - sum(classes)],
    }
    lines = [f'{{"precision": {PRECISION},']
    for name in ("scales", "flags", "classes"):
        lines.append(f'"{name}": {json.dumps(document[name])},')
    rows = ",\n".join(json.dumps(t, separators=(",", ":")) for t in document["tables"])
    lines.append(f'"tables": [\n{rows}\n]}}')
    data = ("\n".join(lines) + "\n").encode("ascii")
    for path in OUTPUTS:
        path.write_bytes(data)
    print(hashlib.sha256(data).hexdigest(), len(data), "bytes")


if __name__ == "__main__":
    main()
