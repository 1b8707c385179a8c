"""Finds truncated Ogg and MP3 files, which libsndfile reads without an error.

libsndfile reports a truncated WAV or AIFF in its notes, and a truncated FLAC fails to decode. A truncated Ogg ends
without an error, and libsndfile estimates the length of an MP3 from its first frame unless a header states it.
Sources: RFC 3533 (Ogg pages); ISO/IEC 11172-3 and 13818-3 (MPEG audio frames); http://gabriel.mp3-tech.org/mp3infotag.html
(the Xing or Info header).
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

OGG_PAGE = 65_307  # bytes; the largest possible page
OGG_HEADER, OGG_FLAGS, OGG_SEGMENTS = (
    27,
    5,
    26,
)  # bytes: length of the header, offsets of the flags and of the number of segments
END_OF_STREAM = 4  # the flag of a stream's last page

# Of layer III: kbit/s by bitrate index for MPEG 1 and 2, and Hz by rate index for MPEG 1, 2 and 2.5.
BITRATES = {
    1: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    2: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
RATES = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8000)}  # by version code
LAYER_3 = 1  # the code of layer III
LENGTH_TAG = slice(4, 48)  # the bytes of the first frame in which a Xing or Info header may begin
MAX_MP3_BYTES_READ = 32 * 2**20  # bytes; two minutes have at most 5 million, and embedded pictures may precede them
TAGS_AT_THE_END = (b"TAG", b"APETAGEX", b"LYRICSBEGIN", b"ID3")


def is_complete_ogg(path: Path) -> bool:
    """Return whether the last page of an Ogg file is complete and marked as the end of the stream."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - OGG_PAGE))
        tail = file.read()
    at = tail.rfind(b"OggS")
    page = tail[at:]
    if at < 0 or len(page) < OGG_HEADER:
        return False
    segments = page[OGG_HEADER : OGG_HEADER + page[OGG_SEGMENTS]]
    length = OGG_HEADER + page[OGG_SEGMENTS] + sum(segments)
    return length <= len(page) and bool(page[OGG_FLAGS] & END_OF_STREAM)


@dataclass(frozen=True)
class Mp3Frames:
    """The result of a scan over the frames of an MP3.

    Attributes:
        samples: samples in the scanned frames, including the padding of the encoder.
        frame_samples: samples in one frame.
        declared_frames: frames that the header states; None where there is no header.
        has_ended: whether the scan reached the end of the audio, rather than its limit or bytes that are no frame.
        is_cut: whether the last frame is incomplete, or there are fewer frames than declared.
    """

    samples: int
    frame_samples: int
    declared_frames: int | None
    has_ended: bool
    is_cut: bool


def scan_mp3_frames(path: Path, limit_s: float) -> Mp3Frames | None:
    """Scan the frames of an MP3, at most `limit_s` seconds; return None where it does not begin with a frame."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(0)
        content = file.read(MAX_MP3_BYTES_READ)
    at = _skip_id3(content)
    first = _parse_frame(int.from_bytes(content[at : at + 4]))
    if first is None:
        return None
    length, samples, rate = first
    declared, is_header = _read_frame_count(content[at : at + length])
    at += length if is_header else 0
    n, limit = 0, limit_s * rate / samples
    while at < len(content) and n <= limit:
        frame = _parse_frame(int.from_bytes(content[at : at + 4]))
        if frame is None or frame[1:] != (samples, rate):
            break
        at += frame[0]
        n += at <= size
    has_ended = at >= size - 3 or content.startswith(TAGS_AT_THE_END, at)
    is_cut = at > size or (has_ended and declared is not None and n < declared)
    return Mp3Frames(n * samples, samples, declared, has_ended, is_cut)


@lru_cache(maxsize=256)
def _parse_frame(header: int) -> tuple[int, int, int] | None:
    """Return the length in bytes, the samples and the rate in Hz of a frame; None for no header of layer III."""
    version, layer = header >> 19 & 3, header >> 17 & 3
    bitrate, rate, padding = header >> 12 & 15, header >> 10 & 3, header >> 9 & 1
    if header >> 21 != 0x7FF or version not in RATES or layer != LAYER_3 or bitrate in (0, 15) or rate == 3:
        return None
    samples = 1152 if version == 3 else 576
    kbits = BITRATES[1 if version == 3 else 2][bitrate]
    hz = RATES[version][rate]
    return samples // 8 * kbits * 1000 // hz + padding, samples, hz


def _skip_id3(content: bytes) -> int:
    at = 0
    while content[at : at + 3] == b"ID3" and len(content) >= at + 10:
        size = 0
        for byte in content[at + 6 : at + 10]:
            size = size << 7 | byte & 0x7F
        at += 10 + size + (10 if content[at + 5] & 0x10 else 0)  # there is a footer
    return at


def _read_frame_count(frame: bytes) -> tuple[int | None, bool]:
    """Return the number of frames that a Xing or Info header states, and whether the frame is such a header."""
    for name in (b"Xing", b"Info"):
        at = frame.find(name, LENGTH_TAG.start, LENGTH_TAG.stop)
        if at >= 0:
            has_count = len(frame) >= at + 12 and frame[at + 7] & 1
            count = int.from_bytes(frame[at + 8 : at + 12]) if has_count else 0
            return count or None, True
    return None, False
