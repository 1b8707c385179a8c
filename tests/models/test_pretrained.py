"""Classifiers on a pretrained encoder: input, trained parameters, learning rates."""

import builtins
import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ser_platform.corpora.manifest import Manifest
from ser_platform.corpora.splits.split import Split
from ser_platform.encoders import find_encoder
from ser_platform.errors import MissingExtra, UserError
from ser_platform.features.store.feature_store import prepare_features
from ser_platform.features.views.viewed_clips import StoredViewedClips
from ser_platform.models import build_model, count_parameters
from ser_platform.models.pretrained import Pretrained, select_states
from ser_platform.settings import Settings, resolve
from ser_platform.training.batches.batch import TrainingData, make_batch
from ser_platform.training.configuration import count_prediction_parameters, feature_view, pin_settings, takes_waveform
from ser_platform.training.loop import Trainer
from ser_platform.tuning.execution.fit_job import TrialData

pytestmark = pytest.mark.usefixtures("pretrained")

N_EMOTIONS = 3
LENGTHS = (9_000, 1_600, 5_321)
TUNINGS = ("top", "full", "lora")
KINDS = ("tiny-whisper", "tiny-wav2vec2", "tiny-wavlm-layered")


def settings_of(tuning: str = "frozen", backbone: str = "tiny-whisper", **model: object) -> Settings:
    chosen = {"model.name": "pretrained", "model.backbone": backbone, "model.tuning": tuning, "model.tuned_layers": 1}
    return pin_settings(resolve({**chosen, "model.head_size": 8, **{f"model.{name}": v for name, v in model.items()}}))


def built(settings: Settings, seed: int = 0, **how: bool) -> Pretrained:
    torch.manual_seed(seed)
    model = build_model(settings, feature_view(settings).n_features, N_EMOTIONS, **how)
    assert isinstance(model, Pretrained)
    return model


def batch(settings: Settings) -> tuple[Tensor, Tensor]:
    """Return the padded input of three clips and their lengths."""
    generator = torch.Generator().manual_seed(0)
    if takes_waveform(settings):
        lengths = torch.tensor(LENGTHS)
    else:
        lengths = torch.tensor([9, 1, 5] if settings.model.pooling == "attention" else [1, 1, 1])
    features = torch.randn(3, int(lengths.max()), feature_view(settings).n_features, generator=generator)
    for row, length in enumerate(lengths.tolist()):
        features[row, length:] = 0
    return features, lengths


EVERY = [("frozen", "statistics"), ("frozen", "attention"), ("full", "statistics"), ("full", "attention")]


@pytest.mark.parametrize(("tuning", "pooling"), EVERY)
def test_padding_changes_no_logit(tuning, pooling):
    settings = settings_of(tuning, pooling=pooling)
    model, (features, lengths) = built(settings).eval(), batch(settings)
    with torch.inference_mode():
        together = model(features, lengths)
        for row, length in enumerate(lengths.tolist()):
            alone = model(features[row : row + 1, :length], lengths[row : row + 1])
            torch.testing.assert_close(alone[0], together[row], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("backbone", KINDS)
@pytest.mark.parametrize("tuning", ["frozen", *TUNINGS])
def test_gradient_reaches_every_trained_parameter(tuning, backbone):
    settings = settings_of(tuning, backbone, pooling="attention", dropout=0.0)
    model, inputs = built(settings).train(), batch(settings)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += 0.05 * torch.randn_like(parameter)  # adapters begin with zeros, which stop gradients
    nn.functional.cross_entropy(model(*inputs), torch.tensor([0, 1, 2])).backward()
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    still = {name for name, p in trained.items() if p.grad is None or not p.grad.abs().sum() > 0}
    # A key's bias adds the same to all scores of a query, which softmax takes away again.
    assert {name for name in still if "k_proj.bias" not in name} == set()
    assert all(p.grad is None for name, p in model.named_parameters() if name not in trained)


def test_a_frozen_encoder_is_not_in_the_model_but_counts_in_its_size():
    settings = settings_of("frozen")
    model = built(settings)
    assert model.encoder is None and feature_view(settings).sets == (f"{settings.model.backbone}.statistics",)
    n_head = sum(parameter.numel() for parameter in model.parameters())
    assert count_parameters(settings, feature_view(settings).n_features, N_EMOTIONS) == n_head
    assert count_prediction_parameters(settings, N_EMOTIONS) == n_head + find_encoder("tiny-whisper").n_parameters


@pytest.mark.parametrize("tuning", TUNINGS)
def test_the_input_of_a_tuned_encoder_is_samples_without_normalisation(tuning):
    view = feature_view(settings_of(tuning))
    assert (view.sets, view.normalise) == (("waveform",), "none")
    by_utterance = settings_of(tuning).with_overrides({"features.normalise": "utterance"})
    assert feature_view(by_utterance).normalise == "utterance"


@pytest.mark.parametrize("tuning", TUNINGS)
def test_tuning_begins_with_the_pretrained_weights(tuning):
    settings = settings_of(tuning, dropout=0.0)
    samples, lengths = batch(settings)
    with torch.inference_mode():
        states, _ = built(settings).eval().encoder(samples[:, :, 0], lengths)
        expected, _ = find_encoder("tiny-whisper").load()(samples[:, :, 0], lengths)
    torch.testing.assert_close(states, expected)


def test_the_settings_select_the_trained_parameters():
    def trained(tuning: str, **model: object) -> set[str]:
        named = built(settings_of(tuning, **model)).named_parameters()
        return {name.removeprefix("encoder.body.") for name, p in named if p.requires_grad and "encoder" in name}

    top, full, lora = (trained(tuning) for tuning in TUNINGS)
    assert top and all(name.startswith(("layers.1.", "layer_norm.")) for name in top)
    assert {"conv1.weight", "layers.0.fc1.weight", "layers.1.fc1.weight", "layer_norm.weight"} <= full
    assert "embed_positions.weight" not in full  # constant sinusoids
    assert lora and all("lora_" in name and name.startswith("layers.") for name in lora)
    assert len(trained("top", tuned_layers=2)) > len(top)


def test_more_tuned_layers_than_layers_are_refused():
    with pytest.raises(UserError, match="model.tuned_layers 3: tiny-whisper has 2 layers; set model.tuning to full"):
        built(settings_of("top", tuned_layers=3))


@pytest.mark.parametrize("tuning", TUNINGS)
def test_untrained_modules_stay_in_evaluation_mode(tuning):
    model = built(settings_of(tuning, "tiny-wav2vec2"))
    model.train()
    body = model.encoder.body
    modes = {"front": body.feature_projection.training, "first": body.encoder.layers[0].training}
    modes["last"] = body.encoder.layers[1].training
    expected = {
        "top": {"front": False, "first": False, "last": True},
        "full": {"front": True, "first": True, "last": True},
        "lora": {"front": False, "first": True, "last": True},
    }
    assert modes == expected[tuning] and model.head.training
    model.eval()
    assert not any(module.training for module in model.modules())


@pytest.mark.parametrize("tuning", ["frozen", *TUNINGS])
def test_every_trained_parameter_is_in_one_group(tuning):
    model = built(settings := settings_of(tuning))
    grouped = [id(parameter) for group in model.parameter_groups(settings) for parameter in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in model.parameters() if p.requires_grad)


def test_lower_layers_have_lower_rates_and_biases_no_decay():
    settings = settings_of("full").with_overrides(
        {"optimizer.lr": 1e-2, "optimizer.backbone_lr": 0.1, "optimizer.layer_decay": 0.5}
    )
    model = built(settings)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    rates, decays = {}, {}
    for group in model.parameter_groups(settings):
        for parameter in group["params"]:
            rates[names[id(parameter)]], decays[names[id(parameter)]] = group["lr"], group["weight_decay"]
    body = "encoder.body."
    assert rates["head.classifier.1.weight"] == 1e-2
    assert rates[f"{body}layer_norm.weight"] == rates[f"{body}layers.1.fc1.weight"] == pytest.approx(1e-3)
    assert rates[f"{body}layers.0.fc1.weight"] == pytest.approx(5e-4)
    assert rates[f"{body}conv1.weight"] == pytest.approx(2.5e-4)
    assert decays[f"{body}layers.0.fc1.weight"] == settings.optimizer.weight_decay
    assert decays[f"{body}layers.0.fc1.bias"] == decays[f"{body}layer_norm.weight"] == decays["head.hidden.1.bias"] == 0


@pytest.mark.parametrize("pooling", ["statistics", "attention"])
@pytest.mark.parametrize("tuning", TUNINGS)
def test_a_tuned_encoder_begins_with_the_logits_of_a_frozen_encoder(tuning, pooling, few):
    """With the same classifier both have the same logits, because states and scale are the same."""
    how = {"states": "all", "pooling": pooling}
    chosen = {"data.max_seconds": 2.0}
    tuned, frozen = (few(settings_of(name, **how).with_overrides(chosen)) for name in (tuning, "frozen"))
    frozen.model.head.load_state_dict(tuned.model.head.state_dict())
    clips = tuned.data.train
    np.testing.assert_allclose(tuned.logits(clips), frozen.logits(clips), atol=2e-3)


@pytest.mark.parametrize(("tuning", "n_taken"), [("frozen", 7), ("full", 8)])
def test_middle_states_exclude_the_first_and_for_frozen_encoders_the_last(tuning, n_taken):
    assert len(select_states("middle", 9, tuning)) == n_taken and select_states("middle", 9, tuning)[0] == 1
    assert list(select_states("all", 9, tuning)) == list(range(9))


def test_unselected_states_change_no_logit():
    settings = settings_of("frozen", states="middle")
    model, (features, lengths) = built(settings).eval(), batch(settings)
    (taken,) = select_states("middle", 3, "frozen")
    by_state = features.unflatten(2, (4, 3, 32)).clone()
    others = [state for state in range(3) if state != taken]
    by_state[:, :, :, others] = 7.0
    assert torch.equal(model(by_state.flatten(2), lengths), model(features, lengths))
    by_state[:, :, :, taken] = 7.0
    assert not torch.equal(model(by_state.flatten(2), lengths), model(features, lengths))


def test_weighted_states_begin_with_equal_weights():
    settings = settings_of("frozen", states="all", mixing="weighted")
    model, (features, lengths) = built(settings).eval(), batch(settings)
    same = features.unflatten(2, (4, 3, 32)).mean(dim=3, keepdim=True).expand(-1, -1, -1, 3, -1).flatten(2)
    torch.testing.assert_close(model(same, lengths), model(features, lengths))
    assert model.head.mix.shape == (3,)


@pytest.fixture
def two_languages(tones) -> Manifest:
    """The tone corpus with a second language for half of the speakers."""
    first = sorted(set(tones.column("speaker")))[:3]
    return tones.with_column("language", ["en" if speaker in first else "de" for speaker in tones.column("speaker")])


def adversarial(manifest: Manifest, weight: float) -> tuple[Trainer, float]:
    """Train with an adversary; return the trainer and the adversary's accuracy on the training clips."""
    settings = settings_of("frozen", adversary=weight, dropout=0.0, states="all", head_size=32).with_overrides(
        {"train.epochs": 40, "train.batch_size": 9, "optimizer.lr": 5e-3, "optimizer.schedule": "constant"}
    )
    prepare_features(manifest, feature_view(settings).required_families)
    everything = np.arange(len(manifest))
    split = Split(manifest, everything, dev=everything[:0], test=everything[:0], seed=0)
    data = TrialData.from_split(split, manifest.labels).make_training_data(settings)
    trainer = Trainer(settings, data)
    list(trainer.epochs())
    model = trainer.model.train()
    batch = make_batch(data, everything, trainer.normaliser)
    output = model.compute_output(batch.features, batch.lengths)
    is_correct = output.language_logits.argmax(dim=1) == batch.languages
    return trainer, float(is_correct.float().mean())


def test_an_adversary_without_reversal_learns_the_languages(two_languages):
    assert adversarial(two_languages, 1e-6)[1] > 0.8


def test_an_adversary_with_reversal_removes_the_language_from_embeddings(two_languages):
    assert adversarial(two_languages, 1.0)[1] < 0.7


def test_a_model_with_an_adversary_predicts_without_languages(two_languages):
    trainer, _ = adversarial(two_languages, 0.5)
    assert trainer.logits(np.arange(4)).shape == (4, N_EMOTIONS)
    batch = make_batch(trainer.data, np.arange(4), trainer.normaliser)
    assert trainer.model.compute_output(batch.features, batch.lengths).language_logits is None


def test_an_adversary_refuses_a_single_language(tones):
    with pytest.raises(UserError, match="2 to 16 languages; these are of 1"):
        adversarial(tones, 1.0)


def test_an_adversary_refuses_unknown_languages(tones):
    with pytest.raises(UserError, match="the corpus does not contain"):
        adversarial(tones.with_column("language", [None] * len(tones)), 1.0)


def test_other_models_have_one_group():
    settings = resolve({"model.name": "bilstm"})
    model = build_model(settings, 5, N_EMOTIONS)
    (group,) = model.parameter_groups(settings)
    assert group["lr"] == settings.optimizer.lr and len(group["params"]) == len(list(model.parameters()))


@pytest.mark.parametrize("backbone", KINDS)
def test_recomputed_activations_change_no_gradient(backbone):
    gradients = []
    for checkpointing in (False, True):
        settings = settings_of("full", backbone, dropout=0.0, checkpointing=checkpointing)
        model = built(settings)
        model.encoder.body.config.update({"attention_dropout": 0.0})
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
            if hasattr(module, "dropout") and isinstance(module.dropout, float):
                module.dropout = 0.0
        model.train()(*batch(settings)).square().sum().backward()
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, atol=1e-6, rtol=1e-4)


def test_adapters_are_merged_for_prediction(monkeypatch):
    settings = settings_of("lora")
    model, inputs = built(settings).eval(), batch(settings)
    before = model(*inputs)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += 0.2 * torch.randn_like(parameter)
    assert not torch.allclose(model(*inputs), before, atol=1e-2)
    without_peft(monkeypatch)
    used = built(settings, load_weights=False).eval()
    used.load_state_dict(model.state_dict())
    assert not any("lora" in name for name, _ in used.named_parameters())
    torch.testing.assert_close(used(*inputs), model(*inputs), atol=1e-5, rtol=1e-4)


def without_peft(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let imports of peft fail."""
    real = builtins.__import__

    def importing(name: str, *rest: object) -> object:
        if name == "peft":
            raise ModuleNotFoundError("No module named 'peft'", name="peft")
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", importing)


def test_adapters_cannot_be_trained_without_peft(monkeypatch):
    without_peft(monkeypatch)
    with pytest.raises(MissingExtra, match=r"peft is not installed; run: .*-m pip install 'ser-platform\[lora\]'"):
        built(settings_of("lora"))


@pytest.fixture
def few(split):
    """Return a function from settings to a trainer on ten clips, which are train and dev clips."""

    def data(settings: Settings) -> Trainer:
        manifest, rows = split.manifest, split.train[:10]
        prepare_features(manifest, feature_view(settings).required_families)
        features = StoredViewedClips(feature_view(settings), tuple(manifest.column("audio_sha256")))
        whole = TrainingData(features, manifest.encode_targets(manifest.labels), manifest.labels, rows, rows)
        return Trainer(settings, whole)

    return data


@pytest.mark.parametrize(("tuning", "backbone"), [("frozen", "tiny-wavlm"), *((how, KINDS[0]) for how in TUNINGS)])
def test_training_lowers_the_loss_and_changes_only_trained_parameters(tuning, backbone, few):
    settings = settings_of(tuning, backbone, dropout=0.0).with_overrides(
        {
            **{"train.epochs": 12, "train.patience": 12, "train.batch_size": 5, "train.label_smoothing": 0.0},
            **{"optimizer.lr": 1e-2, "optimizer.backbone_lr": 0.2, "data.max_seconds": 0.5},
        }
    )
    trainer = few(settings)
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    trained = {name for name, parameter in trainer.model.named_parameters() if parameter.requires_grad}
    losses = [result.train_loss for result in trainer.epochs()]
    moved = {name for name, value in trainer.model.state_dict().items() if not torch.equal(value, before[name])}
    assert losses[-1] < 0.8 * losses[0] and math.isfinite(losses[-1])
    assert moved <= trained
    assert {name for name in trained - moved if "k_proj" not in name} == set()


def test_predictions_equal_the_trainers_logits(few):
    settings = settings_of("full").with_overrides({"train.epochs": 2, "train.batch_size": 5, "optimizer.lr": 1e-3})
    trainer = few(settings)
    list(trainer.epochs())
    trainer.restore_best()
    used = built(settings, load_weights=False).eval()
    used.load_state_dict(trainer.best_state)
    clips = trainer.data.train[:3]
    features, lengths = trainer.data.features.batch(clips, trainer.normaliser)
    with torch.inference_mode():
        logits = used(torch.from_numpy(features), torch.from_numpy(lengths))
    np.testing.assert_allclose(logits, trainer.logits(clips), atol=1e-5)
