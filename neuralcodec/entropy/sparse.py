"""Elements of a latent that are nearly certainly 0, coded in groups (bitstream_spec/entropy.md, section 7): those of the two lowest scale indexes, in streams that say so.

Most of what a large picture has to code are such elements. One by one they cost hardly any bits, but the entropy decoder's time. A group
has a flag, whether any of its elements is not 0; only in groups that have one are elements looked at. What the few that are not 0 cost stays about as it was.
"""

from __future__ import annotations

import numpy as np

from neuralcodec.entropy.coder import FrameDecoder, FrameEncoder
from neuralcodec.entropy.tables import FLAG_COSTS

CERTAIN = 2
"""Elements of lower scale indexes are nearly certain."""
GROUP = 64
USUAL, UNUSUAL = 1, 2
"""Probability indexes: of the flags of groups as a rule, and of the flag that says that they have another one."""
ELEMENT = 3
"""Probability index of elements' flags in groups that have one; the next one with another probability of groups, which comes with surprises."""
_PROBABILITY_BITS = 4
_NONE = np.zeros(0, np.int64)


def write_sparse(encoder: FrameEncoder, residual: np.ndarray, label: str = "") -> None:
    """Add all coded elements that are nearly certain: integers -32767..32767, (n,)."""
    if not residual.size:
        return
    groups = np.bitwise_or.reduceat(residual != 0, np.arange(0, residual.size, GROUP))
    costs = FLAG_COSTS @ np.bincount(groups, minlength=2)
    best = int(costs.argmin())
    unusual = bool(costs[best] + _PROBABILITY_BITS + FLAG_COSTS[UNUSUAL, 1] < costs[USUAL] + FLAG_COSTS[UNUSUAL, 0])
    encoder.put_flags(np.array([unusual]), UNUSUAL, label)
    if unusual:
        encoder.put_bits(best, _PROBABILITY_BITS, label)
    encoder.put_flags(groups, best if unusual else USUAL, label)
    inside = residual[_members(groups, residual.size)]
    encoder.put_flags(inside != 0, ELEMENT + unusual, label)
    values = inside[inside != 0].astype(np.int64)
    encoder.put_numbers(np.abs(values) - 1, 0, label)
    encoder.put_bits(values < 0, 1, label)


def read_sparse(decoder: FrameDecoder, count: int, label: str = "") -> tuple[np.ndarray, np.ndarray]:
    """What ``write_sparse`` wrote of ``count`` elements: numbers of those that are not 0, rising, and their values, int64. Raises StreamError."""
    if not count:
        return _NONE, _NONE
    unusual = bool(decoder.get_flags(1, UNUSUAL, label)[0])
    probability = int(decoder.get_bits(_PROBABILITY_BITS, 1, label)[0]) if unusual else USUAL
    groups = decoder.get_flags(-(-count // GROUP), probability, label)
    if not groups.any():
        return _NONE, _NONE
    members = _members(groups, count)
    where = members[decoder.get_flags(members.size, ELEMENT + unusual, label)]
    magnitude = decoder.get_numbers(where.size, 0, label) + 1
    return where, np.where(decoder.get_bits(1, where.size, label), -magnitude, magnitude)


def _members(groups: np.ndarray, count: int) -> np.ndarray:
    """Numbers of the elements in the groups whose flag is set."""
    numbers = (GROUP * np.flatnonzero(groups)[:, None] + np.arange(GROUP)).reshape(-1)
    return numbers[numbers < count]
