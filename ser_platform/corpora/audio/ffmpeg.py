"""Decodes the sound of mp4 files, such as MELD's, with ffmpeg; libsndfile cannot read them.

ffmpeg receives the absolute path, the format mp4 and the protocol `file` only, so that neither the name nor the content
of a file can make it open anything else. The sample rate and the channels are kept.
"""

import io
import shutil
import subprocess
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from ser_platform.errors import BadAudio, UserError

VIDEO_SUFFIXES = frozenset({".mp4"})
FFMPEG_TIMEOUT_S = 300  # hours of sound are decoded in less


def require_ffmpeg() -> str:
    """Return the path of ffmpeg.

    Raises:
        UserError: ffmpeg is not on PATH.
    """
    where = shutil.which("ffmpeg")
    if where is None:
        raise UserError("mp4 files, like MELD's, need ffmpeg on PATH: apt-get install ffmpeg, or brew install ffmpeg")
    return where


def decode_video(path: Path, start_s: float, seconds: float) -> tuple[NDArray[np.float32], int]:
    """Return at most `seconds` of sound from `start_s` on, `(n_samples, n_channels)`, and its sample rate in Hz.

    Raises:
        BadAudio: there is no sound, or a part of it cannot be decoded.
        UserError: ffmpeg is not on PATH.
    """
    source = ["-protocol_whitelist", "file", "-f", "mp4", "-i", f"file:{path.absolute()}"]
    part = ["-map", "0:a:0", "-vn", "-ss", f"{start_s:.6f}", "-t", f"{seconds:.6f}"]
    # Without -xerror, ffmpeg would leave out a packet that it cannot decode and shift the following audio.
    quiet = ["-nostdin", "-hide_banner", "-loglevel", "error", "-xerror", "-threads", "1"]
    command = [require_ffmpeg(), *quiet, *source, *part, "-c:a", "pcm_f32le", "-f", "wav", "pipe:1"]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=FFMPEG_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise BadAudio(path, f"ffmpeg did not end within {FFMPEG_TIMEOUT_S} s") from error
    messages = done.stderr.decode(errors="replace")
    if "partial file" in messages:
        raise BadAudio(path, "is truncated: ffmpeg reports a partial file")
    if done.returncode:
        if "matches no streams" in messages:
            raise BadAudio(path, "has no sound")
        first = next((line for line in messages.splitlines() if line.strip()), f"exit code {done.returncode}")
        raise BadAudio(path, f"cannot be decoded (ffmpeg: {first.strip()})")
    return _decode_wav(done.stdout, path)


def _decode_wav(wav: bytes, path: Path) -> tuple[NDArray[np.float32], int]:
    try:
        with soundfile.SoundFile(io.BytesIO(wav)) as file:
            return file.read(dtype="float32", always_2d=True), file.samplerate
    except soundfile.LibsndfileError as error:  # ffmpeg decoded nothing and wrote no header
        raise BadAudio(path, "has no sound that ffmpeg can decode") from error
