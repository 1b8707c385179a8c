"""Speech synthesis with eSpeak NG in a separate process, for the `demo` corpus.

eSpeak NG keeps state between sentences in C globals, so its samples depend on the sentences before. A new process that
synthesises the same list in the same order returns the same samples, and a crash in C does not end the caller. The C
interface is `speak_lib.h` of eSpeak NG 1.52.
"""

import ctypes
import json
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

import numpy as np

ESPEAK_SAMPLE_RATE = 22_050  # Hz, of every voice used here
SEMITONES_PER_PITCH_STEP = 0.195  # measured on f2 at steps 25 to 75: 131.6 to 225.2 Hz
MIDDLE = 50  # the default pitch and pitch range of eSpeak
PITCH_LIMITS = (0, 99)
TEMPO_LIMITS_WPM = (80, 450)  # words per minute

_SYNCHRONOUS, _DONT_EXIT = 2, 0x8000
_RATE, _VOLUME, _PITCH, _RANGE = 1, 2, 3, 4
_UTF8, _BY_CHARACTER = 1, 1
_EVENT_END, _EVENT_WORD = 0, 1
_HEADER = struct.Struct("<II")  # samples, words


@dataclass(frozen=True)
class SentenceRequest:
    """One sentence to synthesise; the tuples have one element per word.

    Attributes:
        voice: language and variant, such as `en-us+f2`.
        tune: the closing mark, which selects the intonation of eSpeak: one of `. ? ! ,`.
        pitch_st: semitones above the pitch of the voice, clamped near -9.7 and 9.6.
        words_per_minute: tempo; 175 is the default of eSpeak.
        pitch_range: ratio of the range of the voice, 0 (monotone) to 2.
    """

    voice: str
    words: tuple[str, ...]
    tune: str
    pitch_st: tuple[float, ...]
    words_per_minute: tuple[float, ...]
    pitch_range: float

    def format_text(self) -> str:
        """Return the text with a pitch and a speed command before each word.

        The commands of eSpeak inside a text are control-A, a number and a letter: P for pitch, S for speed.
        """
        commands = [
            f"\x01{_convert_pitch(semitones)}P\x01{_clamp(tempo, TEMPO_LIMITS_WPM)}S"
            for semitones, tempo in zip(self.pitch_st, self.words_per_minute, strict=True)
        ]
        return " ".join(map(str.__add__, commands, self.words)) + self.tune


@dataclass(frozen=True)
class SynthesisedSpeech:
    """The speech of one sentence: `waveform` (n_samples,) int16 and `word_starts` (n_words,) in samples."""

    waveform: np.ndarray
    word_starts: np.ndarray


def synthesise_in_child(sentences: Sequence[SentenceRequest]) -> Iterator[SynthesisedSpeech]:
    """Yield the speech of every sentence, in order, from a new process that ends with the iterator.

    Raises:
        RuntimeError: the process ended before the last sentence.
    """
    with tempfile.TemporaryFile() as requests:
        requests.write("\n".join(json.dumps(asdict(sentence)) for sentence in sentences).encode())
        requests.seek(0)
        # By path and with -P: the process imports this file only, not the package or the __main__ of the caller.
        command = [sys.executable, "-P", str(Path(__file__))]
        with subprocess.Popen(command, stdin=requests, stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            try:
                for _ in sentences:
                    yield _read_speech(child.stdout)
            finally:
                child.kill()  # a caller that stops early does not wait for the other sentences


def read_espeak_version() -> str:
    """Return the version of the eSpeak NG library, such as `1.52.0`, without starting it."""
    import espeakng_loader

    info = ctypes.CDLL(espeakng_loader.get_library_path()).espeak_Info
    info.restype = ctypes.c_char_p
    text: bytes = info(None)
    return text.decode()


def _read_speech(stream: IO[bytes]) -> SynthesisedSpeech:
    header = stream.read(_HEADER.size)
    if len(header) < _HEADER.size:
        raise RuntimeError("the eSpeak NG process ended early; its message is on stderr")
    n_samples, n_words = _HEADER.unpack(header)
    waveform = np.frombuffer(stream.read(2 * n_samples), dtype="<i2")
    word_starts = np.frombuffer(stream.read(4 * n_words), dtype="<i4")
    return SynthesisedSpeech(waveform, word_starts)


def _clamp(value: float, limits: tuple[int, int]) -> int:
    return min(max(round(value), limits[0]), limits[1])


def _convert_pitch(semitones: float) -> int:
    return _clamp(MIDDLE + semitones / SEMITONES_PER_PITCH_STEP, PITCH_LIMITS)


class _Event(ctypes.Structure):
    """`espeak_EVENT` of speak_lib.h."""

    _fields_ = [
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),  # ms
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", ctypes.c_void_p),  # a union of pointer size
    ]


_Samples, _Events = ctypes.POINTER(ctypes.c_short), ctypes.POINTER(_Event)
_Callback = ctypes.CFUNCTYPE(ctypes.c_int, _Samples, ctypes.c_int, _Events)


class _ESpeak:
    """The initialised shared library; one per process."""

    def __init__(self) -> None:
        import espeakng_loader

        self._lib = ctypes.CDLL(espeakng_loader.get_library_path())
        data = str(espeakng_loader.get_data_path()).encode()
        rate = self._lib.espeak_Initialize(_SYNCHRONOUS, 0, data, _DONT_EXIT)
        if rate != ESPEAK_SAMPLE_RATE:
            raise RuntimeError(f"espeak_Initialize returned {rate}, expected {ESPEAK_SAMPLE_RATE} Hz; data in {data!r}")
        self._lib.espeak_ng_SetRandSeed(ctypes.c_long(1))  # by default the clock seeds the breath noise of f2, f3, f5
        self._chunks: list[bytes] = []
        self._word_starts: list[int] = []
        self._callback = _Callback(self._receive)  # stored, because C calls it after this line
        self._lib.espeak_SetSynthCallback(self._callback)

    def _receive(
        self, samples: "ctypes._Pointer[ctypes.c_short]", n_samples: int, events: "ctypes._Pointer[_Event]"
    ) -> int:
        if n_samples > 0:
            self._chunks.append(ctypes.string_at(samples, 2 * n_samples))
        index = 0
        while events[index].type != _EVENT_END:
            if events[index].type == _EVENT_WORD:
                self._word_starts.append(events[index].sample)
            index += 1
        return 0  # continue

    def synthesise(self, sentence: SentenceRequest) -> SynthesisedSpeech:
        """Return the speech of one sentence; the samples also depend on the sentences before."""
        self._chunks.clear()
        self._word_starts.clear()
        self._choose_voice(sentence)
        text = sentence.format_text().encode()
        size = ctypes.c_size_t(len(text) + 1)
        code = self._lib.espeak_Synth(text, size, 0, _BY_CHARACTER, 0, _UTF8, None, None)
        if code != 0:
            raise RuntimeError(f"espeak_Synth failed with code {code} on {text!r}")
        waveform = np.frombuffer(b"".join(self._chunks), dtype=np.int16)
        return SynthesisedSpeech(waveform, np.array(self._word_starts, dtype=np.int32))

    def _choose_voice(self, sentence: SentenceRequest) -> None:
        if self._lib.espeak_SetVoiceByName(sentence.voice.encode()) != 0:
            raise RuntimeError(f"eSpeak NG has no voice {sentence.voice!r}")
        settings = {
            _RATE: _clamp(sentence.words_per_minute[0], TEMPO_LIMITS_WPM),
            _VOLUME: 100,
            _PITCH: _convert_pitch(sentence.pitch_st[0]),
            _RANGE: _clamp(MIDDLE * sentence.pitch_range, PITCH_LIMITS),
        }
        for parameter, value in settings.items():
            self._lib.espeak_SetParameter(parameter, value, 0)


def _synthesise_requests(requests: IO[bytes], output: IO[bytes]) -> None:
    """Read one sentence per line, as JSON; write its header, samples and word starts (little-endian)."""
    espeak = _ESpeak()
    for line in requests:
        fields = json.loads(line)
        lists = {name: tuple(value) for name, value in fields.items() if isinstance(value, list)}
        speech = espeak.synthesise(SentenceRequest(**{**fields, **lists}))
        output.write(_HEADER.pack(len(speech.waveform), len(speech.word_starts)))
        output.write(speech.waveform.astype("<i2").tobytes())
        output.write(speech.word_starts.astype("<i4").tobytes())
        output.flush()


if __name__ == "__main__":
    _synthesise_requests(sys.stdin.buffer, sys.stdout.buffer)
