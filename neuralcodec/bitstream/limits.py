"""How much a reader is willing to believe. A stream that asks for more is refused before memory is taken for it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Limits of a reader; each is at most what the format itself allows (``syntax.py``).

    ``max_pixels`` bounds width times height, since a frame's memory grows with it, ``max_tiled_pixels`` the same of pictures
    in tiles, of which few are worked on at a time. ``max_map_entries`` counts the entries of all maps of a header together. Sizes are in bytes.
    """

    max_width: int = 65535
    max_height: int = 65535
    max_pixels: int = 1 << 26
    max_tiled_pixels: int = 1 << 27
    max_header: int = 1 << 25
    max_packet: int = 1 << 26
    max_side_streams: int = 64
    max_extradata: int = 1 << 24
    max_text: int = 1 << 20
    max_map_entries: int = 1 << 14
    max_chapters: int = 4096
    max_width_table: int = 4096
    max_index_entries: int = 1 << 20
    max_frame_gap: int = 1 << 16
