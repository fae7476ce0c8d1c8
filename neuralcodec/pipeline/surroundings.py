"""What an encoder sees around each frame of a group: those after it, by which it judges what is worth bits, and some before it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from neuralcodec.codecs.lookahead import Lookahead
from neuralcodec.codecs.temporal_filter import REACH, filter_picture
from neuralcodec.core.types import Frame, SidePacket
from neuralcodec.nn.layout import planes_to_tensors


@dataclass(frozen=True)
class Sight:
    """A frame; ``earlier``, the nearest first, and ``later``, the nearest first; ``lookahead`` stands at the frame while it is in turn."""

    frame: Frame
    earlier: list[Frame]
    later: list[Frame]
    lookahead: Lookahead

    def planes(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Padded planes, see nn.layout."""
        return planes_to_tensors(self.frame.planes, device)

    def filtered(self, planes: tuple[Tensor, Tensor], step: float) -> tuple[Tensor, Tensor]:
        """The frame's padded planes after the temporal filter; ``step`` of the quantiser in 8-bit samples."""
        neighbours = ((i + 1, *planes_to_tensors(f.planes, planes[0].device)) for side in (self.later, self.earlier) for i, f in enumerate(side[:REACH]))
        return filter_picture(*planes, neighbours, step, self.lookahead.lasting())


def look_around(items: Iterable[Frame | SidePacket], most: int) -> Iterator[SidePacket | Sight]:
    """The items of a group in their order, frames with what is around them: up to ``most`` frames, itself included, from each on, and up to REACH before it."""
    waiting: deque[Frame | SidePacket] = deque()
    earlier: deque[Frame] = deque(maxlen=REACH)
    lookahead, rest, frames = Lookahead(), iter(items), 0
    while True:
        while frames < most and (item := next(rest, None)) is not None:
            waiting.append(item)
            if isinstance(item, Frame):
                lookahead.add(planes_to_tensors(item.planes, torch.device("cpu"))[0])
                frames += 1
        if not waiting:
            return
        item = waiting.popleft()
        if isinstance(item, SidePacket):
            yield item
            continue
        yield Sight(item, list(earlier), [f for f in waiting if isinstance(f, Frame)], lookahead)
        lookahead.drop()
        earlier.appendleft(item)
        frames -= 1
