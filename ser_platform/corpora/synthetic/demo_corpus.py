"""The `demo` corpus: 384 synthetic clips with RAVDESS's file names, so that a first run needs no download.

eSpeak NG synthesises 12 speakers (half of them female) x 8 emotions x 2 sentences x 2 repetitions, 16 kHz mono.
A score on these clips shows that the platform works, not how well a model recognises the emotions of people.

The directions of the level cues (pitch, range, rate, loudness, tilt, jitter) follow reviews of acted speech:
    Banse & Scherer (1996), J. Pers. Soc. Psychol. 70: acoustic profiles of 14 emotions.
    Burkhardt & Sendlmeier (2000), ISCA Workshop on Speech and Emotion: emotions by rule in a synthesiser.
    Juslin & Laukka (2003), Psychological Bulletin 129: cues over 104 studies of vocal expression.
    Scherer (2003), Speech Communication 40: a review, with vocal effort and rate.
The sizes of the cues and most contours over time (loudness, places of pauses) are our own choices; they are larger
and steadier than in natural speech. Level cues overlap between emotions and differ between speakers, so that a model
of the frame sequence can score higher than one of pooled statistics.
"""

import importlib.util
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import soundfile

from ser_platform.corpora.synthetic import espeak, voice_effects
from ser_platform.errors import CorpusError, MissingExtra
from ser_platform.settings import slots

RECIPE_VERSION = 2  # raise it when the clips change
SENTENCE_WORDS = {
    "01": ("Kids", "are", "talking", "by", "the", "door"),
    "02": ("Dogs", "are", "sitting", "by", "the", "door"),
}
REPETITIONS = ("01", "02")
README = "README.txt"


@dataclass(frozen=True)
class EmotionRule:
    """The differences between an emotion and the neutral voice of the speaker.

    Contours are equally spaced points from the first word to the last, relative to their mean.

    Attributes:
        pitch_st: semitones. pitch_range: ratio. rate: ratio, above 1 is faster. loudness_db: dB.
        tilt_db: dB per octave; positive is pressed and bright, negative soft and dull.
        breath_db: aspiration noise relative to the voice, dB.
        jitter_st: standard deviation of fast, irregular pitch movement, semitones.
        shimmer_db: standard deviation of fast, irregular loudness movement, dB.
        tremor_hz, tremor_st, tremor_db: rate and depth of a regular movement of pitch and loudness; 0 is none.
        pitch_contour_st, loudness_contour_db, tempo_contour: semitones, dB and ratios over the utterance.
        pauses_s: silence before each of the six words, seconds.
        tune: closing mark, which selects the intonation of eSpeak.
    """

    pitch_st: float = 0.0
    pitch_range: float = 1.0
    rate: float = 1.0
    loudness_db: float = 0.0
    tilt_db: float = 0.0
    breath_db: float = -32.0
    jitter_st: float = 0.10
    shimmer_db: float = 0.4
    tremor_hz: float = 6.0
    tremor_st: float = 0.0
    tremor_db: float = 0.0
    pitch_contour_st: tuple[float, ...] = (0.5, 0.0, -0.5)
    loudness_contour_db: tuple[float, ...] = (0.0, 0.0)
    tempo_contour: tuple[float, ...] = (1.0, 1.0)
    pauses_s: tuple[float, ...] = (0.0,) * 6
    tune: str = "."


EMOTION_RULES = {
    "01": EmotionRule(),  # neutral: the voice of the speaker, with a slight declination
    "02": EmotionRule(  # calm: low, soft, slow; rises, then falls
        pitch_st=-1.0, pitch_range=0.8, rate=0.95, loudness_db=-2.0, tilt_db=-0.6,
        breath_db=-28.0, jitter_st=0.06,
        pitch_contour_st=(-3.5, 1.0, 3.0, 1.0, -3.5), loudness_contour_db=(-16.0, -4.0, 0.0, -4.0, -16.0),
    ),
    "03": EmotionRule(  # happiness: high, lively, bright; pitch swings from word to word (the "wave model")
        pitch_st=1.5, pitch_range=1.3, rate=1.05, loudness_db=1.5, tilt_db=0.4, tune="!",
        pitch_contour_st=(5.0, -3.5, 5.0, -3.5, 5.0, -3.0),
        loudness_contour_db=(4.0, -7.0, 4.0, -7.0, 4.0, -5.0),
    ),
    "04": EmotionRule(  # sadness: low, narrow, slow, soft; falls, fades and slows down
        pitch_st=-1.0, pitch_range=0.8, rate=0.95, loudness_db=-2.0, tilt_db=-0.5,
        breath_db=-29.0, jitter_st=0.12,
        pitch_contour_st=(4.0, 2.0, 0.0, -2.0, -4.0), loudness_contour_db=(6.0, 2.0, -3.0, -7.0, -10.0),
        tempo_contour=(1.2, 1.0, 0.8),
    ),
    "05": EmotionRule(  # anger: loud, pressed, fast; rises, with a steep fall of pitch at the end
        pitch_st=1.5, pitch_range=1.2, rate=1.05, loudness_db=2.5, tilt_db=0.8,
        jitter_st=0.13, shimmer_db=0.6, tune="!",
        pitch_contour_st=(-1.0, 1.0, 3.0, 4.0, -5.0), loudness_contour_db=(-12.0, -6.0, -1.0, 4.0, 7.0),
    ),
    "06": EmotionRule(  # fear: high, fast, breathy; a pause, tremor and rising pitch
        pitch_st=1.5, pitch_range=0.9, rate=1.05, loudness_db=-0.5,
        breath_db=-29.0, jitter_st=0.15, shimmer_db=0.6,
        tremor_hz=6.5, tremor_st=1.0, tremor_db=8.0, tune=",",
        pitch_contour_st=(-2.0, 0.0, 2.0), tempo_contour=(0.85, 1.0, 1.15),
        pauses_s=(0.0, 0.2, 0.0, 0.0, 0.0, 0.0),
    ),
    "07": EmotionRule(  # disgust: low, slow, creaky; pauses, and a second rise at the end
        pitch_st=-1.0, pitch_range=0.9, rate=1.0, loudness_db=0.5, tilt_db=0.2,
        jitter_st=0.16, shimmer_db=0.8,
        pitch_contour_st=(3.0, -1.0, -4.0, -1.0, 3.0), loudness_contour_db=(4.0, -4.0, -9.0, -4.0, 4.0),
        pauses_s=(0.0, 0.0, 0.1, 0.0, 0.1, 0.0),
    ),
    "08": EmotionRule(  # surprise: high, wide; level, then a steep rise at the end
        pitch_st=1.5, pitch_range=1.2, rate=1.0, loudness_db=1.0, breath_db=-30.0, tune="?",
        pitch_contour_st=(-1.0, -3.0, -3.0, -3.0, 7.0), loudness_contour_db=(4.0, -6.0, -6.0, -6.0, 5.0),
    ),
}  # fmt: skip


@dataclass(frozen=True)
class SyntheticSpeaker:
    """One synthetic voice and its room.

    Attributes:
        voice: language and variant of eSpeak NG.
        pitch_st: semitones above the pitch of the variant.
        words_per_minute: neutral tempo.
        formants: ratio of all formants; above 1 is a shorter vocal tract.
        level_db: RMS of speech, dB of full scale. tilt_db: dB per octave.
        reverberation_s: decay time of the room. noise_db: dB of full scale.
    """

    voice: str
    pitch_st: float
    words_per_minute: float
    formants: float
    level_db: float
    tilt_db: float
    reverberation_s: float
    noise_db: float


SPEAKERS = {
    "01": SyntheticSpeaker("en-us+m1", 1.0, 172, 1.00, -26.0, 0.0, 0.18, -61.0),
    "02": SyntheticSpeaker("en-us+f1", 0.0, 176, 1.00, -25.0, 0.3, 0.20, -62.0),
    "03": SyntheticSpeaker("en-us+m3", -1.0, 180, 0.97, -28.0, -0.4, 0.25, -60.0),
    "04": SyntheticSpeaker("en-us+f2", 1.0, 168, 1.02, -27.0, -0.3, 0.16, -61.0),
    "05": SyntheticSpeaker("en-us+m1", 3.0, 168, 1.05, -24.5, 0.3, 0.22, -60.0),
    "06": SyntheticSpeaker("en-us+f3", -1.5, 182, 0.98, -28.5, 0.0, 0.28, -62.0),
    "07": SyntheticSpeaker("en-us+m2", 0.0, 178, 1.02, -27.0, -0.2, 0.20, -61.0),
    "08": SyntheticSpeaker("en-us+f4", 1.5, 170, 1.04, -24.5, 0.4, 0.18, -60.0),
    "09": SyntheticSpeaker("en-us+m6", 1.5, 184, 0.98, -25.5, 0.2, 0.15, -61.0),
    "10": SyntheticSpeaker("en-us+f5", -1.0, 174, 0.97, -26.5, -0.4, 0.24, -61.0),
    "11": SyntheticSpeaker("en-us+m4", 2.0, 166, 0.97, -26.0, 0.3, 0.26, -60.0),
    "12": SyntheticSpeaker("en-us+f2", -0.5, 180, 0.96, -27.5, 0.1, 0.20, -61.0),
}


@dataclass(frozen=True)
class DemoClip:
    """One clip of the corpus: the codes of its RAVDESS name."""

    emotion: str
    sentence: str
    repetition: str
    actor: str

    @property
    def path(self) -> Path:
        """The path of the clip under the root of the corpus."""
        name = f"03-01-{self.emotion}-01-{self.sentence}-{self.repetition}-{self.actor}.wav"
        return Path(f"Actor_{self.actor}", name)


DEMO_CLIPS = tuple(
    DemoClip(emotion, sentence, repetition, actor)
    for actor in SPEAKERS
    for emotion in EMOTION_RULES
    for sentence in SENTENCE_WORDS
    for repetition in REPETITIONS
)


SEED = 0
# Standard deviations of normal draws, so that speakers and takes differ.
SPEAKER_STRENGTH = 0.5  # ratio: how strongly a speaker uses a level cue for an emotion
TAKE_STRENGTH = 0.3  # the same ratio for one take
SHAPE_STRENGTH = 0.15  # ratio: how strongly one take uses the contours and pauses
LEVEL_CUES = {"pitch_st": 1.3, "loudness_db": 2.3, "tilt_db": 0.7}  # variation of a clip that no emotion causes
RATE_SPREAD, TREMOR_HZ_SPREAD = 0.06, 0.08  # of the natural logarithm
SHAPE_CUES = ("pitch_contour_st", "loudness_contour_db", "pauses_s")


def synthesise_corpus(root: Path) -> Path:
    """Write the 384 clips under `root`, unless they are there already, and return `root`.

    The bytes are the same on every run. The clips are written beside `root` and moved there once all are complete, so
    an interrupted run leaves no incomplete corpus.

    Raises:
        MissingExtra: espeakng-loader is not installed.
        CorpusError: `root` contains files that this function did not write.
    """
    if is_synthesised(root):
        return root
    if importlib.util.find_spec("espeakng_loader") is None:
        raise MissingExtra("demo", "espeakng-loader")
    _refuse_foreign_folder(root)
    root.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{root.name}-", dir=root.parent) as scratch:
        finished = Path(scratch, "finished")
        _write_clips(finished)
        (finished / README).write_text(_format_readme() + _format_origin(), encoding="utf-8")
        if not is_synthesised(root):  # another process may have been faster; its bytes are the same
            if root.exists():
                root.rename(Path(scratch, "replaced"))
            finished.rename(root)
    return root


def is_synthesised(root: Path) -> bool:
    """Return whether `root` contains every clip of this version of the recipe."""
    if not _read_readme(root).startswith(_format_readme()):
        return False
    return all((root / clip.path).is_file() for clip in DEMO_CLIPS)


def synthesise_clips(clips: tuple[DemoClip, ...]) -> Iterator[np.ndarray]:
    """Yield the waveform of each clip, in order: (n_samples,) float at 16 kHz within [-1, 1].

    The random draws of a clip depend on its name alone; the flutter of eSpeak depends on the clips before it too.
    """
    rules = [_draw_take(clip) for clip in clips]
    requests = [_make_request(clip, rule) for clip, rule in zip(clips, rules, strict=True)]
    with ThreadPoolExecutor(slots()) as threads:  # NumPy and SciPy release the lock of the interpreter
        yield from threads.map(_render, clips, rules, espeak.synthesise_in_child(requests))


def _render(clip: DemoClip, rule: EmotionRule, speech: espeak.SynthesisedSpeech) -> np.ndarray:
    waveform = _apply_voice_effects(speech, rule, SPEAKERS[clip.actor], _make_generator(clip, "sound"))
    return _record_in_room(waveform, rule, clip.actor, _make_generator(clip, "place"))


def _draw_take(clip: DemoClip) -> EmotionRule:
    """Return the emotion's rule with the random variation of this speaker and this take."""
    rule = EMOTION_RULES[clip.emotion]
    # The habit is the same in all four takes, so it must not depend on sentence and repetition.
    habit = _make_generator(replace(clip, sentence="00", repetition="00"), "habit")
    take = _make_generator(clip, "take")
    changes: dict[str, object] = {}
    for cue, spread in LEVEL_CUES.items():
        strength = 1 + SPEAKER_STRENGTH * habit.standard_normal() + TAKE_STRENGTH * take.standard_normal()
        changes[cue] = getattr(rule, cue) * strength + spread * take.standard_normal()
    for cue in SHAPE_CUES:
        strength = max(1 + SHAPE_STRENGTH * take.standard_normal(), 0.5)
        changes[cue] = tuple(strength * value for value in getattr(rule, cue))
    changes["rate"] = rule.rate * np.exp(RATE_SPREAD * take.standard_normal())
    changes["tremor_hz"] = rule.tremor_hz * np.exp(TREMOR_HZ_SPREAD * take.standard_normal())
    return replace(rule, **changes)  # type: ignore[arg-type]


def _make_generator(clip: DemoClip, purpose: str) -> np.random.Generator:
    codes = (clip.actor, clip.emotion, clip.sentence, clip.repetition)
    return np.random.default_rng([SEED, *(int(code) for code in codes), *purpose.encode()])


def _sample_contour(contour: tuple[float, ...], n: int) -> np.ndarray:
    values = np.interp(np.linspace(0, 1, n), np.linspace(0, 1, len(contour)), contour)
    centred: np.ndarray = values - values.mean()
    return centred


def _make_request(clip: DemoClip, rule: EmotionRule) -> espeak.SentenceRequest:
    """Return the request to eSpeak; pitch and tempo compensate for the later change of formants."""
    speaker, words = SPEAKERS[clip.actor], SENTENCE_WORDS[clip.sentence]
    pitch = speaker.pitch_st + rule.pitch_st + _sample_contour(rule.pitch_contour_st, len(words))
    pitch -= 12 * np.log2(speaker.formants)
    tempo = 1 + _sample_contour(rule.tempo_contour, len(words))
    tempo *= speaker.words_per_minute * rule.rate / speaker.formants
    return espeak.SentenceRequest(
        voice=speaker.voice,
        words=words,
        tune=rule.tune,
        pitch_st=tuple(pitch.tolist()),
        words_per_minute=tuple(tempo.tolist()),
        pitch_range=rule.pitch_range,
    )


def _apply_voice_effects(
    speech: espeak.SynthesisedSpeech, rule: EmotionRule, speaker: SyntheticSpeaker, rng: np.random.Generator
) -> np.ndarray:
    """Return eSpeak's speech at 16 kHz with the cues that eSpeak cannot produce."""
    rate = espeak.ESPEAK_SAMPLE_RATE
    voice = speech.waveform / 32768
    voice = voice_effects.insert_pauses(voice, speech.word_starts.tolist(), rule.pauses_s, rate)
    voice = _add_tremor(voice, rule, speaker, rate, rng)
    voice = voice_effects.add_breath(voice, rule.breath_db, rate, rng)
    voice = voice_effects.tilt_spectrum(voice, rule.tilt_db + speaker.tilt_db, rate)
    voice = voice_effects.resample(voice, rate)
    voice = voice_effects.trim_silence(voice)  # the contour spans the speech, not eSpeak's silence
    return voice_effects.shape_loudness(voice, rule.loudness_contour_db)


def _record_in_room(voice: np.ndarray, rule: EmotionRule, actor: str, rng: np.random.Generator) -> np.ndarray:
    """Return the speech with the speaker's room and level, and 60 to 200 ms of noise before and after it."""
    speaker = SPEAKERS[actor]
    lead, tail = (rng.uniform(0.06, 0.20, 2) * voice_effects.SAMPLE_RATE).astype(int)
    room = voice_effects.make_room_response(speaker.reverberation_s, np.random.default_rng([SEED, int(actor)]))
    voice = voice_effects.add_reverberation(np.pad(voice, (lead, tail)), room)
    return voice_effects.set_level(voice, speaker.level_db + rule.loudness_db, speaker.noise_db, rng)


def _add_tremor(
    voice: np.ndarray, rule: EmotionRule, speaker: SyntheticSpeaker, rate: int, rng: np.random.Generator
) -> np.ndarray:
    """Return the voice with the speaker's formants and the emotion's tremor, jitter and shimmer."""
    n = len(voice)
    tremor = voice_effects.make_unsteady_sine(n, rule.tremor_hz, rate, rng)
    jitter = rule.jitter_st * voice_effects.make_smooth_noise(n, 30.0, rate, rng)
    shimmer = rule.shimmer_db * voice_effects.make_smooth_noise(n, 30.0, rate, rng)
    louder = 10 ** ((rule.tremor_db * tremor + shimmer) / 20)
    shift = 12 * np.log2(speaker.formants) + rule.tremor_st * tremor + jitter
    return voice_effects.shift_pitch(voice * louder, shift)


def _refuse_foreign_folder(root: Path) -> None:
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return
    if not _read_readme(root).startswith(_TITLE):
        raise CorpusError(f"{root} contains something other than the demo corpus; choose another folder")


def _write_clips(root: Path) -> None:
    for clip, waveform in zip(DEMO_CLIPS, synthesise_clips(DEMO_CLIPS), strict=True):
        path = root / clip.path
        path.parent.mkdir(parents=True, exist_ok=True)
        pcm = np.round(waveform * 32767).astype(np.int16)
        soundfile.write(path, pcm, voice_effects.SAMPLE_RATE, subtype="PCM_16")


_TITLE = "The demo corpus: synthetic speech, not people.\n"


def _read_readme(root: Path) -> str:
    readme = root / README
    return readme.read_text(encoding="utf-8") if readme.is_file() else ""


def _format_readme() -> str:
    return (
        f"{_TITLE}\n{len(DEMO_CLIPS)} clips with the names of RAVDESS's files.\n"
        "made by: ser_platform.corpora.demo_voice\n"  # fixed: another text would synthesise existing corpora again
        f"recipe version: {RECIPE_VERSION}\nseed: {SEED}\n"
    )


def _format_origin() -> str:
    return f"synthesised by: eSpeak NG {espeak.read_espeak_version()}\n"
