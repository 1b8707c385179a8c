"""The sound of an mp4 is decoded with ffmpeg, which reads no other file."""

import shutil
import subprocess

import numpy as np
import pytest
import soundfile

from ser_platform.corpora.audio.reader import MAX_CLIP_S, read_audio
from ser_platform.errors import BadAudio, UserError

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


def test_a_missing_ffmpeg_is_refused_with_an_install_command(tmp_path, monkeypatch):
    (tmp_path / "dia0_utt0.mp4").touch()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="need ffmpeg on PATH: apt-get install ffmpeg, or brew") as error:
        read_audio(tmp_path / "dia0_utt0.mp4")
    assert not isinstance(
        error.value, BadAudio
    )  # a UserError stops the command; a BadAudio would only exclude the file
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
