"""P frames that share packets: the reference reads what the writer wrote, and refuses what the reader refuses."""

from __future__ import annotations

import pytest
from reference.container import read_stream
from reference.rans import StreamError

from neuralcodec.bitstream.packets import frame_packet
from tests.bitstream.damage import split
from tests.bitstream.samples import make_stream


def test_the_reference_reads_the_same():
    data, written, _ = make_stream(3, 20, 100, bundle=8)
    found = read_stream(data)
    assert [(f.payload, f.pts, f.quality, tuple(f.masks), f.display, tuple(f.references)) for f in found.frames] == [
        (f.payload, f.pts, f.quality, f.modes, f.display_order, f.references) for group in written for f in group]


@pytest.mark.parametrize("spoil", [lambda body: body[:1], lambda body: body[:-1], lambda body: b"\x63" + body[1:], lambda body: body + b"\x00"])
def test_a_malformed_packet_is_refused(spoil):
    chunks = split(make_stream(1, 9, 100, bundle=8)[0])
    at = next(i for i, chunk in enumerate(chunks) if i and chunk[0] >> 4 == 12)
    length = 2 if chunks[at][1] & 128 else 1
    chunks[at] = frame_packet(12 << 4, spoil(chunks[at][1 + length : -4]))
    with pytest.raises(StreamError):
        read_stream(b"".join(chunks))
