"""Near duplicates: copies of a recording with another gain, sampling rate, codec, trimming, padding or weak noise.

Each frame of a clip becomes one word of 32 bits. A bit is the sign of the change over time of the difference in energy
between two neighbouring frequency bands: gain cancels, and codecs keep the sign where the sound is loud. Two clips that
share words at one offset are candidates; the bit error rate over all frames of the overlap decides. Two takes of a
sentence by one speaker differ in timing: about half of their bits differ.

Source: Haitsma & Kalker, "A Highly Robust Audio Fingerprinting System", ISMIR 2002, for music over seconds. Here
frames are 0.26 s instead of 0.37 s, bands are from 300 to 3000 Hz so that telephone speech has them, pauses do not
count, and the threshold is 0.16 instead of 0.35 because utterances are short.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.fft
import soxr
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from ser_platform.corpora.audio.reader import SAMPLE_RATE

FINGERPRINT_SAMPLE_RATE = 8000  # Hz; the bands end at 3000
N_FFT = 2048  # samples at RATE; 0.256 s: a shift by half a hop leaves most bits as they are
HOP = 128  # samples at RATE; 16 ms
HOP_S = HOP / FINGERPRINT_SAMPLE_RATE
BANDS = 33
LOW_HZ, HIGH_HZ = 300.0, 3000.0
BLOCK = 32  # frames transformed at once: they fit the cache, which is twice as fast as all frames at once
LAG = 4  # frames between the two sides of the difference in time, 64 ms
ACTIVE_DB = 30.0  # below the loudest frame; quieter frames are pauses, whose bits depend on the noise

# Share of bits; a copy in ogg at 8 kHz has up to 0.1, two takes of a sentence by one speaker 0.25 or more.
MAX_BIT_ERRORS = 0.16
MIN_FRAMES = 32  # loud frames in the overlap, about half a second
MIN_COVERAGE = 0.5  # of the shorter clip's loud frames
MIN_WORDS = 12  # different words in the overlap: a steady tone has few, and all tones have the same
MAX_WORD_PLACES = 40  # places; a word in more places, like that of a hum, identifies no recording
MIN_SHARED_WORDS = 2  # shared words at one offset
MAX_FRAMES_AT_ONCE = 1 << 22  # frames compared at once

_EDGES = np.round(np.geomspace(LOW_HZ, HIGH_HZ, BANDS + 1) * N_FFT / FINGERPRINT_SAMPLE_RATE).astype(np.int64)
_WINDOW = np.hanning(N_FFT).astype(np.float32)
_BIT_COUNTS = (
    np.unpackbits(np.arange(1 << 16, dtype=np.uint16).view(np.uint8)).reshape(-1, 16).sum(axis=1).astype(np.uint8)
)


@dataclass(frozen=True)
class Fingerprint:
    """Per frame `(n_frames,)`: the word, the word with its least certain bit flipped, and whether the frame is loud."""

    words: NDArray[np.uint32]
    flipped: NDArray[np.uint32]
    is_loud: NDArray[np.bool_]


@dataclass(frozen=True)
class NearPair:
    """Two fingerprints of one recording, by number; the second begins `offset_s` seconds after the first."""

    first: int
    second: int
    offset_s: float
    overlap_s: float
    bit_error_rate: float


def compute_fingerprint(waveform: NDArray[np.float32]) -> Fingerprint:
    """Return the fingerprint of a waveform `(n_samples,)` at `SAMPLE_RATE`."""
    energies = _band_energies(soxr.resample(waveform, SAMPLE_RATE, FINGERPRINT_SAMPLE_RATE, quality="HQ"))
    slopes = energies[:, :-1] - energies[:, 1:]
    change = slopes[LAG:] - slopes[:-LAG]
    words = np.packbits(change > 0, axis=1).view(">u4")[:, 0].astype(np.uint32)
    uncertain = np.abs(change).argmin(axis=1).astype(np.uint32)
    level = energies.sum(axis=1)[LAG:]
    loud = level > level.max(initial=0) * 10 ** (-ACTIVE_DB / 10)
    return Fingerprint(words, words ^ (np.uint32(1 << 31) >> uncertain), loud)


def _band_energies(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return band energies `(n_frames, BANDS)` of a waveform `(n_samples,)` at `FINGERPRINT_SAMPLE_RATE`."""
    frames = sliding_window_view(np.pad(samples, N_FFT // 2), N_FFT)[::HOP]
    energies = np.empty((len(frames), BANDS), np.float32)
    for first in range(0, len(frames), BLOCK):
        block = slice(first, first + BLOCK)
        spectrum = scipy.fft.rfft(frames[block] * _WINDOW, axis=1)[:, : _EDGES[-1]]
        energies[block] = np.add.reduceat(spectrum.real**2 + spectrum.imag**2, _EDGES[:-1], axis=1)
    return energies


def find_near_duplicates(prints: Sequence[Fingerprint]) -> list[NearPair]:
    """Return the pairs of fingerprints that are one recording, in order.

    The time is that of sorting the words of all clips: only pairs that share words are compared.
    """
    if not prints:
        return []
    index = _Index(prints)
    best: dict[tuple[int, int], NearPair] = {}
    for candidates in index.find_candidates():
        for pair in index.verify(candidates):
            known = best.get((pair.first, pair.second))
            if known is None or pair.bit_error_rate < known.bit_error_rate:
                best[pair.first, pair.second] = pair
    return [best[key] for key in sorted(best)]


class _Index:
    """The words of all clips, concatenated."""

    def __init__(self, prints: Sequence[Fingerprint]) -> None:
        lengths = np.array([len(each.words) for each in prints], dtype=np.int64)
        self.starts = np.concatenate([[0], np.cumsum(lengths)])
        self.words = np.concatenate([each.words for each in prints])
        self.loud = np.concatenate([each.is_loud for each in prints])
        self.flipped = np.concatenate([each.flipped for each in prints])
        self.clips = np.repeat(np.arange(len(prints), dtype=np.int32), lengths)
        self.n_loud = np.add.reduceat(np.append(self.loud, False).astype(np.int64), self.starts[:-1])
        self.n_loud[lengths == 0] = 0

    def find_candidates(self) -> Iterator[NDArray[np.int64]]:
        """Yield rows `(first clip, second clip, offset in frames)` that share at least `MIN_SHARED_WORDS` words."""
        first, second = self._shared_words().T
        one, other = self.clips[first].astype(np.int64), self.clips[second].astype(np.int64)
        offsets = (first - self.starts[one]) - (second - self.starts[other])
        span = int(np.abs(offsets).max(initial=0)) + 1
        keys, votes = np.unique((one * len(self.starts) + other) * (2 * span) + offsets + span, return_counts=True)
        keys = keys[votes >= MIN_SHARED_WORDS]
        pairs, offsets = keys // (2 * span), keys % (2 * span) - span
        rows = np.stack([pairs // len(self.starts), pairs % len(self.starts), offsets], axis=1)
        sizes = np.cumsum(self._overlaps(rows)[2])
        yield from np.split(
            rows,
            np.searchsorted(sizes, np.arange(MAX_FRAMES_AT_ONCE, sizes[-1] if len(sizes) else 0, MAX_FRAMES_AT_ONCE)),
        )

    def _shared_words(self) -> NDArray[np.int64]:
        """Return the places of equal words in two clips `(n, 2)`, the earlier clip first."""
        places = np.flatnonzero(self.loud)
        words = np.concatenate([self.words[places], self.flipped[places]])
        places = np.concatenate([places, places])
        n_parts = 1 + len(places) // MAX_FRAMES_AT_ONCE
        part_of = words % np.uint32(n_parts)  # equal words fall into one part: this bounds the memory
        parts = ((places[part_of == part], words[part_of == part]) for part in range(n_parts))
        pairs = np.concatenate([_pairs_of_equal(*part) for part in parts])
        between_clips: NDArray[np.int64] = pairs[self.clips[pairs[:, 0]] != self.clips[pairs[:, 1]]]
        return between_clips

    def _overlaps(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Return for each candidate where its overlap begins in either clip, and its length in frames."""
        one, other, offset = rows.T
        in_first, in_second = np.maximum(offset, 0), np.maximum(-offset, 0)
        lengths = np.diff(self.starts)
        n_frames = np.minimum(lengths[one] - in_first, lengths[other] - in_second)
        return self.starts[one] + in_first, self.starts[other] + in_second, n_frames

    def verify(self, rows: NDArray[np.int64]) -> Iterator[NearPair]:
        """Yield the candidates with few bit errors over enough loud frames and words."""
        if not len(rows):
            return
        in_first, in_second, n_frames = self._overlaps(rows)
        ends = np.cumsum(n_frames)
        within = np.arange(ends[-1]) - np.repeat(ends - n_frames, n_frames)
        left, right = np.repeat(in_first, n_frames) + within, np.repeat(in_second, n_frames) + within
        both = self.loud[left] & self.loud[right]
        halves = (self.words[left] ^ self.words[right]).view(np.uint16).reshape(-1, 2)
        wrong = np.where(both, _BIT_COUNTS[halves].sum(axis=1, dtype=np.int64), 0)
        n_both = np.add.reduceat(both.astype(np.int64), ends - n_frames)
        rates = np.add.reduceat(wrong, ends - n_frames) / np.maximum(32 * n_both, 1)
        shorter = np.minimum(self.n_loud[rows[:, 0]], self.n_loud[rows[:, 1]])
        good = (rates <= MAX_BIT_ERRORS) & (n_both >= MIN_FRAMES) & (n_both >= MIN_COVERAGE * shorter)
        for row in np.flatnonzero(good):
            overlap = slice(in_first[row], in_first[row] + n_frames[row])
            if len(np.unique(self.words[overlap][self.loud[overlap]])) >= MIN_WORDS:
                one, other, offset = (int(value) for value in rows[row])
                seconds = float(n_both[row] * HOP_S)
                yield NearPair(one, other, float(offset * HOP_S), seconds, float(rates[row]))


def _pairs_of_equal(places: NDArray[np.int64], words: NDArray[np.uint32]) -> NDArray[np.int64]:
    """Return all pairs of places `(n, 2)` of a word, the lower first; above `MAX_WORD_PLACES` only neighbouring ones.

    This bounds the cost of a hum in every clip, and still joins a hundred copies of a recording in a chain of pairs.
    """
    keys = words.astype(np.uint64) << np.uint64(32) | places.astype(np.uint64)
    keys.sort()  # by word, then by place
    ordered, places = keys >> np.uint64(32), (keys & np.uint64(0xFFFFFFFF)).astype(np.int64)
    bounds = np.flatnonzero(np.diff(ordered, prepend=np.uint64(1 << 33), append=np.uint64(1 << 33)))
    sizes = np.repeat(np.diff(bounds), np.diff(bounds))
    found = [_equal_at(1, ordered, places)]
    rare = sizes <= MAX_WORD_PLACES
    ordered, places = ordered[rare], places[rare]
    for step in range(2, int(sizes[rare].max(initial=1))):
        found.append(_equal_at(step, ordered, places))
    return np.concatenate(found)


def _equal_at(step: int, words: NDArray[np.uint64], places: NDArray[np.int64]) -> NDArray[np.int64]:
    same = np.flatnonzero(words[step:] == words[:-step])
    return np.stack([places[same], places[same + step]], axis=1)
