"""Loop filters of a frame, as an encoder finds them: nn.loop_filter says what they do, entropy.filters what they cost.

Coefficients minimise squared error plus bits (a Wiener filter, rounded with care). Sums are of integers in float64, so that bytes do not depend on the number of threads.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from neuralcodec.core.types import PlaneFilter
from neuralcodec.entropy.filters import (
    CLASS_COUNTS,
    LIMIT,
    NEXT_TABLE,
    PLAIN_COUNTS,
    FilterPlanes,
    FilterState,
    expected,
    expected_luma,
)
from neuralcodec.entropy.tables import cost_bits
from neuralcodec.nn.loop_filter import (
    ACTIVITIES,
    BLOCK,
    CLIPS,
    COEFFICIENT_FRAC,
    DIRECTED,
    SAMPLE_FRAC,
    TAPS,
    TURNED,
    block_classes,
    decoded_plane,
    halved_luma,
    three_planes,
    to_sixteenths,
)

SAMPLES = 120_000
"""So many samples of a plane are looked at, in rows of blocks spread over it."""
WORTH = 2.0
"""Beside what a squared step is worth where a residual is rounded (coding.LAMBDAS): what is nearer predicts better too."""
FOLLOWING = 4.0
"""Frames that a new filter of a P frame is reckoned to serve."""
PLANE_WEIGHTS = (6 / 8, 4 / 8, 4 / 8)
"""Of squared errors, a sample; chroma has a quarter of the samples."""
_ROUNDS = 4
_FLAG_BITS = 3.0
"""That say that a filter is new, and its classes, about."""
_SIXTEENTHS = 2.0**SAMPLE_FRAC
_UNIT = _SIXTEENTHS * 2.0 ** (COEFFICIENT_FRAC + 1)
"""What a coefficient of 1 makes of a tap, in sixteenths, is 1 / _UNIT samples."""


@torch.no_grad()
def choose_filters(real: tuple[Tensor, Tensor], source: tuple[Tensor, Tensor], worth: float, before: FilterState | None, search: bool,
                   directed: bool = False, clipped: bool = True) -> FilterPlanes:
    """Filters for planes y (1, 1, H, W), uv (1, 2, H/2, W/2) before they are rounded, by those of the ``source``.

    ``worth``: bits for a squared sample; ``before`` and ``directed``: as entropy.filters has it; ``search``: look for new ones, not only among those that were sent; ``clipped``: new ones may clip differences, where ``directed`` ones can."""
    chosen: list[PlaneFilter | None] = []
    frames = 1.0 if before is None else FOLLOWING
    halved = halved_luma(real[0])
    for index, (x, s) in enumerate(zip(three_planes(*real), three_planes(*source), strict=True)):
        sent = None if before is None else before.sent[index]
        price = WORTH * worth * PLANE_WEIGHTS[index]
        candidates: list[tuple[float, PlaneFilter | None]] = [(0.0, None)]
        if sent is not None:
            candidates.append((0.0, sent))
        if search:
            counts = CLASS_COUNTS[: None if directed else PLAIN_COUNTS] if index == 0 else (1,)
            luma = halved if index and directed else None
            found = [_best_new(x, s, luma, price * frames, sent, counts, clip) for clip in range(len(CLIPS) if directed and clipped else 1)]
            best = min((f for f in found if f is not None), default=None, key=lambda f: f[0])
            if best is not None and best[2] != sent:
                candidates.append((best[1] / frames, best[2]))
        costs = [bits + price * _error(x, s, f, halved) for bits, f in candidates] if len(candidates) > 1 else [0.0]
        chosen.append(candidates[int(np.argmin(costs))][1])
    return tuple(chosen)


def _error(x: Tensor, source: Tensor, plane_filter: PlaneFilter | None, luma: Tensor) -> float:
    """Squared error of the plane as it would be decoded."""
    return float((decoded_plane(x, plane_filter, luma) - source).double().square().sum())


def _best_new(x: Tensor, source: Tensor, luma: Tensor | None, price: float, sent: PlaneFilter | None, counts: tuple[int, ...],
              clip: int) -> tuple[float, float, PlaneFilter] | None:
    """The new filter with the least bits and error (in bits, less that without a filter), with these and its bits; None for one that is not worth them.
    ``luma``: what it may read besides."""
    grams, crosses, share = _statistics(x, source, luma, len(counts) > 1, CLIPS[clip])
    own = slice(len(TAPS))
    if luma is not None:
        (base,), table = expected(sent, 1)
        both, bits = np.concatenate([base, expected_luma(sent)[0]]), _bits(*(table,) * len(TAPS), *(NEXT_TABLE,) * len(TAPS))
        cost, taken, w = _solve(grams[0], crosses[0], price * share, both, bits)
        with_luma = cost, taken + _FLAG_BITS, PlaneFilter(w[None, own], clip, w[None, len(TAPS) :])
        grams, crosses = grams[:, own, own], crosses[:, own]
    best: tuple[float, float, PlaneFilter] | None = None
    for count in counts:
        base, table = expected(sent, count)
        bits = _bits(*(table,) * len(TAPS))
        found = [_solve(g, c, price * share, b, bits) for g, c, b in zip(*_by_classes(grams, crosses, count), base, strict=True)]
        total = sum(f[0] for f in found)
        if best is None or total < best[0]:
            best = total, sum(f[1] for f in found) + _FLAG_BITS, PlaneFilter(np.stack([f[2] for f in found]), clip)
    if luma is not None and (best is None or with_luma[0] < best[0]):
        best = with_luma
    return None if best is None or best[0] >= 0 else best


def _by_classes(grams: np.ndarray, crosses: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """What ``_statistics`` gave, by so many classes."""
    if len(grams) == 1:
        return grams, crosses
    if count == DIRECTED:
        turned = np.array(TURNED)
        straight = np.stack([grams[:, 0], grams[:, 1] + grams[:, 2][:, turned][:, :, turned]], 1)
        return straight.reshape(count, *grams.shape[2:]), np.stack([crosses[:, 0], crosses[:, 1] + crosses[:, 2][:, turned]], 1).reshape(count, -1)
    return tuple(a.sum(1).reshape(count, -1, *a.shape[2:]).sum(1) for a in (grams, crosses))


def _statistics(x: Tensor, source: Tensor, luma: Tensor | None, classes: bool, clip: int | None) -> tuple[np.ndarray, np.ndarray, float]:
    """Sums over samples, in sixteenths, by activity and direction (4, 3, ...), or without ``classes`` (1, ...): of products of what taps read (.., 12, 12), and of these with
    the error (.., 12); with ``luma`` of 24, its own last; and how many samples of the plane stand for one of those that were looked at."""
    n = to_sixteenths(x)
    rows, width = n.shape[2] // BLOCK, n.shape[3]
    step = max(1, round(rows * BLOCK * width / SAMPLES))
    kept = torch.arange(step // 2 if step < rows else 0, rows, step if step < rows else 1, device=x.device)
    padded = F.pad(n, (2, 2, 2, 2), mode="replicate")[0, 0]
    lines = (kept[:, None] * BLOCK + torch.arange(BLOCK, device=x.device)).reshape(-1)

    def read(padded: Tensor, clip: int | None) -> tuple[Tensor, list[Tensor]]:
        """What is there, and sums of the differences to either side."""

        def at(dy: int, dx: int) -> Tensor:
            return padded[lines + 2 + dy, 2 + dx : 2 + dx + width]

        def difference(dy: int, dx: int) -> Tensor:
            return (at(dy, dx) - centre).clamp_(-clip, clip) if clip else at(dy, dx) - centre

        centre = at(0, 0)
        return centre, [difference(dy, dx) + difference(-dy, -dx) for dy, dx in TAPS]

    centre, own = read(padded, clip)
    beside = [] if luma is None else read(F.pad(luma, (2, 2, 2, 2), mode="replicate")[0, 0], None)[1]
    taps = torch.stack(own + beside).double()  # (12 or 24, rows, W)
    error = ((source[0, 0][lines] * (1 << SAMPLE_FRAC)) - centre).double()
    flat, target = taps.flatten(1), error.flatten()
    if not classes:
        grams, crosses = (flat @ flat.T)[None], (flat @ target)[None]
    else:
        activity, direction = block_classes(n)
        where = (3 * activity + direction)[kept].repeat_interleave(BLOCK, 0).repeat_interleave(BLOCK, 1).flatten()
        members = [(flat[:, p], target[p]) for p in (torch.nonzero(where == c)[:, 0] for c in range(3 * ACTIVITIES))]
        grams = torch.stack([f @ f.T for f, _ in members]).unflatten(0, (ACTIVITIES, 3))
        crosses = torch.stack([f @ t for f, t in members]).unflatten(0, (ACTIVITIES, 3))
    return grams.cpu().numpy(), crosses.cpu().numpy(), rows * BLOCK / len(lines)


def _solve(gram: np.ndarray, cross: np.ndarray, price: float, base: np.ndarray, bits: np.ndarray) -> tuple[float, float, np.ndarray]:
    """Coefficients (12 or 24,) of one class: what they cost in all (error, less that without a filter, times ``price``, and bits), their bits, and they."""
    gram, cross = gram * (price / _UNIT**2), cross * (2 * price / (_UNIT * _SIXTEENTHS))
    ridge = np.eye(len(cross)) * max(np.trace(gram) / len(cross) * 1e-6, 1e-9)
    start = np.clip(np.rint(np.linalg.solve(gram + ridge, cross / 2)), -LIMIT, LIMIT).astype(np.int64)
    which = np.arange(len(base))

    def total(w: np.ndarray) -> float:
        return float(w @ gram @ w - w @ cross + bits[which, w - base + 2 * LIMIT].sum())

    # One coefficient after another, by what its change alone changes; in plain numbers, for there are few of them.
    w = min((total(w), tuple(w.tolist())) for w in (start, np.clip(base, -LIMIT, LIMIT)))[1]
    w, slope = list(w), 2 * (gram @ w) - cross
    curvature, bases, prices = np.diagonal(gram).tolist(), base.tolist(), bits.tolist()
    for _ in range(_ROUNDS):
        changed = False
        for i, (before, b) in enumerate(zip(tuple(w), bases, strict=True)):
            own, at = prices[i], 2 * LIMIT - b
            for value in (before - 1, before + 1, before + 3 * ((b > before) - (b < before)), b, 0):
                step = value - w[i]
                if step and -LIMIT <= value <= LIMIT:
                    dearer = step * (step * curvature[i] + float(slope[i])) + own[value + at] - own[w[i] + at]
                    if dearer < -1e-9:
                        slope += 2 * step * gram[i]
                        w[i], changed = value, True
        if not changed:
            break
    w = np.array(w)
    return total(w), float(bits[which, w - base + 2 * LIMIT].sum()), w


def _bits(*tables: int) -> np.ndarray:
    """Of differences -2 LIMIT .. 2 LIMIT with each table: (tables, differences)."""
    differences = np.tile(np.arange(-2 * LIMIT, 2 * LIMIT + 1), (len(tables), 1))
    return cost_bits(differences, np.broadcast_to(np.array(tables)[:, None], differences.shape))
