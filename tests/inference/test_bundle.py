"""A bundle is read as it was written, or refused."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForAudioClassification

from ser_platform.corpora.audio.reader import Audio
from ser_platform.errors import BundleError, UserError
from ser_platform.features.views.normaliser import Normaliser
from ser_platform.features.views.view import FeatureView
from ser_platform.inference.bundle import BUNDLE_FILES, DIGESTS_FILE, ENCODER_FILE, Bundle, Lineage, read_bundle
from ser_platform.inference.predictor import Predictor
from ser_platform.models import MODELS, NEURAL, build_model
from ser_platform.settings import resolve
from ser_platform.training.configuration import feature_view, pin_settings

LABELS = ("neutral", "anger", "sadness")


def made_bundle(name: str = "bilstm") -> Bundle:
    torch.manual_seed(0)
    settings = resolve({"model.name": name, "model.hidden_size": 8, "model.width": 4})
    view = FeatureView(("waveform",) if MODELS[name].takes_waveform else ("log_mel", "rms"), 20, 0.8, "centre")
    rng = np.random.default_rng(0)
    normaliser = Normaliser(
        rng.normal(size=view.n_features).astype(np.float32), rng.uniform(1, 2, view.n_features).astype(np.float32)
    )
    return Bundle(
        role="student",
        settings=settings,
        view=view,
        labels=LABELS,
        state=build_model(settings, view.n_features, len(LABELS)).state_dict(),
        normaliser=normaliser,
        temperature=1.3,
        protocol="speaker",
        metrics={"dev_uar": 0.5},
        lineage=Lineage(("made-1",), ("ab",), ("made-2",), ("cd",)),
        provenance={"corpus": "made"},
    )


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path / "bundle"


@pytest.mark.parametrize("name", NEURAL)
def test_a_bundle_that_is_read_predicts_the_same_probabilities(name, folder, tone):
    written = made_bundle(name)
    read = read_bundle(folder, written.write(folder, "card"))
    clip = Audio(tone(300.0, 1.0), 16_000)
    np.testing.assert_array_equal(
        Predictor(read).predict_probabilities(clip), Predictor(written).predict_probabilities(clip)
    )


def test_every_field_is_read_as_it_was_written(folder):
    written = made_bundle()
    written.write(folder, "card")
    read = read_bundle(folder)
    for name in ("role", "settings", "view", "labels", "temperature", "protocol", "metrics", "lineage", "provenance"):
        assert getattr(read, name) == getattr(written, name)
    assert read.state.keys() == written.state.keys()


def test_a_bundle_is_five_plain_files(folder):
    made_bundle().write(folder, "card")
    names = {"MANIFEST.sha256", "README.md", "bundle.json", "model.safetensors", "normaliser.safetensors"}
    assert {path.name for path in folder.iterdir()} == names
    for path in folder.iterdir():
        content = path.read_bytes()
        assert not content.startswith((b"\x80", b"PK"))  # pickle, and the zip that torch.save wraps around one


def test_the_same_bundle_has_the_same_digest(tmp_path):
    assert made_bundle().write(tmp_path / "a", "card") == made_bundle().write(tmp_path / "b", "card")


@pytest.mark.parametrize("name", BUNDLE_FILES)
def test_a_flipped_byte_is_refused_and_its_file_named(name, folder):
    made_bundle().write(folder, "card")
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(BundleError, match=f"{name} was altered"):
        read_bundle(folder)


@pytest.mark.parametrize("position", [0, 40, 70])
def test_a_flipped_byte_in_the_manifest_is_refused(position, folder):
    digest = made_bundle().write(folder, "card")
    content = bytearray((folder / "MANIFEST.sha256").read_bytes())
    content[position] ^= 1
    (folder / "MANIFEST.sha256").write_bytes(content)
    with pytest.raises(BundleError):
        read_bundle(folder)
    with pytest.raises(BundleError, match="MANIFEST.sha256 was altered"):
        read_bundle(folder, digest)


def test_a_bundle_whose_manifest_was_rewritten_too_is_refused_when_the_digest_is_known(folder):
    registered = made_bundle().write(folder, "card")
    replace(made_bundle(), temperature=9.0).write(folder, "card")
    read_bundle(folder)  # it is consistent
    with pytest.raises(BundleError, match="MANIFEST.sha256 was altered"):
        read_bundle(folder, registered)


@pytest.mark.parametrize("name", [*BUNDLE_FILES, "MANIFEST.sha256"])
def test_a_missing_file_is_refused_by_name(name, folder):
    made_bundle().write(folder, "card")
    (folder / name).unlink()
    with pytest.raises(BundleError, match=f"{name} cannot be read"):
        read_bundle(folder)


def test_a_manifest_that_leaves_out_a_file_is_refused(folder):
    made_bundle().write(folder, "card")
    manifest = folder / "MANIFEST.sha256"
    manifest.write_text("".join(manifest.read_text().splitlines(keepends=True)[1:]))
    with pytest.raises(BundleError, match="README.md"):
        read_bundle(folder)


def with_description(folder: Path, **changes: object) -> None:
    """Write a consistent bundle with `changes` in its description."""
    import hashlib

    made_bundle().write(folder, "card")
    described = json.loads((folder / "bundle.json").read_text()) | changes
    (folder / "bundle.json").write_text(json.dumps(described))
    lines = [f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in BUNDLE_FILES]
    (folder / "MANIFEST.sha256").write_text("".join(lines))


def test_another_format_is_refused(folder):
    with_description(folder, format=99)
    with pytest.raises(BundleError, match="format 99"):
        read_bundle(folder)


def test_an_unknown_architecture_is_refused_with_the_valid_ones(folder):
    with_description(folder, architecture="resnet")
    with pytest.raises(BundleError, match="'resnet'.*cnn_bilstm, lite_cnn"):
        read_bundle(folder)


def test_the_lineage_of_a_descendant_contains_both_parents_once():
    teacher = Lineage(("a", "b"), ("1",), ("c",), ("2",))
    student = Lineage(("b", "d"), ("1", "3"), (), ("4",))
    assert teacher.union(student) == Lineage(("a", "b", "d"), ("1", "3"), ("c",), ("2", "4"))


def test_the_model_is_in_evaluation_mode():
    assert not made_bundle().load_model().training


TINY = "tiny-whisper"


def bundle_of_encoder(**model: object) -> Bundle:
    """Return the bundle of a classifier on the tiny encoder."""
    torch.manual_seed(0)
    chosen = {"model.name": "pretrained", "model.backbone": TINY, "model.tuned_layers": 1, "model.head_size": 8}
    settings = pin_settings(resolve(chosen | {f"model.{name}": value for name, value in model.items()}))
    view = feature_view(settings)
    normaliser = Normaliser(np.zeros(view.n_features, np.float32), np.full(view.n_features, 0.5, np.float32))
    state = build_model(settings, view.n_features, len(LABELS)).state_dict()
    return replace(made_bundle(), settings=settings, view=view, normaliser=normaliser, state=state)


FROZEN = ({"classifier": "ridge"}, {"pooling": "attention"}, {"adversary": 0.5})
TUNED = ({"tuning": "top"}, {"tuning": "full"}, {"tuning": "lora"})


@pytest.mark.parametrize("model", [*FROZEN, *TUNED], ids=str)
def test_a_pretrained_model_predicts_where_there_is_no_encoder(model, folder, pretrained, forget, tone):
    written, clip = bundle_of_encoder(**model), Audio(tone(300.0, 1.0), 16_000)
    probabilities = Predictor(written).predict_probabilities(clip)
    digest = written.write(folder, "card")
    forget()
    np.testing.assert_allclose(
        Predictor(read_bundle(folder, digest)).predict_probabilities(clip), probabilities, atol=1e-6
    )


def test_a_bundle_that_was_read_without_a_local_encoder_is_written_with_it(tmp_path, pretrained, forget):
    digest = bundle_of_encoder().write(tmp_path / "first", "card")
    forget()
    assert read_bundle(tmp_path / "first").write(tmp_path / "second", "card") == digest


def test_a_frozen_encoder_is_kept_in_the_dtype_it_was_published_in(folder, pretrained, tmp_path, monkeypatch):
    model = AutoModelForAudioClassification.from_pretrained(pretrained / TINY).half()
    model.save_pretrained(tmp_path / "halves" / TINY)
    monkeypatch.setenv("SER_PRETRAINED", str(tmp_path / "halves"))
    bundle_of_encoder().write(folder, "card")
    assert {str(value.dtype) for value in load_file(folder / ENCODER_FILE).values()} == {"torch.float16"}


def test_a_bundle_has_five_files_and_a_sixth_with_a_frozen_encoder(tmp_path, pretrained):
    bundle_of_encoder().write(tmp_path / "frozen", "card")
    bundle_of_encoder(tuning="full").write(tmp_path / "tuned", "card")
    names = {part: {path.name for path in (tmp_path / part).iterdir()} for part in ("frozen", "tuned")}
    assert names["tuned"] == {DIGESTS_FILE, *BUNDLE_FILES} and names["frozen"] == {
        DIGESTS_FILE,
        ENCODER_FILE,
        *BUNDLE_FILES,
    }


def test_an_altered_encoder_is_refused(folder, pretrained):
    bundle_of_encoder().write(folder, "card")
    content = bytearray((folder / ENCODER_FILE).read_bytes())
    content[-1] ^= 1
    (folder / ENCODER_FILE).write_bytes(content)
    with pytest.raises(BundleError, match=f"{ENCODER_FILE} was altered"):
        read_bundle(folder)


def test_a_missing_encoder_file_is_refused(folder, pretrained):
    bundle_of_encoder().write(folder, "card")
    (folder / ENCODER_FILE).unlink()
    with pytest.raises(BundleError, match=f"{ENCODER_FILE} cannot be read"):
        read_bundle(folder)


def test_the_weights_of_a_tuned_encoder_cannot_initialise_another_model(folder, pretrained, forget):
    written = bundle_of_encoder(tuning="full")
    written.write(folder, "card")
    forget()
    read_bundle(folder).load_model()
    with pytest.raises(UserError, match="are not here"):
        build_model(written.settings, written.view.n_features, len(LABELS))


def test_reading_a_tuned_model_does_not_hide_an_encoder_in_the_folder(folder, pretrained, forget, monkeypatch):
    written = bundle_of_encoder(tuning="full")
    written.write(folder, "card")
    forget()
    read_bundle(folder).load_model()
    monkeypatch.setenv("SER_PRETRAINED", str(pretrained))
    build_model(written.settings, written.view.n_features, len(LABELS))
