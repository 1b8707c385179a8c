"""Prediction has the same steps as training, for any sample rate and number of channels."""

import shutil
import subprocess

import numpy as np
import pytest
import soundfile
import torch
from scipy.special import softmax

from ser_platform.corpora.audio.reader import Audio
from ser_platform.errors import BadAudio, UserError
from ser_platform.features.views.chunks import average_logits
from ser_platform.inference.audio_files import find_audio_files
from ser_platform.inference.bundle import Bundle, Lineage
from ser_platform.inference.file_prediction import predict_files
from ser_platform.inference.predictor import Predictor
from ser_platform.settings import resolve
from ser_platform.training.loop import Trainer

needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")


def bundle_of(trainer: Trainer, temperature: float = 1.0) -> Bundle:
    return Bundle(
        "student",
        trainer.settings,
        trainer.data.features.view,
        trainer.data.labels,
        trainer.best_state,
        trainer.normaliser,
        temperature,
        "speaker",
        {},
        Lineage(),
    )


@pytest.fixture
def trainer(training_data) -> Trainer:
    settings = resolve(
        {
            "model.name": "bilstm",
            "model.hidden_size": 16,
            "model.subsample": 4,
            "train.epochs": 8,
            "train.batch_size": 8,
            "optimizer.lr": 0.01,
        }
    )
    trainer = Trainer(settings, training_data(settings))
    list(trainer.epochs())
    trainer.restore_best()
    return trainer


def test_a_file_has_the_same_probabilities_as_in_training(trainer, tones):
    clips = trainer.data.dev[:6]
    logits = trainer.logits(clips)
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    predictor = Predictor(bundle_of(trainer))
    for row, utterance in enumerate(tones.take(clips)):
        prediction = predictor.predict_file(utterance.path)
        np.testing.assert_allclose(list(prediction.probabilities.values()), expected[row], atol=1e-5)


def of_speakers(training_data) -> Trainer:
    """Return the trainer of a model that normalises each clip by the statistics of its speaker."""
    settings = resolve(
        {"model.name": "mlp", "features.pool": "mean_std", "features.normalise": "speaker", "train.epochs": 3}
    )
    trainer = Trainer(settings, training_data(settings))
    list(trainer.epochs())
    trainer.restore_best()
    return trainer


def test_the_files_of_one_speaker_have_the_same_probabilities_as_in_training(training_data, tones, monkeypatch):
    monkeypatch.setattr("ser_platform.inference.predictor.MIN_SPEAKER_CLIPS", 2)
    trainer = of_speakers(training_data)
    speakers = np.array(tones.column("speaker"))
    clips = np.flatnonzero(speakers == speakers[trainer.data.dev[0]])
    expected = softmax(trainer.logits(clips), axis=1)
    paths = [utterance.path for utterance in tones.take(clips)]
    predictions, refused = predict_files(Predictor(bundle_of(trainer)), paths, one_speaker=True)
    assert [path for path, _ in predictions] == paths and not refused
    for row, (_, prediction) in enumerate(predictions):
        np.testing.assert_allclose(list(prediction.probabilities.values()), expected[row], atol=1e-4)


def test_one_speaker_is_required_by_models_normalised_by_speaker_only(training_data, trainer, tone, tmp_path):
    paths = [tmp_path / f"{number:02}.wav" for number in range(10)]
    for number, path in enumerate(paths):
        soundfile.write(path, tone(200.0 + 40 * number, 0.8), 16_000)
    noise = tmp_path / "noise.wav"
    noise.write_bytes(b"noise")
    by_speaker, by_clip = (Predictor(bundle_of(each)) for each in (of_speakers(training_data), trainer))
    predictions, refused = predict_files(by_speaker, [*paths, noise], one_speaker=True)
    assert [path for path, _ in predictions] == paths and [bad.path for bad in refused] == [str(noise)]
    with pytest.raises(UserError, match="ser predict --one-speaker"):
        predict_files(by_speaker, paths)
    with pytest.raises(UserError, match="which --one-speaker does not apply to: leave it out"):
        predict_files(by_clip, [noise], one_speaker=True)
    with pytest.raises(UserError, match=r"at least 10 different .*, 9 can be used here; .*noise.wav: cannot"):
        predict_files(by_speaker, [*paths[:9], paths[0], noise], one_speaker=True)


def test_a_prediction_uses_one_thread_and_restores_the_number(trainer, tone, monkeypatch):
    threads = []

    def spy(*arguments):
        threads.append(torch.get_num_threads())
        return average_logits(*arguments)

    monkeypatch.setattr("ser_platform.inference.predictor.average_logits", spy)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        Predictor(bundle_of(trainer)).predict(Audio(tone(300.0, 0.8), 16_000))
        assert (threads, torch.get_num_threads()) == ([1], 2)
    finally:
        torch.set_num_threads(before)


def test_the_emotion_is_the_most_probable_and_probabilities_sum_to_one(trainer, tone):
    prediction = Predictor(bundle_of(trainer)).predict(Audio(tone(300.0, 0.8), 16_000))
    assert prediction.emotion == max(prediction.probabilities, key=prediction.probabilities.__getitem__)
    assert sum(prediction.probabilities.values()) == pytest.approx(1.0, abs=1e-6)
    assert tuple(prediction.probabilities) == ("neutral", "happiness", "anger")


def test_calibration_softens_without_changing_the_emotion(trainer, tone):
    plain, soft = (Predictor(bundle_of(trainer, t)).predict(Audio(tone(600.0, 0.8), 16_000)) for t in (1.0, 4.0))
    assert plain.emotion == soft.emotion
    assert max(soft.probabilities.values()) < max(plain.probabilities.values())


def test_stereo_at_44100_hz_gives_the_emotion_of_mono_at_16_khz(trainer, tone, tmp_path):
    rng = np.random.default_rng(0)
    voice = tone(600.0, 0.8, 44_100, 0.3) + rng.normal(0, 1e-3, 35_280)
    soundfile.write(tmp_path / "stereo.wav", np.stack([voice, voice], axis=1), 44_100)
    soundfile.write(tmp_path / "mono.wav", tone(600.0, 0.8, level=0.3) + rng.normal(0, 1e-3, 12_800), 16_000)
    predictor = Predictor(bundle_of(trainer))
    stereo, mono = (predictor.predict_file(tmp_path / name) for name in ("stereo.wav", "mono.wav"))
    assert stereo.emotion == mono.emotion == "happiness"


@pytest.mark.parametrize("seconds", [0.1, 0.2, 10.0])
def test_very_short_and_long_clips_are_predicted(seconds, trainer, tone):
    assert np.isfinite(Predictor(bundle_of(trainer)).predict_probabilities(Audio(tone(300.0, seconds), 16_000))).all()


def test_a_file_that_is_no_audio_is_refused(trainer, tmp_path):
    (tmp_path / "noise.wav").write_bytes(b"noise")
    with pytest.raises(BadAudio, match="cannot be decoded"):
        Predictor(bundle_of(trainer)).predict_file(tmp_path / "noise.wav")


def test_a_folder_is_replaced_by_the_audio_files_in_it(tmp_path):
    for name in ("b.wav", "a.FLAC", "deep/c.mp3", "notes.txt"):
        (tmp_path / "clips" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "clips" / name).touch()
    (tmp_path / "z.ogg").touch()
    found = find_audio_files([tmp_path / "z.ogg", tmp_path / "clips"])
    assert [path.name for path in found] == ["z.ogg", "a.FLAC", "b.wav", "c.mp3"]


def record_folder(folder, tone) -> None:
    """Write the same tone as a wav, an m4a and a webm."""
    soundfile.write(folder / "a.wav", tone(600.0, 0.8, 48_000), 48_000)
    for name in ("b.m4a", "c.webm"):
        command = ["ffmpeg", "-nostdin", "-loglevel", "error", "-i", "a.wav", name]
        subprocess.run(command, check=True, cwd=folder)


@needs_ffmpeg
def test_a_folder_with_recordings_of_a_phone_and_a_browser_is_predicted_whole(trainer, tone, tmp_path):
    record_folder(tmp_path, tone)
    predictions, refused = predict_files(Predictor(bundle_of(trainer)), find_audio_files([tmp_path]))
    assert [path.name for path, _ in predictions] == ["a.wav", "b.m4a", "c.webm"] and not refused


def test_without_ffmpeg_the_other_files_are_predicted_and_the_message_is_how_to_get_it(
    trainer, tone, tmp_path, monkeypatch
):
    soundfile.write(tmp_path / "a.wav", tone(600.0, 0.8), 16_000)
    (tmp_path / "b.m4a").write_bytes(b"\0\0\0\x1cftypM4A " + bytes(100))
    monkeypatch.setenv("PATH", "")
    predictions, (bad,) = predict_files(Predictor(bundle_of(trainer)), find_audio_files([tmp_path]))
    assert [path.name for path, _ in predictions] == ["a.wav"]
    assert str(bad) == f"{tmp_path / 'b.m4a'}: needs ffmpeg on PATH: apt-get install ffmpeg, or brew install ffmpeg"


@pytest.mark.parametrize(("crop", "expected"), [("head", (0.0, 3.0)), ("centre", (3.5, 6.5))])
def test_a_prediction_has_the_part_of_the_clip_that_it_is_for(crop, expected, training_data, tone):
    settings = resolve({"model.name": "bilstm", "model.hidden_size": 16, "train.epochs": 1, "data.crop": crop})
    trainer = Trainer(settings, training_data(settings))
    list(trainer.epochs())
    trainer.restore_best()
    predictor = Predictor(bundle_of(trainer))
    long, short = (predictor.predict(Audio(tone(300.0, seconds), 16_000)) for seconds in (10.0, 0.5))
    assert long.used_s == pytest.approx(expected, abs=0.03) and long.duration_s == 10.0
    assert short.used_s == pytest.approx((0.0, 0.5), abs=0.03)


def test_a_path_that_does_not_exist_is_refused_by_name(tmp_path):
    with pytest.raises(UserError, match=r"nowhere\.wav: no such file or folder"):
        find_audio_files([tmp_path / "nowhere.wav"])


def test_a_folder_without_audio_is_refused(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(UserError, match=r"contains no audio \(.*.aif, .*.flac, .*.m4a, .*.webm"):
        find_audio_files([tmp_path])
