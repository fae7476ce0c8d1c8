"""A capacity map in a payload, in front of everything else (bitstream_spec/adanic.md, section 3).

Each block's option is predicted from those to the left, above, and above to the left by the median rule of LOCO-I (Weinberger et al., "The LOCO-I
lossless image compression algorithm", IEEE Trans. Image Processing, 2000); the differences are one group of symbols under one of eight tables, which
the encoder chooses. A map of the level's capacity everywhere so takes three bits.
"""

from __future__ import annotations

import numpy as np

from neuralcodec.core.errors import StreamError
from neuralcodec.entropy import FrameDecoder, FrameEncoder, cost_bits

TABLES = (0, 6, 12, 16, 19, 22, 25, 28)
"""Scale indexes that a map's differences may have: standard deviations of 0.11 to 1.86."""
LABEL = "capacity map"


def write_map(encoder: FrameEncoder, options: np.ndarray, widest: int, narrowest: int) -> None:
    """``options`` (rows, columns) of blocks, from ``widest`` to ``narrowest``, which the decoder knows. Nothing is sent where these are the same."""
    if widest == narrowest:
        return
    differences = np.zeros(options.shape, np.int32)
    for row, column in np.ndindex(options.shape):
        differences[row, column] = options[row, column] - _predicted(options, row, column, widest)
    costs = [float(cost_bits(differences, np.full(options.shape, table)).sum()) for table in TABLES]
    best = int(np.argmin(costs))
    encoder.put_bits(best, 3, LABEL)
    encoder.put(differences, np.full(options.shape, TABLES[best]), LABEL)


def read_map(decoder: FrameDecoder, shape: tuple[int, int], widest: int, narrowest: int) -> np.ndarray:
    """int64 (rows, columns). Raises StreamError for an option out of range."""
    options = np.full(shape, widest, np.int64)
    if widest == narrowest:
        return options
    table = TABLES[int(decoder.get_bits(3, 1, LABEL)[0])]
    differences = decoder.get(np.full(shape, table), LABEL)
    for row, column in np.ndindex(shape):
        option = _predicted(options, row, column, widest) + int(differences[row, column])
        if not widest <= option <= narrowest:
            raise StreamError("a capacity map with an option that the level does not have")
        options[row, column] = option
    return options


def _predicted(options: np.ndarray, row: int, column: int, first: int) -> int:
    if row == 0 or column == 0:
        return int(options[row - 1, 0] if row else options[0, column - 1] if column else first)
    left, above, corner = (int(n) for n in (options[row, column - 1], options[row - 1, column], options[row - 1, column - 1]))
    return sorted((left, above, left + above - corner))[1]
