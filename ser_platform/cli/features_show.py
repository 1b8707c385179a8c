"""`ser features show`: the features of one recording, drawn over one time axis."""

from pathlib import Path
from typing import Annotated

import typer

from ser_platform.cli.options import JsonOption, format_examples
from ser_platform.cli.output import print_json

EXAMPLES = format_examples("ser features show clip.wav", "ser features show clip.wav --out clip.png --json")


def show(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="Recording of speech, with any sample rate and number of channels.")
    ],
    out: Annotated[
        Path | None, typer.Option(metavar="PNG", help="File of the figure; default: runs/features-FILE.png.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Draw a recording's waveform, mel bands, pitch classes and F0, and print its duration, level and mean F0.\f

    The level is the root mean square in dB relative to full scale; silence is the share of 20 ms frames more than 40 dB
    below the speech; the mean F0 is that of voiced frames.
    """
    from dataclasses import asdict

    from ser_platform.corpora.audio.reader import read_audio
    from ser_platform.errors import UserError
    from ser_platform.settings import runs_folder

    png = out or runs_folder() / f"features-{file.stem}.png"
    if png.suffix.lower() != ".png":
        raise UserError(f"--out {png}: the figure is a PNG file; give a name that ends in .png")
    if png.is_dir() or (png.parent.exists() and not png.parent.is_dir()):
        raise UserError(f"--out {png}: is a folder, or its folder is a file; give the path of a PNG file")
    audio = read_audio(file)

    from ser_platform.features.views.clip_figure import (  # seconds of imports: a wrong file is refused first
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
