"""Files that libsndfile cannot read are decoded with ffmpeg, by content, and ffmpeg reads no other file."""

import shutil
import subprocess

import numpy as np
import pytest
import scipy.signal
import soundfile

from ser_platform.corpora.audio import ffmpeg
from ser_platform.corpora.audio.ffmpeg import find_ffmpeg_format
from ser_platform.corpora.audio.reader import MAX_CLIP_S, read_audio
from ser_platform.errors import BadAudio, MissingFfmpeg

needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")


@pytest.fixture
def mp4(tmp_path, tone):
    """Return a function that writes an mp4 with AAC sound (or other options of ffmpeg)."""

    def write(name, samples, sample_rate=48_000, options=("-c:a", "aac", "-b:a", "128k")):
        soundfile.write(tmp_path / "source.wav", samples, sample_rate)
        command = [
            "ffmpeg",
            "-nostdin",
            "-loglevel",
            "error",
            "-i",
            "source.wav",
            *options,
            "-f",
            "mp4",
            f"file:{name}",
        ]
        subprocess.run(command, check=True, cwd=tmp_path)
        return tmp_path / name

    return write


@pytest.fixture
def record(tmp_path, sweep):
    """Return a function that writes the sweep with ffmpeg, in the container of the name's suffix."""

    def write(name, *options):
        soundfile.write(tmp_path / "source.wav", sweep, 48_000, subtype="FLOAT")
        command = ["ffmpeg", "-nostdin", "-y", "-loglevel", "error", "-i", "source.wav", *options, f"file:{name}"]
        subprocess.run(command, check=True, cwd=tmp_path)
        return tmp_path / name

    return write


@pytest.fixture(scope="module")
def sweep():
    """Two seconds at 48 kHz whose pitch rises from 200 to 3000 Hz, so that a shift in time can be seen."""
    time_s = np.arange(96_000) / 48_000
    return (0.3 * np.sin(2 * np.pi * (200 * time_s + 700 * time_s**2))).astype(np.float32)


def correlate_best(one, other):
    """Return the correlation of two waveforms at the best shift, of at most 0.1 s: codecs have a delay."""
    middle = one[1600:-1600]
    at = scipy.signal.correlate(other, middle, mode="valid").argmax()
    return np.corrcoef(middle, other[at : at + len(middle)])[0, 1]


RECORDINGS = {  # name: options of ffmpeg
    "iphone.m4a": ("-c:a", "aac", "-b:a", "128k"),
    "lossless.m4a": ("-c:a", "alac"),
    "fragments.mp4": ("-c:a", "aac", "-b:a", "128k", "-movflags", "frag_keyframe+empty_moov"),
    "camera.mov": ("-c:a", "aac", "-b:a", "128k"),
    "phone.3gp": ("-c:a", "aac", "-b:a", "128k"),
    "chrome.webm": ("-c:a", "libopus", "-b:a", "128k"),
    "live.webm": ("-c:a", "libopus", "-b:a", "128k", "-live", "1"),  # no duration, as from a browser's recorder
    "vorbis.webm": ("-c:a", "libvorbis"),
    "screen.mkv": ("-c:a", "aac", "-b:a", "128k"),
    "stream.aac": ("-c:a", "aac", "-b:a", "128k"),
    "windows.wma": ("-c:a", "wmav2", "-b:a", "128k"),
    "lossless.caf": ("-c:a", "alac"),
}


@needs_ffmpeg
@pytest.mark.parametrize("name", RECORDINGS)
def test_a_recording_of_a_phone_or_browser_has_the_samples_of_its_wav(name, record, tmp_path):
    path = record(name, *RECORDINGS[name])
    clip, wav = read_audio(path), read_audio(tmp_path / "source.wav")
    assert clip.duration_s == pytest.approx(2.0, abs=0.1) and clip.sample_rate == 48_000
    assert correlate_best(wav.waveform, clip.waveform) > 0.95
    assert np.std(clip.waveform) == pytest.approx(np.std(wav.waveform), rel=0.05)


@needs_ffmpeg
def test_lossless_sound_in_an_m4a_has_the_same_samples_as_a_wav(record, tmp_path):
    path = record("lossless.m4a", "-c:a", "alac")
    np.testing.assert_allclose(read_audio(path).samples, read_audio(tmp_path / "source.wav").samples, atol=1e-4)


@needs_ffmpeg
def test_an_amr_is_read(tmp_path):
    rng = np.random.default_rng(0)  # frames of 20 ms at 12.2 kbit/s; random bits are noise
    frames = b"".join(b"\x3c" + rng.bytes(30) + b"\0" for _ in range(50))
    (tmp_path / "phone.amr").write_bytes(b"#!AMR\n" + frames)
    clip = read_audio(tmp_path / "phone.amr")
    assert (clip.sample_rate, clip.duration_s) == (8000, pytest.approx(1.0, abs=0.02))


@needs_ffmpeg
@pytest.mark.parametrize("suffix", [".wav", ".mp3", ".flac", ".mp4", ".raw", ""])
def test_a_webm_is_read_whatever_its_suffix(suffix, record, tmp_path):
    path = record("clip.webm", "-c:a", "libopus")
    digest = read_audio(path).sha256
    assert read_audio(path.rename(tmp_path / f"renamed{suffix}")).sha256 == digest


def test_a_wav_with_the_suffix_m4a_is_read_without_ffmpeg(tmp_path, tone, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    soundfile.write(tmp_path / "clip.m4a", tone(440.0, 0.5), 16_000, format="WAV")
    assert read_audio(tmp_path / "clip.m4a").duration_s == 0.5


def test_pcm_in_a_caf_is_left_to_libsndfile(tmp_path, tone, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    soundfile.write(tmp_path / "clip.caf", tone(440.0, 0.5), 16_000, format="CAF")
    assert read_audio(tmp_path / "clip.caf").duration_s == 0.5


def test_an_mp3_is_not_taken_for_aac(tmp_path, tone):
    soundfile.write(tmp_path / "clip.mp3", tone(440.0, 0.5), 16_000)
    assert find_ffmpeg_format(tmp_path / "clip.mp3") is None


@pytest.mark.parametrize("suffix", [".m4a", ".webm", ".amr"])
def test_a_text_with_the_suffix_of_a_recording_is_refused_in_one_line(suffix, tmp_path):
    path = tmp_path / f"notes{suffix}"
    path.write_text("Dear diary,\n" * 100)
    with pytest.raises(BadAudio, match=rf"notes{suffix}: cannot be decoded") as refusal:
        read_audio(path)
    assert "\n" not in str(refusal.value)


@needs_ffmpeg
@pytest.mark.parametrize("kept", [0.3, 0.9])
@pytest.mark.parametrize("name", RECORDINGS)
def test_a_truncated_recording_is_refused(name, kept, record):
    path = record(name, *RECORDINGS[name])
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(BadAudio, match="truncated|cannot be decoded|has no sound"):
        read_audio(path)


@needs_ffmpeg
def test_ffmpeg_is_stopped_after_its_time(record, monkeypatch):
    path = record("clip.webm", "-c:a", "libopus")
    monkeypatch.setattr(ffmpeg, "FFMPEG_TIMEOUT_S", 0.001)
    with pytest.raises(BadAudio, match="ffmpeg did not end within 0.001 s"):
        read_audio(path)


@needs_ffmpeg
def test_the_output_of_ffmpeg_is_limited(record, monkeypatch):
    path = record("clip.webm", "-c:a", "libopus")
    monkeypatch.setattr(ffmpeg, "MAX_OUTPUT_BYTES", 50_000)
    with pytest.raises(BadAudio, match="too large: more than 50000 bytes"):
        read_audio(path)


@needs_ffmpeg
@pytest.mark.parametrize("rate", [2000, 384_000])
def test_an_invalid_sample_rate_in_a_container_is_refused(rate, record):
    path = record("clip.mkv", "-c:a", "pcm_s16le", "-ar", str(rate))
    with pytest.raises(BadAudio, match=f"sample rate of {rate} Hz"):
        read_audio(path)


@pytest.mark.parametrize(
    "content", [b"\0\0\0\x1cftypM4A ", b"\x1a\x45\xdf\xa3", b"#!AMR\n"], ids=["m4a", "webm", "amr"]
)
def test_a_missing_ffmpeg_is_refused_with_an_install_command(content, tmp_path, monkeypatch):
    (tmp_path / "clip").write_bytes(content + bytes(100))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingFfmpeg, match="clip: needs ffmpeg on PATH: apt-get install ffmpeg, or brew") as error:
        read_audio(tmp_path / "clip")
    assert not isinstance(error.value, BadAudio)  # a BadAudio would exclude the file from a corpus without a stop
    assert "\n" not in str(error.value)


@needs_ffmpeg
def test_sound_of_an_mp4_is_read_at_its_pitch_and_level(mp4, tone):
    waveform = read_audio(mp4("clip.mp4", tone(1000.0, 2.0, 48_000))).waveform
    assert len(waveform) == pytest.approx(32_000, abs=1100)  # AAC has blocks of 1024 samples
    middle = waveform[8000:24_000]
    assert np.abs(np.fft.rfft(middle * np.hanning(16_000))).argmax() == 1000  # bins of 1 Hz
    assert np.sqrt(np.mean(middle**2)) == pytest.approx(0.5 / np.sqrt(2), rel=0.02)


@needs_ffmpeg
def test_two_channels_of_an_mp4_become_their_mean(mp4, tone):
    both = np.stack([tone(1000.0, 1.0, 48_000), np.zeros(48_000, np.float32)], axis=1)
    middle = read_audio(mp4("clip.mp4", both)).waveform[4000:12_000]
    assert np.sqrt(np.mean(middle**2)) == pytest.approx(0.25 / np.sqrt(2), rel=0.05)


@needs_ffmpeg
def test_a_part_of_an_mp4_is_the_part_of_its_sound(mp4, tone):
    path = mp4("clip.mp4", np.random.default_rng(0).normal(0, 0.1, 32_000), 16_000)
    whole, part = read_audio(path).waveform, read_audio(path, 0.5, 1.25).waveform
    np.testing.assert_array_equal(part, whole[8000:20_000])


@needs_ffmpeg
@pytest.mark.parametrize("name", ["-i.mp4", "http:evil.mp4", "concat:a|b.mp4", "a b'\".mp4", "%03d.mp4"])
def test_a_name_with_special_characters_is_read_as_a_file(name, mp4, tone):
    assert read_audio(mp4(name, tone(440.0, 0.5, 48_000))).duration_s == pytest.approx(0.5, abs=0.05)


@needs_ffmpeg
@pytest.mark.parametrize(
    "content",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nsource.wav\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile source.wav\n",
    ],
)
def test_a_playlist_with_the_suffix_mp4_opens_no_other_file(content, tmp_path, tone):
    soundfile.write(tmp_path / "source.wav", tone(440.0, 1.0), 16_000)
    (tmp_path / "clip.mp4").write_text(content)
    with pytest.raises(BadAudio, match="cannot be decoded"):
        read_audio(tmp_path / "clip.mp4")


@needs_ffmpeg
@pytest.mark.parametrize("options", [(), ("-movflags", "faststart")])
@pytest.mark.parametrize("kept", [0.2, 0.6, 0.95])
def test_a_truncated_mp4_is_refused(kept, options, mp4):
    path = mp4("clip.mp4", np.random.default_rng(0).normal(0, 0.1, 96_000), options=("-c:a", "aac", *options))
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(BadAudio, match="truncated|cannot be decoded|has no sound"):
        read_audio(path)


@needs_ffmpeg
@pytest.mark.parametrize("content", [b"", bytes(1000), b"not a film at all" * 100])
def test_other_content_with_the_suffix_mp4_is_refused(content, tmp_path):
    (tmp_path / "clip.mp4").write_bytes(content)
    with pytest.raises(BadAudio, match="cannot be decoded"):
        read_audio(tmp_path / "clip.mp4")


@needs_ffmpeg
def test_a_video_without_sound_is_refused(tmp_path):
    source = ["-f", "lavfi", "-i", "color=d=1:s=32x32"]
    subprocess.run(["ffmpeg", "-loglevel", "error", *source, "-c:v", "mpeg4", "clip.mp4"], check=True, cwd=tmp_path)
    with pytest.raises(BadAudio, match="has no sound"):
        read_audio(tmp_path / "clip.mp4")


@needs_ffmpeg
def test_a_film_is_too_long_for_an_utterance(mp4, tone):
    path = mp4("clip.mp4", tone(440.0, MAX_CLIP_S + 3, 8000), 8000)
    with pytest.raises(BadAudio, match="s long; at most 120 s"):
        read_audio(path)
    assert read_audio(path, 100.0, 101.0).duration_s == 1.0
