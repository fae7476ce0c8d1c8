"""``ncodec train``: one command starts or resumes any training stage; ``export`` turns a run into a model file."""

from __future__ import annotations

from pathlib import Path

import click


@click.group()
def train() -> None:
    """Train models. Stages in order: intra, motion, inter, long, levels; then export.

    \b
    ncodec train intra  --data clips/ --run runs/intra  --minutes 60
    ncodec train motion --data clips/ --run runs/motion --init runs/intra
    ncodec train inter  --data clips/ --run runs/inter  --init runs/intra#intra --init runs/motion#motion
    ncodec train levels --data clips/ --run runs/levels --init runs/inter
    ncodec train export --run runs/levels -o models/flagship.safetensors
    ncodec train export --run runs/levels --exact --data clips/ -o models/flagship-exact.safetensors

    The last one makes a model whose pictures are exact. Stages that start from it (--init) go on with it.
    A run that is stopped (Ctrl-C) goes on when the same command is given again.
    """


def _stage(name: str, text: str) -> None:
    @train.command(name, help=text)
    @click.option("--data", "data", required=True, multiple=True, type=click.Path(path_type=Path, exists=True, file_okay=False),
                  help="Folder of training clips; may be given several times.")
    @click.option("--run", required=True, type=click.Path(path_type=Path), help="Folder of the run: state, metrics, curves.")
    @click.option("--init", multiple=True, metavar="PATH[#PART,...]",
                  help="Run folder or model file to start from, or parts of it (intra, motion, inter); later ones override.")
    @click.option("--cache", type=click.Path(path_type=Path), default=Path("cache"), show_default=True, help="Decoded clips and flow labels.")
    @click.option("--minutes", type=float, default=30.0, show_default=True, help="Training time over all resumptions.")
    @click.option("--rate", type=float, help="Highest learning rate.")
    @click.option("--size", type=int, help="Crop size in luma samples, a multiple of 64.")
    @click.option("--batch", type=int, help="Crops of a step.")
    @click.option("--frames", type=int, help="Frames unrolled (long, levels).")
    @click.option("--device", default="cpu", show_default=True)
    @click.option("--threads", type=int, help="Processor threads.")
    def command(**options) -> None:
        import logging

        from neuralcodec.training.curves import plot
        from neuralcodec.training.stages import StageOptions, run_stage

        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
        options |= {"data": tuple(options["data"]), "init": tuple(options["init"])}
        run_stage(StageOptions(stage=name, **options))
        plot(options["run"])


_stage("intra", "Intra frames: random quality, random widths.")
_stage("motion", "Motion codec, taught by classical optical flow.")
_stage("inter", "P frames: 3 to 6 frames unrolled, motion detached at first.")
_stage("long", "P frames: longer unroll, everything joint.")
_stage("levels", "Complexity targets: learned widths for each level (Gumbel-softmax, Lagrangian).")


@train.command()
@click.option("--run", required=True, type=click.Path(path_type=Path, exists=True))
@click.option("--init", "parts", multiple=True, metavar="PATH[#PART,...]", help="Parts to take from other runs instead.")
@click.option("--top-quality", type=float, default=100.0, show_default=True, help="What quality 100 shall be of the scale in training.")
@click.option("--exact", is_flag=True, help="Make the pictures exact. Formats are found by coding some of --data.")
@click.option("--data", multiple=True, type=click.Path(path_type=Path, exists=True, file_okay=False), help="Folder of clips to convert with.")
@click.option("--cache", type=click.Path(path_type=Path), default=Path("cache"), show_default=True, help="Decoded clips.")
@click.option("--clips", type=click.IntRange(1), default=16, show_default=True, help="Clips of three pictures, and a fourth of another one, to convert with.")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path))
def export(run: Path, parts: tuple[str, ...], top_quality: float, exact: bool, data: tuple[Path, ...], cache: Path, clips: int,
           output: Path) -> None:
    """Write the weights of a run, or of another model file, as a model file."""
    from neuralcodec.codecs.conversion import from_float
    from neuralcodec.codecs.exact import ExactFlagship
    from neuralcodec.codecs.files import save_model
    from neuralcodec.codecs.flagship import Flagship
    from neuralcodec.core.errors import UsageError
    from neuralcodec.nn.selection import chosen_widths
    from neuralcodec.training.calibrate import set_top_quality
    from neuralcodec.training.data import decode_pack
    from neuralcodec.training.exact import all_exact, calibration_clips
    from neuralcodec.training.stages import load_initial

    model = ExactFlagship() if all_exact([str(run), *parts]) else Flagship()
    for source in (run, *parts):
        load_initial(model, source)
    set_top_quality(model, top_quality)
    model.eval()
    tables = [chosen_widths(model, level) for level in range(1, model.levels + 1)]
    if exact and not model.layers.exact:
        if not data:
            raise UsageError("--exact needs clips to convert with: --data FOLDER")
        packs = [decode_pack(folder, cache) for folder in data]
        model = from_float(model, calibration_clips(packs, clips, frames=3), tables)
    identity = save_model(output, model, tables)
    click.echo(f"{output}: identity {identity.hex()}, {output.stat().st_size / 1e6:.2f} MB")
    for level, table in enumerate(tables, 1):
        click.echo(f"level {level}: widths {''.join(map(str, table))}")
