"""`ser features show`: what one recording looks like to a model."""

from pathlib import Path
from typing import Annotated

import typer

from ser_platform.cli.options import JsonOption
from ser_platform.cli.output import print_json


def show(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A recording of speech, of any rate and channels.")],
    out: Annotated[
        Path | None, typer.Option(metavar="PNG", help="Where the figure goes; default: runs/features-FILE.png.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Draw a recording's waveform, mel bands, pitch classes and F0 over one time axis, and tell it in numbers.

    Duration, rate, level (root mean square in dB under full scale), silence (share of 20 ms frames more than 40 dB
    under the speech), and the mean fundamental frequency of voiced frames.
    """
    from dataclasses import asdict

    from ser_platform.corpora.audio.reader import read_audio
    from ser_platform.errors import UserError
    from ser_platform.settings import runs_folder

    png = out or runs_folder() / f"features-{file.stem}.png"
    if png.suffix.lower() != ".png":
        raise UserError(f"--out {png}: the figure is a PNG; give a name that ends in .png")
    if png.is_dir() or (png.parent.exists() and not png.parent.is_dir()):
        raise UserError(f"--out {png}: is no place for a file")
    audio = read_audio(file)

    from ser_platform.features.views.clip_figure import (  # seconds of imports: a wrong file is told first
        AnalysedClip,
        draw_clip,
    )

    clip = AnalysedClip.from_audio(audio)
    draw_clip(clip, file.name, png)
    facts = clip.facts
    if as_json:
        print_json({"path": str(file), **asdict(facts), "figure": str(png)})
        return
    voice = "none found" if facts.mean_f0_hz is None else f"{facts.mean_f0_hz:.0f} Hz, {facts.voiced:.0%} of the frames"
    rows = {
        "duration": f"{facts.seconds:.2f} s",
        "rate": f"{facts.sample_rate} Hz",
        "level": f"{facts.level_dbfs:.1f} dBFS",
        "silence": f"{facts.silence:.0%}",
        "mean F0": voice,
        "figure": str(png),
    }
    for name, value in rows.items():
        print(f"{name:<9} {value}")
