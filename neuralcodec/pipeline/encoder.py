"""Frames to a stream: groups of pictures, each coded by one worker with the decoder's own code as its reference."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from fractions import Fraction

import torch

from neuralcodec.bitstream import Arithmetic, Chapter, FramePacket, StreamHeader, StreamWriter
from neuralcodec.codecs.coders import check_route, coder_for, place
from neuralcodec.codecs.coding import CASCADE, Coded, Planes
from neuralcodec.codecs.files import LoadedModel
from neuralcodec.codecs.latent_search import EFFORTS
from neuralcodec.codecs.lookahead import SceneCuts, octaves_better
from neuralcodec.codecs.motion_search import quantiser_step
from neuralcodec.core.errors import UsageError
from neuralcodec.core.types import QUALITY_STEPS, Frame, SidePacket, SideStream, VideoProperties
from neuralcodec.entropy import MaskMode
from neuralcodec.nn.quality import STEP_GAIN
from neuralcodec.nn.selection import apply_widths
from neuralcodec.pipeline.device import core_count, prepare_exact
from neuralcodec.pipeline.interleave import by_time
from neuralcodec.pipeline.jobs import Job, JobRunner
from neuralcodec.pipeline.surroundings import look_around

MEMORY_BUDGET = 256 << 20
"""Bytes of source frames that may wait for workers."""
READ_AHEAD = 8
"""Frames that may wait beyond those that workers have."""
LEAST_GROUP = 8
"""A scene begins a new group after this part of the most frames at the soonest (as x264's min-keyint)."""
LOOKAHEAD_FRAMES, LOOKAHEAD_MEMORY = 32, 64 << 20
"""Frames of a group, and bytes of them, that an encoder looks at before it codes the first of them: fewer of large pictures, so many with any number of
workers."""

WHOLE_PIXELS = 1 << 21
"""Pictures of more pixels are coded in tiles."""

VIDEO_EFFORT, SEARCHED_GROUP = 1, 16
"""The effort of videos by default, where a group of pictures may have so many frames: in shorter ones most of the time would go into intra frames."""


@dataclass(frozen=True)
class EncodeOptions:
    """``quality`` 0..100 in steps of 0.5; ``gop`` frames in a group, 0 for a single intra frame; ``workers`` None: one for each core.

    The bytes written depend on ``threads`` (intra-operator threads of a worker) but not on ``workers``. ``mask_modes`` restricts what the
    encoder may choose a skip mask from (None: all that the model knows; empty: nothing is skipped)."""

    level: int = 1
    quality: float = 50.0
    gop: int = 32
    workers: int | None = None
    threads: int = 1
    mask_modes: tuple[MaskMode, ...] | None = None
    intra_boost: int | None = None
    """Quality indexes by which intra frames are better than the frames that refer to them (as x264's ipratio); None: all frames are the better the longer
    what they show lasts, see codecs.lookahead."""
    scene_cuts: bool = True
    """Whether a group also ends where a scene begins, if there are ``gop`` frames at most in a group and more than one."""
    cascade: tuple[int, ...] = CASCADE
    """Quality indexes that are added to those of P frames, in turn."""
    temporal_filter: bool = True
    """Whether intra frames, and P frames that are the best of the cascade, are filtered along motion before they are coded, see codecs.temporal_filter."""
    hypotheses: bool = True
    """Whether P frames say for each cell what it is predicted from (nn.hypotheses), where the model has P frames."""
    adaptation: bool = True
    """Whether tables of P frames adapt (entropy.adaptation), where the model has P frames."""
    loop_filter: bool = True
    """Whether frames, and pictures that are not in tiles, are filtered as the encoder finds best (nn.loop_filter), where the model is a flagship."""
    corrections: bool = True
    """Whether frames that are filtered may have corrections (nn.corrections)."""
    sparse: bool = True
    """Whether nearly certain elements of latents are coded in groups (entropy.sparse), in videos."""
    effort: int | None = None
    """How long latents are searched for (codecs.latent_search.EFFORTS), where the model is a flagship; 0: they are what the analysis transform gives; None: see
    ``search_effort``."""
    route: str | None = None
    """How capacities are chosen, in models that have them by block (codecs.adanic_coding.route_option); None: as the model does."""

    def quality_index(self) -> int:
        """Raises UsageError for a quality off the grid."""
        index = self.quality * 2
        if not 0 <= index <= QUALITY_STEPS or index != int(index):
            raise UsageError(f"quality {self.quality:g}: choose 0 to 100 in steps of 0.5")
        return int(index)

    def search_effort(self, loaded: LoadedModel, still: bool) -> int:
        """The effort, 0 to 3. Where none is given it is VIDEO_EFFORT for videos whose groups may have SEARCHED_GROUP frames or more, 0 for others and for pictures.

        Raises UsageError where there is no such effort, or where a model has none."""
        if self.effort is None:
            return VIDEO_EFFORT if loaded.searches and not still and not 0 < self.gop < SEARCHED_GROUP else 0
        if not 0 <= self.effort < len(EFFORTS):
            raise UsageError(f"effort {self.effort}: choose 0 to {len(EFFORTS) - 1}")
        if self.effort and not loaded.searches:
            raise UsageError(f"effort {self.effort}: model {loaded.name!r} knows no search for latents; choose 0")
        return self.effort


@dataclass(frozen=True)
class _Result:
    frame: FramePacket | None = None
    side: SidePacket | None = None
    coded: Coded | None = None


class StreamEncoder:
    """Encodes one video. Raises UsageError for a level that the model lacks or other options that cannot be honoured."""

    def __init__(self, loaded: LoadedModel, video: VideoProperties, options: EncodeOptions, device: torch.device, *,
                 side_streams: tuple[SideStream, ...] = (), metadata: dict[str, str] | None = None, chapters: tuple[Chapter, ...] = (),
                 program: str = "") -> None:
        if not 1 <= options.level <= loaded.levels:
            raise UsageError(f"level {options.level}: model {loaded.name!r} has levels {', '.join(map(str, range(1, loaded.levels + 1)))}")
        check_route(loaded.model, options.route, options.level)
        self.effort = EFFORTS[options.search_effort(loaded, video.still)]
        if options.gop < 0 or (options.workers is not None and options.workers < 1) or options.threads < 1:
            raise UsageError("gop is 0 or more; workers and threads are at least 1")
        if loaded.intra_only:
            options = replace(options, gop=1)
        self.loaded, self.video, self.options, self.device = loaded, video, options, device
        self.quality = options.quality_index()
        self.step = _frame_step(video)
        # Larger pictures are coded in tiles otherwise, which have no filters.
        whole = not video.still or video.width * video.height <= WHOLE_PIXELS
        loop_filter = options.loop_filter and not loaded.intra_only and whole
        self.header = StreamHeader(
            video=video, model_id=loaded.identity, model_name=loaded.name, width_tables=loaded.widths, level=options.level,
            arithmetic=Arithmetic.EXACT if loaded.exact else Arithmetic.FLOAT_PICTURES, level_locked=loaded.level_locked,
            gop_size=options.gop, quality=self.quality, side_streams=side_streams, metadata=metadata or {}, chapters=chapters, encoder=program,
            hypotheses=options.hypotheses and options.gop != 1 and not video.still,
            sparse=options.sparse and not loaded.intra_only and not video.still,
            loop_filter=loop_filter, directed=loop_filter, corrected=loop_filter and options.corrections,
            adaptive=options.adaptation and options.gop != 1 and not video.still)
        apply_widths(loaded.model, loaded.widths[options.level - 1])
        place(loaded.model, device)
        prepare_exact(device)

    def run(self, items: Iterable[Frame | SidePacket], writer: StreamWriter, on_frame: Callable[[FramePacket, Coded, int], None] | None = None) -> int:
        """Encode all items; ``on_frame(packet, coded, bytes)`` is called after each frame is written. Returns the number of frames."""
        frame_bytes = self.video.width * self.video.height * 3 // 2
        affordable = max(1, MEMORY_BUDGET // max(1, frame_bytes * (self.options.gop or 1 << 30)))
        workers = min(self.options.workers or (core_count() if self.device.type == "cpu" else 2), affordable)
        budget = workers * self.options.gop + READ_AHEAD if workers > 1 else READ_AHEAD
        runner: JobRunner = JobRunner(self._encode_group, workers=workers, budget=budget, cost=lambda item: int(isinstance(item, Frame)))
        frames = 0
        for result in runner.run(self._groups(items)):
            if result.side is not None:
                writer.write_side(result.side)
                continue
            packet = result.frame
            if packet.intra:
                writer.start_gop(packet.pts, frame_step=self.step, frame_duration=packet.duration)
            size = writer.write_frame(packet)
            frames += 1
            if on_frame is not None:
                on_frame(packet, result.coded, size)
        return frames

    def _groups(self, items: Iterable[Frame | SidePacket]) -> Callable:
        gop = self.options.gop

        def feed(start: Callable[[], None], add: Callable[[Frame | SidePacket], None]) -> None:
            count, early = 0, []  # frames of the group, side packets before it
            cuts = SceneCuts() if self.options.scene_cuts and gop > 1 else None
            for item in by_time(items, self.video, self.header.side_streams):
                if isinstance(item, Frame):
                    cut = cuts is not None and cuts.add(item.planes[0])
                    if count == 0 or count == gop or (cut and count >= max(2, gop // LEAST_GROUP)):
                        start()
                        count = 0
                    count += 1
                    for side in early:
                        add(side)
                    early = []
                elif count == 0:
                    early.append(item)  # side packets before the first picture wait for its group
                    continue
                add(item)

        return feed

    def _encode_group(self, job: Job[Frame | SidePacket, _Result]) -> None:
        torch.set_num_threads(self.options.threads)
        coder = coder_for(self.loaded.model, self.device, self.options.route)
        coder.effort, coder.searcher.on_step = self.effort, job.go_on
        coder.follow(self.header.hypotheses, self.header.sparse, self.header.loop_filter, self.header.directed, self.header.adaptive, self.header.corrected)
        if self.options.mask_modes is not None:
            coder.mask_modes = self.options.mask_modes
        size = (self.video.height, self.video.width)
        coded, before, predicted = None, None, 0
        for item in look_around(job, self._frames_ahead()):
            if isinstance(item, SidePacket):
                job.put(_Result(side=item))
                continue
            planes = item.planes(self.device)
            intra = coded is None
            turn = 0 if intra else self.options.cascade[predicted % len(self.options.cascade)]
            quality = min(max(self.quality + turn + self._better(item.lookahead.lasting(), intra), 0), QUALITY_STEPS)
            referred = intra or turn == max(self.options.cascade) > 0
            source = Planes(*(item.filtered(planes, self._step_at(quality)) if referred and self.options.temporal_filter else planes))
            importance = item.lookahead.importance()
            if intra:
                coded = coder.encode_intra(source, quality, size, importance)
            else:
                predicted += 1
                coded = coder.encode_inter(source, quality, size, before, coded.planes, coded.parsed, importance, lasting=referred)
            before = Planes(*planes)
            packet = FramePacket(intra, item.frame.pts, coded.payload, coded.modes, item.frame.duration, quality)
            job.put(_Result(frame=packet, coded=coded))

    def _frames_ahead(self) -> int:
        return max(2, min(LOOKAHEAD_FRAMES, LOOKAHEAD_MEMORY // (self.video.width * self.video.height * 3 // 2)))

    def _step_gain(self) -> tuple[float, float]:
        return getattr(self.loaded.model.config, "step_gain", STEP_GAIN)

    def _step_at(self, quality: int) -> float:
        return float(quantiser_step(torch.tensor([quality]), self._step_gain()))

    def _better(self, lasting: float, intra: bool) -> int:
        """Quality indexes by which a frame is better."""
        if self.options.gop == 1 or self.video.still:
            return 0
        if self.options.intra_boost is not None:
            return self.options.intra_boost if intra else 0
        low, high = self._step_gain()
        return round(octaves_better(lasting, intra) * QUALITY_STEPS / (high - low))


def _frame_step(video: VideoProperties) -> int:
    """Usual distance of frames in the time base, rounded: frames that are one off say so, the others need not. 0 when no rate is known."""
    if not video.frame_rate:
        return 0
    return round(1 / (Fraction(video.frame_rate) * video.time_base))
