"""Decodes with ffmpeg the recordings that libsndfile cannot read: those of phones and browsers, and MELD's films.

The content decides, not the name. ffmpeg receives the absolute path, the format that was found and the protocol `file`
only, so that neither the name nor the content of a file can make it open anything else. The sample rate and the
channels are kept. Time, decoded seconds and output are limited.
Sources: ISO/IEC 14496-12 (ftyp), RFC 8794 (EBML), ISO/IEC 13818-7 (ADTS), RFC 4867 (AMR), the specifications of ASF
and of Apple's CAF.
"""

import io
import shutil
import subprocess
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from ser_platform.errors import BadAudio, MissingFfmpeg

VIDEO_SUFFIXES = frozenset({".mp4"})  # of MELD's films
# Suffixes of the containers below.
FFMPEG_SUFFIXES = VIDEO_SUFFIXES | frozenset(
    [".3g2", ".3gp", ".aac", ".amr", ".caf", ".m4a", ".m4v", ".mka", ".mkv", ".mov", ".webm", ".wma", ".wmv"]
)
FFMPEG_TIMEOUT_S = 300  # hours of sound are decoded in less
MAX_OUTPUT_BYTES = 2**29  # two minutes of eight channels at 96 kHz have fewer
HOW_TO_GET_FFMPEG = "ffmpeg on PATH: apt-get install ffmpeg, or brew install ffmpeg"
NEEDS_FFMPEG = f"needs {HOW_TO_GET_FFMPEG}"
CUT_SHORT = ("partial file", "File ended prematurely", "corrupt input packet")  # in ffmpeg's messages

# What a container begins with, and ffmpeg's name of it.
MAGIC = {
    b"\x1a\x45\xdf\xa3": "webm",  # and Matroska
    b"\x30\x26\xb2\x75\x8e\x66\xcf\x11": "asf",  # WMA
    b"#!AMR": "amr",
}
ISO_BOXES = (b"ftyp", b"moov", b"mdat", b"wide")  # the name of the first box: m4a, mp4, 3gp, and older QuickTime
ISO_NAME = slice(4, 8)  # the bytes of that name
CAF_FORMAT = slice(28, 32)  # the bytes of the format in a CAF's first chunk
CAF_FORMATS_OF_LIBSNDFILE = (b"lpcm", b"ulaw", b"alaw")
ADTS_MAX_FRAME = 2**13  # bytes


def require_ffmpeg(need: str) -> str:
    """Return the path of ffmpeg; `need` is the message where it is missing.

    Raises:
        MissingFfmpeg: ffmpeg is not on PATH.
    """
    where = shutil.which("ffmpeg")
    if where is None:
        raise MissingFfmpeg(need)
    return where


def find_ffmpeg_format(path: Path) -> str | None:
    """Return ffmpeg's name of the container of a file; None for a file that is left to libsndfile.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(ADTS_MAX_FRAME + 2)
    if head.startswith(b"caff"):
        return None if head[CAF_FORMAT] in CAF_FORMATS_OF_LIBSNDFILE or _can_open(path) else "caf"
    if head[ISO_NAME] in ISO_BOXES:
        return "mp4"
    if _is_adts(head):
        return "aac"
    return next((name for magic, name in MAGIC.items() if head.startswith(magic)), None)


def _can_open(path: Path) -> bool:
    """Return whether libsndfile can open a file; some CAF files with Apple Lossless cannot be opened."""
    try:
        soundfile.SoundFile(path).close()
    except soundfile.LibsndfileError:
        return False
    return True


def _is_adts(head: bytes) -> bool:
    """Return whether a file begins with a frame of AAC, and the next frame follows it. MP3 has other layer bits."""
    if len(head) < 7 or not _is_adts_header(head):
        return False
    length = (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5
    return length >= 7 and _is_adts_header(head[length : length + 2])


def _is_adts_header(frame: bytes) -> bool:
    return len(frame) >= 2 and frame[0] == 0xFF and frame[1] & 0xF6 == 0xF0


def decode_with_ffmpeg(path: Path, form: str, start_s: float, seconds: float) -> tuple[NDArray[np.float32], int]:
    """Return at most `seconds` of sound from `start_s` on, `(n_samples, n_channels)`, and its sample rate in Hz.

    `form` is ffmpeg's name of the container, from `find_ffmpeg_format`.

    Raises:
        BadAudio: there is no sound, a part of it cannot be decoded, or the decoded sound is too large.
        MissingFfmpeg: ffmpeg is not on PATH.
    """
    source = ["-protocol_whitelist", "file", "-f", form, "-i", f"file:{path.absolute()}"]
    part = ["-map", "0:a:0", "-vn", "-ss", f"{start_s:.6f}", "-t", f"{seconds:.6f}", "-fs", str(MAX_OUTPUT_BYTES)]
    # Without -xerror, ffmpeg would leave out a packet that it cannot decode and shift the following audio.
    quiet = ["-nostdin", "-hide_banner", "-loglevel", "error", "-xerror", "-threads", "1"]
    ffmpeg = require_ffmpeg(f"{path}: {NEEDS_FFMPEG}")
    command = [ffmpeg, *quiet, *source, *part, "-c:a", "pcm_f32le", "-f", "wav", "pipe:1"]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=FFMPEG_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise BadAudio(path, f"ffmpeg did not end within {FFMPEG_TIMEOUT_S} s") from error
    messages = done.stderr.decode(errors="replace")
    if any(sign in messages for sign in CUT_SHORT):
        raise BadAudio(path, "is truncated: ffmpeg reports a partial file")
    if done.returncode:
        if "matches no streams" in messages:
            raise BadAudio(path, "has no sound")
        first = next((line for line in messages.splitlines() if line.strip()), f"exit code {done.returncode}")
        raise BadAudio(path, f"cannot be decoded (ffmpeg: {first.strip()})")
    if len(done.stdout) >= MAX_OUTPUT_BYTES:
        raise BadAudio(path, f"is too large: more than {MAX_OUTPUT_BYTES} bytes when decoded; mix it to mono")
    return _decode_wav(done.stdout, path)


def _decode_wav(wav: bytes, path: Path) -> tuple[NDArray[np.float32], int]:
    try:
        with soundfile.SoundFile(io.BytesIO(wav)) as file:
            return file.read(dtype="float32", always_2d=True), file.samplerate
    except soundfile.LibsndfileError as error:  # ffmpeg decoded nothing and wrote no header
        raise BadAudio(path, "has no sound that ffmpeg can decode") from error
