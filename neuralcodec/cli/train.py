"""``ncodec train``: one command starts or resumes any training stage; ``export`` turns a run into a model file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click


@click.group()
def train() -> None:
    """Train models. Stages in order: intra, motion, inter, long, levels; then export. SlimCAE has one stage, slimcae; AdaNIC has adanic
    and adanic-agent.

    \b
    ncodec train intra  --data clips/ --run runs/intra  --minutes 60
    ncodec train motion --data clips/ --run runs/motion --init runs/intra
    ncodec train inter  --data clips/ --run runs/inter  --init runs/intra#intra --init runs/motion#motion
    ncodec train levels --data clips/ --run runs/levels --init runs/inter
    ncodec train export --run runs/levels -o models/flagship.safetensors
    ncodec train export --run runs/levels --exact --data clips/ -o models/flagship-exact.safetensors
    ncodec train slimcae --data clips/ --run runs/slimcae --minutes 600
    ncodec train export --run runs/slimcae -o models/slimcae.safetensors
    ncodec train adanic --data clips/ --run runs/adanic --minutes 600
    ncodec train adanic-agent --data clips/ --run runs/agent --init runs/adanic

    With --exact the model's pictures are exact. Stages that start from such a model (--init) go on with it.
    A run that is stopped (Ctrl-C) goes on when the same command is given again.
    """


_SIZE = click.option("--size", type=int, help="Crop size in luma samples, a multiple of 64.")
_OPTIONS = (
    click.option("--data", "data", required=True, multiple=True, type=click.Path(path_type=Path, exists=True, file_okay=False),
                 help="Folder of training clips; may be given several times."),
    click.option("--run", required=True, type=click.Path(path_type=Path), help="Folder of the run: state, metrics, curves."),
    click.option("--init", multiple=True, metavar="PATH[#PART,...]",
                 help="Run folder or model file to start from, or parts of it (intra, motion, inter); later ones override."),
    click.option("--cache", type=click.Path(path_type=Path), default=Path("cache"), show_default=True, help="Decoded clips and flow labels."),
    click.option("--minutes", type=float, show_default="30", help="Training time over all resumptions."),
    click.option("--steps", type=click.IntRange(1), help="End after so many steps, over all resumptions, in place of minutes; the learning rate follows them."),
    click.option("--rate", type=float, help="Highest learning rate."),
    _SIZE,
    click.option("--batch", type=int, help="Crops of a step."),
    click.option("--optimiser", type=click.Choice(["soap", "adamw"]), default="soap", show_default=True, help="What takes the steps."),
    click.option("--precision", type=click.Choice(["float32", "bfloat16"]), default="float32", show_default=True,
                 help="Of large products; bfloat16 is faster where the hardware has instructions for it."),
    click.option("--device", default="cpu", show_default=True),
    click.option("--threads", type=int, help="Processor threads."),
)


def _with(*options: Callable) -> Callable[[Callable], Callable]:
    def decorate(command: Callable) -> Callable:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def _train(run: Callable[[dict[str, Any]], object], options: dict[str, Any]) -> None:
    import logging

    from neuralcodec.training.curves import plot

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    run(options | {"data": tuple(options["data"]), "init": tuple(options["init"])})
    plot(options["run"])


def _stage(name: str, text: str) -> None:
    @train.command(name, help=text)
    @_with(*_OPTIONS, click.option("--frames", type=int, help="Frames unrolled (long, levels)."),
           click.option("--chain", type=click.IntRange(1), help="Most steps that go on from the frames that the one before decoded (long, levels)."),
           click.option("--freeze", type=click.Choice(["motion", "inter"]), help="Part of the P frames' networks that stays as it is (long, levels)."),
           click.option("--saturation", type=click.FloatRange(0, 2), default=0.0, show_default=True,
                        help="Strengthen chroma in half of the samples, by up to e to this power."),
           click.option("--scale", type=click.FloatRange(0, 1), default=0.0, show_default=True,
                        help="Resize half of the samples, up or down, by up to e to this power."),
           click.option("--detail", type=click.FloatRange(0, 2), default=0.0, show_default=True,
                        help="Strengthen the detail of half of the samples by up to this share, and let some of luma's into chroma."),
           click.option("--graphics", type=click.FloatRange(0, 1), default=0.0, show_default=True,
                        help="Draw letters, lines and boxes over this share of the samples."),
           click.option("--revive-chroma", is_flag=True, help="Begin with chroma's lost frequencies in latents that carry nothing (intra)."),
           click.option("--ablate", multiple=True, type=click.Choice(["temporal", "parts", "motion", "grid"]),
                        help="Train without it (long, levels): temporal priors, priors in parts, motion, or vectors for 8x8 (16x16 then). May be given several times."),
           click.option("--hypotheses", is_flag=True, help="Cells take the best of several predictions, as encoders choose them (long, levels)."),
           click.option("--modulator", is_flag=True, help="ELF-VC's loss modulator: the distortion of P frames that fall behind intra frames weighs more (long)."),
           click.option("--freeze-normalisation", type=click.IntRange(1), metavar="STEPS",
                        help="ELF-VC's frozen channel normalisation: train layers that read several tensors as if their channels were normalised, by averages that stay "
                        "as they are after so many steps (long)."),
           click.option("--floating", is_flag=True, help="Train in floating point what starts from an exact model's file: faster; `export --exact` afterwards."))
    def command(**options) -> None:
        from neuralcodec.training.stages import StageOptions, run_stage

        _train(lambda o: run_stage(StageOptions(stage=name, **o)), options)


_stage("intra", "Intra frames: random quality, random widths.")
_stage("motion", "Motion codec, taught by classical optical flow.")
_stage("inter", "P frames: 3 to 6 frames unrolled, motion detached at first.")
_stage("long", "P frames: longer unroll, everything joint.")
_stage("levels", "Complexity targets: learned widths for each level (Gumbel-softmax, Lagrangian).")


@train.command()
@_with(
    *_OPTIONS,
    click.option("--gdn", type=click.Choice(["switch", "slim", "slim-plus"]), default="slim-plus", show_default=True,
                 help="Parameters of the normalisation: of each width its own, leading ones of the widest, or these modulated by width."),
    click.option("--width", type=click.IntRange(4), help="Train a model of this width alone."),
    click.option("--one-lambda", is_flag=True, help="The same tradeoff for all widths: several complexities at about one rate."),
    click.option("--lambda-share", type=float, default=1.0, show_default=True,
                 help="Share of the quality scale's lambda, 0 to 1; a model of one width gets what the schedule found for it."),
)
def slimcae(**options) -> None:
    """Slimmable autoencoder for pictures: five widths at a time; lambdas of narrow ones are lowered on the way.

    The run's folder has the shares that the schedule arrived at, in slimcae.json; `export` writes them into the model file.
    """
    from neuralcodec.training.slimcae import SlimCAEOptions, run_slimcae

    _train(lambda o: run_slimcae(SlimCAEOptions(**o)), options)


@train.command()
@_with(
    *_OPTIONS,
    click.option("--table", type=click.Choice(["low", "high"]), default="high", show_default=True,
                 help="Channels of C1 to C5: those that the paper has for low qualities (q1 to q3), or for high ones (q4 and q5)."),
)
def adanic(**options) -> None:
    """Slimmable supernet whose capacity changes from block to block: the largest capacity, the least and a random map on every step."""
    from neuralcodec.training.adanic import AdaNICOptions, run_adanic

    _train(lambda o: run_adanic(AdaNICOptions(**o)), options)


@train.command("adanic-agent")
@_with(*(option for option in _OPTIONS if option is not _SIZE))
@click.option("--blocks", type=click.IntRange(20), default=2000, show_default=True,
              help="Blocks of the clips; each is coded once at every capacity (some seconds), which is kept in --cache. A tenth judges the agents.")
@click.option("--shrink", type=click.IntRange(1, 4), default=2, show_default=True,
              help="Factor by which blocks are made smaller for the student: the agent's arithmetic falls by its square. The teacher sees them whole.")
@click.option("--heads", type=click.Choice(["both", "routing", "costs"]), default="both", show_default=True,
              help="What the teacher learns: labels, what downgrades cost, or both.")
@click.option("--no-distillation", "distillation", is_flag=True, flag_value=False, default=True, help="The student learns from labels alone, not from the teacher.")
def adanic_agent(**options) -> None:
    """Routing agents of a supernet (--init, a run or a model file): a teacher, then the student that goes into the model.

    How well both decide, on blocks that they have not learned from, is told at the end and in the run's decisions.json.
    """
    from neuralcodec.training.adanic_agent import AgentOptions, run_agent

    _train(lambda o: run_agent(AgentOptions(**o)), options)


@train.command()
@click.option("--run", required=True, type=click.Path(path_type=Path, exists=True))
@click.option("--init", "parts", multiple=True, metavar="PATH[#PART,...]", help="Parts to take from other runs instead.")
@click.option("--top-quality", type=float, default=100.0, show_default=True, help="What quality 100 shall be of the scale in training.")
@click.option("--exact", is_flag=True, help="Make the pictures exact. Formats are found by coding some of --data.")
@click.option("--bfloat16-trunks", is_flag=True, help="With --exact: most layers take 8 bits and round their sums to bfloat16. Faster where the hardware "
              "computes in bfloat16; the pictures lose quality.")
@click.option("--data", multiple=True, type=click.Path(path_type=Path, exists=True, file_okay=False), help="Folder of clips to convert with.")
@click.option("--cache", type=click.Path(path_type=Path), default=Path("cache"), show_default=True, help="Decoded clips.")
@click.option("--clips", type=click.IntRange(1), default=16, show_default=True, help="Clips of three pictures, and a fourth of another one, to convert with.")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path))
def export(run: Path, parts: tuple[str, ...], top_quality: float, exact: bool, bfloat16_trunks: bool, data: tuple[Path, ...], cache: Path,
           clips: int, output: Path) -> None:
    """Write the weights of a run, or of another model file, as a model file."""
    from neuralcodec.core.errors import UsageError
    from neuralcodec.training import adanic, adanic_agent, slimcae

    exports = {slimcae.RECORD: slimcae.export_slimcae, adanic.RECORD: adanic.export_adanic, adanic_agent.RECORD: adanic_agent.export_agent}
    export_run = next((write for record, write in exports.items() if (run / record).is_file()), None)
    if export_run is not None:
        if parts or exact or top_quality != 100:
            raise UsageError("a run of the stages slimcae, adanic and adanic-agent is exported as it is: --init, --exact and --top-quality are not for it")
        identity, model = export_run(run, output)
        click.echo(f"{output}: identity {identity.hex()}, {output.stat().st_size / 1e6:.2f} MB")
        for level, width in enumerate(model.config.widths, 1):
            click.echo(f"level {level}: width {width}")
        return
    from neuralcodec.codecs.conversion import from_float
    from neuralcodec.codecs.exact import ExactFlagship
    from neuralcodec.codecs.files import save_model
    from neuralcodec.codecs.flagship import Flagship
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
    converts = exact and not model.layers.exact
    if bfloat16_trunks and not converts:
        raise UsageError("--bfloat16-trunks is for the conversion of a model in floating point, with --exact")
    if converts:
        if not data:
            raise UsageError("--exact needs clips to convert with: --data FOLDER")
        packs = [decode_pack(folder, cache) for folder in data]
        model = from_float(model, calibration_clips(packs, clips, frames=3), tables, bfloat16_trunks=bfloat16_trunks)
    identity = save_model(output, model, tables)
    click.echo(f"{output}: identity {identity.hex()}, {output.stat().st_size / 1e6:.2f} MB")
    for level, table in enumerate(tables, 1):
        click.echo(f"level {level}: widths {''.join(map(str, table))}")
