"""Several predictions of a P frame, one for each cell of 16x16 luma samples (bitstream_spec/pictures.md, section 11).

From the reference, one frame back, and pictures before it, all with the one set of vectors that the frame has::

    first:   the reference along the vectors
    second:  the frame two back: along the vectors, then along those that the reference had where they lead
    third:   the frame three back, one step on in the same manner
    long:    the long-term reference, the last frame that was said to be one (an intra frame at first), in as many steps as it is back
    longer:  the long-term reference before that
    still:   the reference where it is

A cell shows one of them or a mean. Averages of several pictures have less of the noise of coding (multi-hypothesis prediction; Girod, "Efficiency
analysis of multihypothesis motion-compensated prediction for video coding", IEEE TIP 2000); what moving things uncover was seen before; beside them
what stands still is not moved; and what comes from far back is interpolated once, not once a frame.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property

import torch
from torch import Tensor

from neuralcodec.nn.compensation import (
    GRID_FRAC,
    VECTOR_LIMIT,
    VECTOR_STEPS,
    double_size,
    sample_doubled,
    sample_quarters,
)
from neuralcodec.nn.layout import ALIGN

FIRST, FIRST_SECOND, SECOND, STILL, FIRST_STILL, ALL, LONG, FIRST_LONG, LONGER, FIRST_LONGER = range(10)
"""What a cell shows: one prediction or the mean of two; ALL is the mean of the first and of the mean of second and third."""
LONG_TERM = 2
"""Long-term references."""
_CELL_BITS = GRID_FRAC + 3
"""A vector's unit is so many halvings of a vector cell, 8 luma samples."""
_PREDICTION_STEPS = 2.0**14


class Doubled:
    """Planes y (1, 1, H, W), uv (1, 2, H/2, W/2), and the same at twice the size (nn.compensation), made when first read."""

    def __init__(self, y: Tensor, uv: Tensor) -> None:
        self.y, self.uv = y, uv

    @cached_property
    def large(self) -> tuple[Tensor, Tensor]:
        """(1, 1, 2H, 2W), (1, 2, H, W)."""
        return double_size(self.y), double_size(self.uv)


@dataclass(frozen=True)
class Step:
    """A step back: ``vectors`` (1, 2, H/8, W/8) of a picture, integers in sixteenths of a luma sample, and the picture that they point into."""

    vectors: Tensor
    picture: Doubled


@dataclass(frozen=True)
class Past:
    """How a picture came from those before: ``steps``, at most two, the first into its reference, the next from there on; ``long``, at most two, the whole
    way to each long-term reference, the last first. ``lasting``: the picture is a long-term reference itself, as every intra frame is."""

    steps: tuple[Step, ...] = ()
    long: tuple[Step, ...] = ()
    lasting: bool = True


@dataclass(frozen=True)
class Ways:
    """From a picture into those that it may be predicted from."""

    first: Step
    second: Step
    third: Step
    long: tuple[Step, ...]
    """One or two."""

    def past(self, before: Past, lasting: bool) -> Past:
        """The picture's own, ``before`` being its reference's."""
        return Past((self.first, *before.steps[:1]), self.long, lasting)


def in_sixteenths(vectors: Tensor) -> Tensor:
    """Vectors in luma samples (B, 2, h, w) -> int32 in sixteenths, rounded half up and clamped as motion compensation does."""
    return torch.floor(vectors.clamp(-VECTOR_LIMIT, VECTOR_LIMIT) * (1 << GRID_FRAC) + 0.5).to(torch.int32)


def follow(vectors: Tensor, before: Tensor) -> Tensor:
    """Vectors of a picture and those of its reference, both (B, 2, h, w) int32 in sixteenths -> vectors into the reference's reference.

    The reference's are read where the picture's lead from the centre of a cell, bilinearly between cells; edges repeat."""
    b, _, h, w = vectors.shape
    one = 1 << _CELL_BITS
    cells = torch.meshgrid(*(torch.arange(n, dtype=torch.int32, device=vectors.device) * one for n in (h, w)), indexing="ij")
    x = (cells[1] + vectors[:, 0]).clamp_(0, one * (w - 1))  # (B, h, w)
    y = (cells[0] + vectors[:, 1]).clamp_(0, one * (h - 1))
    tx, ty = (x & (one - 1))[:, None], (y & (one - 1))[:, None]
    x, y = (x >> _CELL_BITS).long(), (y >> _CELL_BITS).long()
    right, below = (x + 1).clamp_max_(w - 1), (y + 1).clamp_max_(h - 1)
    flat = before.flatten(2)

    def at(row: Tensor, column: Tensor) -> Tensor:
        return flat.gather(2, (row * w + column).view(b, 1, h * w).expand(b, 2, h * w)).view(b, 2, h, w)

    top = at(y, x) * (one - tx) + at(y, right) * tx
    bottom = at(below, x) * (one - tx) + at(below, right) * tx
    led = (top * (one - ty) + bottom * ty + (1 << 2 * _CELL_BITS - 1)) >> 2 * _CELL_BITS
    limit = int(VECTOR_LIMIT) << GRID_FRAC
    return (vectors + led).clamp_(-limit, limit)


def ways_back(first: Step, past: Past) -> Ways:
    """``first``: a picture's vectors and its reference; ``past``: the reference's. Where that ends, the second or third way is the one before it."""
    ways = [first]
    for i in range(2):
        ways.append(_further(ways[i], past.steps[i]) if i < len(past.steps) else ways[i])
    own = (first,) if past.lasting else ()
    return Ways(*ways, own + tuple(_further(first, step) for step in past.long[: LONG_TERM - len(own)]))


def _further(way: Step, step: Step) -> Step:
    return Step(follow(way.vectors, step.vectors), step.picture)


def predict(step: Step) -> tuple[Tensor, Tensor]:
    """Whole planes y (1, 1, H, W), uv (1, 2, H/2, W/2), as compensation.compensate gives them."""
    vectors = step.vectors.float() / (1 << GRID_FRAC)
    y, uv = step.picture.large
    return sample_doubled(y, vectors, 8), sample_doubled(uv, vectors * 0.5, 4)


def mean(a: Tensor, b: Tensor) -> Tensor:
    """Rounded half up to multiples of 2**-14, as predictions are: exact in float32."""
    return torch.floor((a + b) * (_PREDICTION_STEPS / 2) + 0.5) / _PREDICTION_STEPS


def all_predictions(ways: Ways) -> list[tuple[Tensor, Tensor]]:
    """Whole planes of every choice, by its number. For encoders."""
    made: dict[int, tuple[Tensor, Tensor]] = {}  # ways can be one and the same
    for way in (ways.first, ways.second, ways.third, *ways.long):
        if id(way) not in made:
            made[id(way)] = predict(way)
    first, second, third, long, longer = (made[id(way)] for way in (ways.first, ways.second, ways.third, ways.long[0], ways.long[-1]))
    still = ways.first.picture.y, ways.first.picture.uv

    def both(a: tuple[Tensor, Tensor], b: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        return mean(a[0], b[0]), mean(a[1], b[1])

    return [first, both(first, second), second, still, both(first, still), both(first, both(second, third)), long, both(first, long),
            longer, both(first, longer)]


def in_cells(predictions: list[tuple[Tensor, Tensor]], choices: Tensor) -> tuple[Tensor, Tensor]:
    """Of whole planes of every choice those that ``choices`` (H/16, W/16) say, cell by cell. The first ones are written over. For encoders."""
    first = predictions[0]
    for choice, planes in enumerate(predictions[1:], 1):
        shown = choices == choice
        for plane, other, size in zip(first, planes, (ALIGN, ALIGN // 2), strict=True):
            _cells(plane, size)[:, shown] = _cells(other, size)[:, shown]
    return first


def apply_choices(first: tuple[Tensor, Tensor], choices: Tensor, ways: Ways) -> tuple[Tensor, Tensor]:
    """The prediction by cells: ``first`` as ``predict`` gives it, written over where ``choices`` (H/16, W/16) are not 0."""
    far = {LONG: ways.long[0], FIRST_LONG: ways.long[0], LONGER: ways.long[-1], FIRST_LONGER: ways.long[-1]}
    for choice in range(FIRST + 1, FIRST_LONGER + 1):
        rows, columns = torch.nonzero(choices == choice, as_tuple=True)
        if not len(rows):
            continue
        for plane, uv in ((first[0], False), (first[1], True)):
            cells = _cells(plane, ALIGN >> uv)
            if choice in (STILL, FIRST_STILL):
                other = _cells(ways.first.picture.uv if uv else ways.first.picture.y, ALIGN >> uv)[:, rows, columns]
            else:
                other = _sample_cells(far.get(choice, ways.second), rows, columns, uv)
            if choice == ALL:
                other = mean(other, _sample_cells(ways.third, rows, columns, uv))
            cells[:, rows, columns] = other if choice in (SECOND, STILL, LONG, LONGER) else mean(cells[:, rows, columns], other)
    return first


def _cells(plane: Tensor, size: int) -> Tensor:
    """A plane (1, C, H, W) as cells (C, H/size, W/size, size, size) of the same storage."""
    _, c, height, width = plane.shape
    return plane.view(c, height // size, size, width // size, size).permute(0, 1, 3, 2, 4)


@cache
def _interpolation(size: int) -> Tensor:
    """Weights (size, 4) of the four vectors around a cell's samples, in one direction: two inside it, one on each side."""
    factor = size // 2
    position = (torch.arange(size) + 0.5) / factor + 0.5  # of a sample, counted from the first of the four
    return (1 - (position[:, None] - torch.arange(4)).abs()).clamp_min(0)


def _sample_cells(step: Step, rows: Tensor, columns: Tensor, uv: bool) -> Tensor:
    """What ``predict`` would give in these cells: (C, n, size, size)."""
    large, size = step.picture.large[uv], ALIGN >> uv
    h2, w2 = large.shape[2:]
    v = step.vectors[0].float() / (1 << GRID_FRAC + uv)
    around = torch.arange(-1, 3, device=v.device)
    y = (2 * rows[:, None] + around).clamp_(0, v.shape[1] - 1)
    x = (2 * columns[:, None] + around).clamp_(0, v.shape[2] - 1)
    weights = _interpolation(size).to(v.device)
    dense = weights @ v[:, y[:, :, None], x[:, None, :]] @ weights.T  # (2, n, size, size)
    eighths = torch.floor(dense.clamp_(-VECTOR_LIMIT, VECTOR_LIMIT) * VECTOR_STEPS + 0.5).to(torch.int32)
    inside = torch.arange(size, device=v.device, dtype=torch.int32)
    # Positions in eighths of a sample are quarters of the doubled grid.
    px = (eighths[0] + 8 * (size * columns.to(torch.int32)[:, None, None] + inside)).clamp_(0, 4 * (w2 - 1))
    py = (eighths[1] + 8 * (size * rows.to(torch.int32)[:, None, None] + inside[:, None])).clamp_(0, 4 * (h2 - 1))
    return sample_quarters(large[0], px, py)
