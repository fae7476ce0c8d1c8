"""What ``inspect`` finds in a stream, as plain data: container facts from its packets, the rest from its latents."""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import TYPE_CHECKING, Any

from neuralcodec.bitstream import (
    AlphaPacket,
    Attachment,
    AttachmentKind,
    ChromaPacket,
    Damage,
    EndOfStream,
    FramePacket,
    GopStart,
    HeaderCopy,
    Packet,
    StreamHeader,
    StreamIndex,
    StreamReader,
    TilePacket,
    TilePart,
)
from neuralcodec.core.types import SidePacket

if TYPE_CHECKING:
    from neuralcodec.codecs.coding import Parsed

FRAMING, SIDE, HEADERS, ROUNDING, UNPARSED, DAMAGED = (
    "framing",
    "side streams",
    "header and index",
    "rounding",
    "unparsed frames",
    "damaged",
)
"""Names of the bits that are no syntax element of a latent."""
ATTACHMENTS = "attachments"
CHOICE_NAMES = ("one frame back", "mean of one and two", "two frames back", "unmoved", "mean of one and unmoved", "mean of all",
                "long-term", "mean of one and long-term", "long-term before", "mean of one and that")
"""Of choices of predictions (nn.hypotheses), by number."""
PICTURE_KINDS = ("I frame", "P frame", "tile", "alpha", "chroma")


def kind_of(packet: Packet) -> str:
    """The name of a packet's kind."""
    match packet.content:
        case FramePacket(intra=intra):
            return "I frame" if intra else "P frame"
        case GopStart():
            return "group start"
        case SidePacket():
            return "side"
        case StreamIndex():
            return "index"
        case HeaderCopy():
            return "header copy"
        case EndOfStream():
            return "end"
        case TilePacket():
            return "tile"
        case AlphaPacket():
            return "alpha"
        case ChromaPacket():
            return "chroma"
        case Attachment():
            return "attachment"
    return "unknown"


def header_facts(header: StreamHeader, size: int) -> dict[str, Any]:
    """The stream header; rationals as "a/b", quality as the user gives it."""
    video, colour = header.video, header.video.colour
    return {
        "bytes": size,
        "width": video.width,
        "height": video.height,
        "time_base": _ratio(video.time_base),
        "frame_rate": _ratio(video.frame_rate),
        "sample_aspect_ratio": _ratio(video.sample_aspect_ratio),
        "rotation": video.rotation,
        "still": video.still,
        "gray": video.gray,
        "full_chroma": video.full_chroma,
        "tile_size": header.tile_size,
        "hypotheses": header.hypotheses,
        "sparse": header.sparse,
        "loop_filter": header.loop_filter,
        "directed": header.directed,
        "bare": header.bare,
        "adaptive": header.adaptive,
        "corrected": header.corrected,
        "colour": {
            "primaries": colour.primaries,
            "transfer": colour.transfer,
            "matrix": colour.matrix,
            "range": {None: "unspecified", False: "limited", True: "full"}[colour.full_range],
            "chroma_location": colour.chroma_location,
        },
        "level": header.level,
        "levels": header.levels or None,
        "level_locked": header.level_locked,
        "arithmetic": header.arithmetic.name.lower().replace("_", " "),
        "quality": header.quality / 2,
        "gop_size": header.gop_size,
        "encoder": header.encoder,
        "metadata": dict(header.metadata),
        "chapters": [
            {"start": float(c.start * c.time_base), "end": float(c.end * c.time_base), "metadata": dict(c.metadata)}
            for c in header.chapters
        ],
        "side_streams": [
            {
                "kind": s.kind,
                "codec": s.codec,
                "time_base": _ratio(s.time_base),
                "extradata_bytes": len(s.extradata),
                "disposition": s.disposition,
                "parameters": dict(s.parameters),
                "metadata": dict(s.metadata),
            }
            for s in header.side_streams
        ],
    }


def has_latents(packet: Any, header: StreamHeader) -> bool:
    """Whether a packet's content has latents of a frame, a tile, alpha or chroma; the frame packet of a picture in tiles has none."""
    return isinstance(packet, TilePart) or (isinstance(packet, FramePacket) and not header.tile_size)


def attachment_name(kind: int) -> str:
    """"ICC", "EXIF", "XMP" or the number of another kind."""
    return AttachmentKind(kind).name if kind in iter(AttachmentKind) else str(kind)


def _ratio(value: Any) -> str | None:
    return None if value is None else f"{value.numerator}/{value.denominator}"


class Facts:
    """Collects packets, damage and parsed frames one by one; memory grows with the number of groups only."""

    def __init__(self, reader: StreamReader, header: StreamHeader) -> None:
        """``header``: the stream's, with what a bare picture leaves to its model where that is known."""
        self._reader, self._header, self._base = reader, header, header.video.time_base
        self.kinds: dict[str, dict[str, int]] = {}
        self.gops: list[dict[str, Any]] = []
        self.damage: list[dict[str, Any]] = []
        self._told: set[tuple[int, str]] = set()
        self.bits: dict[str, float] = {}
        self.latents: dict[str, list[int]] = {}
        self.choices: Counter[int] = Counter()
        self.attachments: list[dict[str, Any]] = []
        self.frames = self.end = 0
        self.first: int | None = None
        self._digest = hashlib.md5(usedforsecurity=False)
        for table in header.width_tables:
            self._digest.update(table)
        self.parsed = self._parts = 0
        self._add_bits(HEADERS, 8 * reader.header_size)

    def packet(self, packet: Packet) -> None:
        """A packet of the container."""
        kind, content = kind_of(packet), packet.content
        entry = self.kinds.setdefault(
            kind, {"count": 0, "bytes": 0, "framing": 0, "smallest": packet.size, "largest": 0}
        )
        entry["count"] += 1
        entry["bytes"] += packet.size
        entry["framing"] += packet.framing
        entry["smallest"], entry["largest"] = min(entry["smallest"], packet.size), max(entry["largest"], packet.size)
        payload = packet.size - packet.framing
        if isinstance(content, FramePacket | TilePart):
            self._part(content, packet.size)
            self._add_bits(FRAMING, 8 * packet.framing)
            self._add_bits(UNPARSED, 8 * payload)
        elif isinstance(content, SidePacket):
            self._add_bits(FRAMING, 8 * packet.framing)
            self._add_bits(SIDE, 8 * payload)
        elif isinstance(content, Attachment):
            self.attachments.append({"kind": attachment_name(content.kind), "bytes": len(content.data)})
            self._add_bits(FRAMING, 8 * packet.framing)
            self._add_bits(ATTACHMENTS, 8 * payload)
        elif isinstance(content, GopStart):
            self.gops.append(
                {
                    "first_frame": content.first_frame,
                    "frames": 0,
                    "pts": content.pts,
                    "time": float(content.pts * self._base),
                    "quality": content.quality / 2,
                    "offset": packet.offset,
                    "frame_bytes": 0,
                }
            )
            self._add_bits(FRAMING, 8 * packet.size)
        else:
            self._add_bits(HEADERS, 8 * packet.size)

    def _part(self, packet: FramePacket | TilePart, size: int) -> None:
        if isinstance(packet, FramePacket):
            self.frames += 1
            self.first = packet.pts if self.first is None else min(self.first, packet.pts)
            self.end = max(self.end, packet.pts + packet.duration)
        self._parts += has_latents(packet, self._header)
        if self.gops:
            self.gops[-1]["frames"] += isinstance(packet, FramePacket)
            self.gops[-1]["frame_bytes"] += size

    def damaged(self, damage: Damage) -> None:
        """A damaged place of the container, or a frame whose payload is malformed: its bits stay "unparsed"."""
        if (damage.offset, damage.reason) in self._told:  # the decoder tells of the container's damage again
            return
        self._told.add((damage.offset, damage.reason))
        place = {"offset": damage.offset, "bytes": damage.size, "reason": damage.reason}
        self.damage.append({**place, "breaks_group": damage.breaks_group})

    def latent(self, packet: FramePacket | TilePart, parsed: Parsed) -> None:
        """A frame's or tile's latents, in the order of the stream."""
        self.parsed += 1
        self._add_bits(UNPARSED, -8 * len(packet.payload))
        self._add_bits(ROUNDING, 8 * len(packet.payload) - sum(parsed.bits.values()))
        for element, bits in parsed.bits.items():
            self._add_bits(element, bits)
        for name, mask in parsed.masks.items():
            named = {AlphaPacket: "alpha", ChromaPacket: "chroma"}.get(type(packet))
            kind = named or ("P" if isinstance(packet, FramePacket) and not packet.intra else "I")
            count = self.latents.setdefault(f"{kind} {name}", [0, 0])
            count[0] += mask.size - int(mask.sum())
            count[1] += mask.size
        if parsed.choices is not None:
            self.choices.update(parsed.choices.tobytes())
        for part in parsed.digest_parts():
            self._digest.update(part)

    def _add_bits(self, name: str, bits: float) -> None:
        self.bits[name] = self.bits.get(name, 0.0) + bits

    def latents_md5(self) -> str:
        """md5 over the width tables of all levels, then latents and masks of each frame: equal on all machines."""
        return self._digest.hexdigest()

    def document(self, name: str, size: int, model_installed: bool) -> dict[str, Any]:
        """Everything as one object, which ``inspect --help`` describes; ``size`` is the file's in bytes."""
        reader, header = self._reader, self._header
        seconds = float((self.end - self.first) * self._base) if self.first is not None else 0.0
        # What no packet accounts for: damaged bytes, and frames that follow them in their group.
        lost = 8 * size - sum(self.bits.values())
        bits = {**self.bits, DAMAGED: lost}
        frame_bytes = sum(self.kinds.get(kind, {}).get("bytes", 0) for kind in PICTURE_KINDS)
        pixels = max(1, self.frames * header.video.width * header.video.height)
        return {
            "file": name,
            "bytes": size,
            "header": header_facts(header, reader.header_size),
            "model": {"name": header.model_name, "identity": header.model_id.hex(), "installed": model_installed},
            "width_tables": [list(table) for table in header.width_tables],
            "index": reader.index() is not None,
            "frames": self.frames,
            "seconds": seconds,
            "bits_per_pixel": 8 * frame_bytes / pixels,
            "attachments": self.attachments,
            "packets": self.kinds,
            "bits": {
                element: round(n, 3)
                for element, n in sorted(bits.items())
                if abs(n) >= 0.5 or element not in (UNPARSED, DAMAGED)
            },
            "skipped_percent": {
                latent: round(100 * skipped / max(1, n), 3) for latent, (skipped, n) in self.latents.items()
            },
            "predicted_percent": {
                CHOICE_NAMES[choice]: round(100 * n / self.choices.total(), 3) for choice, n in sorted(self.choices.items())
            },
            "gops": self.gops,
            "damage": self.damage,
            "latents_md5": self.latents_md5() if self.parsed and self.parsed == self._parts else None,
        }


def describe_packet(packet: Packet) -> dict[str, Any]:
    """One packet as an object of ``--packets --json``."""
    content = packet.content
    out: dict[str, Any] = {
        "offset": packet.offset,
        "bytes": packet.size,
        "kind": kind_of(packet),
        "framing": packet.framing,
    }
    if isinstance(content, FramePacket):
        out |= {
            "pts": content.pts,
            "duration": content.duration,
            "quality": content.quality / 2,
            "decode_order": content.decode_order,
            "display_order": content.display_order,
            "references": list(content.references),
            "modes": list(content.modes),
        }
    elif isinstance(content, TilePacket):
        out |= {"number": content.number, "modes": list(content.modes)}
    elif isinstance(content, AlphaPacket):
        out |= {"number": content.number, "quality": content.quality / 2, "modes": list(content.modes)}
    elif isinstance(content, ChromaPacket):
        out |= {"number": content.number, "plane": content.plane, "modes": list(content.modes)}
    elif isinstance(content, Attachment):
        out |= {"attachment": attachment_name(content.kind)}
    elif isinstance(content, GopStart):
        out |= {"first_frame": content.first_frame, "pts": content.pts, "quality": content.quality / 2}
    elif isinstance(content, SidePacket):
        out |= {
            "stream": content.stream,
            "pts": content.pts,
            "dts": content.dts,
            "duration": content.duration,
            "keyframe": content.keyframe,
        }
    elif isinstance(content, StreamIndex):
        out |= {"frames": content.frame_count, "groups": len(content.entries)}
    return out


def describe_parsed(parsed: Parsed) -> dict[str, Any]:
    """What a frame's latents add to its packet's object."""
    return {
        "bits": {element: round(bits, 3) for element, bits in parsed.bits.items()},
        "skipped_percent": {
            name: round(100 * (1 - float(mask.mean())), 3) if mask.size else 0.0 for name, mask in parsed.masks.items()
        },
    }
