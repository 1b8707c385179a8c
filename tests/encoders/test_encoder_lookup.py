"""Encoders are found by name, identified by the digest of their weights, and read from safetensors only."""

import json
import shutil
from pathlib import Path

import huggingface_hub.constants
import pytest
import torch
from safetensors.torch import load_file, save_file

from ser_platform.encoders import find_encoder, list_local_encoders, register_encoder, resolve_pinned_name, save_encoder
from ser_platform.encoders.encoder import Encoder
from ser_platform.errors import UserError

NAME = "tiny-whisper"


@pytest.fixture
def own(pretrained, tmp_path, monkeypatch) -> Path:
    """A `SER_PRETRAINED` with one encoder that a test may change."""
    root = tmp_path / "mine"
    shutil.copytree(pretrained / NAME, root / NAME)
    monkeypatch.setenv("SER_PRETRAINED", str(root))
    return root


@pytest.fixture
def no_hub(monkeypatch, tmp_path) -> Path:
    """An empty cache of the hub, and no network; returns the cache."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def altered(folder: Path) -> None:
    """Change one weight."""
    weights = load_file(folder / "model.safetensors")
    weights["encoder.conv1.bias"][0] += 1
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def test_an_encoder_is_found_by_the_name_of_its_folder(pretrained):
    encoder = find_encoder(NAME)
    assert (encoder.name, encoder.kind, encoder.n_states, encoder.width) == (NAME, "whisper", 3, 32)
    assert encoder.frame_s == pytest.approx(0.02) and encoder.sample_rate == 16_000


def test_the_same_weights_at_a_path_have_the_same_digest(own, pretrained):
    at_path = find_encoder(str(own / NAME))
    assert at_path.digest == find_encoder(NAME).digest
    assert at_path.name == str(own / NAME)  # absolute: other processes run elsewhere
    assert at_path.label == find_encoder(NAME).label == f"{NAME}@{at_path.pin}"


def test_a_pinned_name_finds_these_weights_only(own, forget, monkeypatch):
    pinned = resolve_pinned_name(NAME)
    assert find_encoder(pinned).pinned_name == pinned
    forget()
    monkeypatch.setenv("SER_PRETRAINED", str(own))
    altered(own / NAME)
    with pytest.raises(UserError, match="have changed: they are .*, requested are .*model.backbone="):
        find_encoder(pinned)
    assert resolve_pinned_name(NAME) != pinned


def test_another_configuration_is_another_encoder(own):
    before = find_encoder(NAME).digest
    path = own / NAME / "preprocessor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"n_fft": 512}))
    assert find_encoder(NAME).digest != before


def test_a_missing_encoder_is_refused_naming_what_is_there(pretrained):
    with pytest.raises(UserError, match="no encoder 'whisper-huge': choose from .*tiny-wav2vec2.*, a path, or a name"):
        find_encoder("whisper-huge")
    assert NAME in list_local_encoders()


def test_without_a_folder_of_encoders_the_variable_is_named(monkeypatch):
    monkeypatch.delenv("SER_PRETRAINED", raising=False)
    with pytest.raises(UserError, match="SER_PRETRAINED is not set"):
        find_encoder("whisper-huge")
    assert list_local_encoders() == []


def test_a_name_in_neither_the_cache_nor_the_hub_is_refused(pretrained, no_hub):
    with pytest.raises(UserError, match="no encoder 'someone/whisper'.*choose from"):
        find_encoder("someone/whisper")


def test_a_name_of_the_hub_is_read_from_its_cache_without_a_network(pretrained, no_hub):
    repository = no_hub / "models--someone--whisper"
    shutil.copytree(pretrained / NAME, repository / "snapshots" / "abc")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")
    found = find_encoder("someone/whisper")
    assert found.digest == find_encoder(NAME).digest
    assert found.pinned_name == f"someone/whisper@{found.pin}" and found.label == f"whisper@{found.pin}"
    assert torch.equal(found.load().body.conv1.bias, find_encoder(NAME).load().body.conv1.bias)


def test_pickled_weights_are_never_read(own):
    weights = own / NAME / "model.safetensors"
    weights.rename(weights.with_name("pytorch_model.bin"))
    with pytest.raises(UserError, match=r"no model.safetensors but pytorch_model.bin, which could run code"):
        find_encoder(NAME)
    assert list_local_encoders() == []


def test_weights_that_lack_a_layer_are_refused_not_drawn_at_random(own):
    path = own / NAME / "model.safetensors"
    weights = {name: value for name, value in load_file(path).items() if "layers.1.fc1" not in name}
    save_file(weights, path, {"format": "pt"})
    with pytest.raises(UserError, match=r"no weights of encoder.layers.1.fc1.*2 in all"):
        find_encoder(NAME).load()


@pytest.mark.parametrize("content", ["{", "[]", "{}"])
def test_a_damaged_configuration_is_refused(own, content):
    (own / NAME / "config.json").write_text(content)
    with pytest.raises(UserError, match=r"config.json"):
        find_encoder(NAME)


@pytest.mark.parametrize("kind", ["bert", "frobnicate"])
@pytest.mark.parametrize("made", ["build_untrained", "load"])
def test_a_model_that_classifies_no_audio_is_refused(own, kind, made):
    path = own / NAME / "config.json"
    path.write_text(json.dumps({"model_type": kind, "hidden_size": 32, "num_hidden_layers": 2}))
    with pytest.raises(UserError, match=f"is a {kind}, which transformers cannot classify audio with"):
        getattr(find_encoder(NAME), made)()


@pytest.mark.parametrize("size", [0, 0.5])
def test_truncated_weights_are_refused_in_one_line(own, size):
    path = own / NAME / "model.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * size)])
    with pytest.raises(UserError, match=r"the weights in .* cannot be read: [^\n]+$"):
        find_encoder(NAME).load()


def test_weights_of_other_sizes_than_described_are_refused_not_drawn_at_random(own):
    path = own / NAME / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "encoder_ffn_dim": 96}))
    with pytest.raises(UserError, match=r"layers.0.fc1.bias is 64, not 96 \(6 such in all\)"):
        find_encoder(NAME).load()


def test_a_size_that_is_no_number_is_refused(own):
    path = own / NAME / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "d_model": "many"}))
    with pytest.raises(UserError, match=r"config.json describes no whisper .*'many'"):
        _ = find_encoder(NAME).width


def test_an_encoder_of_a_bundle_is_found_by_the_processes_that_this_one_starts(own, forget):
    original = find_encoder(NAME)
    brought = Encoder.from_json(original.as_json(), original.body_weights())
    forget()
    with pytest.raises(UserError):
        find_encoder(original.pinned_name)
    register_encoder(brought)
    save_encoder(brought)
    forget()  # another process, the same SER_HOME
    found = find_encoder(original.pinned_name)
    assert torch.equal(found.load().body.conv1.weight, original.load().body.conv1.weight)


def test_a_saved_encoder_that_was_altered_is_not_used(own, forget, tmp_path):
    original = find_encoder(NAME)
    save_encoder(Encoder.from_json(original.as_json(), original.body_weights()))
    forget()
    (path,) = (tmp_path / "ser-home" / "encoders").rglob("encoder.safetensors")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match="no encoder"):
        find_encoder(original.pinned_name)


def test_a_description_alone_has_no_weights_to_train(own, forget):
    original = find_encoder(NAME)
    described = Encoder.from_json(original.as_json(), None)
    assert described.build_untrained().body.conv1.weight.shape == original.load().body.conv1.weight.shape
    with pytest.raises(UserError, match="are not here"):
        described.load()


def test_parameters_are_counted_without_weights(pretrained):
    encoder = find_encoder(NAME)
    assert encoder.n_parameters == sum(p.numel() for p in encoder.load().body.parameters())
