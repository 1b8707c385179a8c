"""Augmentation follows the settings, changes only the clips' own frames, and nothing with every setting off."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ser_platform.distillation.student_loss import distillation_loss, make_student_loss
from ser_platform.errors import UserError
from ser_platform.models import build_model
from ser_platform.settings import resolve
from ser_platform.training.batches.batch import Batch, make_batch, shuffle_into_batches
from ser_platform.training.batches.batch_augmentation import (
    FILTER_POINTS,
    BatchAugmenter,
    add_noise,
    change_gain,
    crop,
    filter_columns,
    mask_spectra,
    mixup,
    shift_in_time,
    stretch_spectra,
)
from ser_platform.training.configuration import refuse_contradictions
from ser_platform.training.cross_entropy import compute_class_weights, cross_entropy
from ser_platform.training.loop import Trainer, seed_everything

CPU = torch.device("cpu")
WAVEFORM = {"model.name": "lite_cnn", "model.width": 4}
EVERYTHING = {
    "augment.masks": 2,
    "augment.filter": 0.3,
    "augment.mixup": 0.4,
    "augment.crop": 0.6,
    "augment.noise_snr_db": 15,
    "augment.gain_db": 6,
    "augment.time_shift_s": 0.05,
}


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def batch_of_ones(lengths: list[int], n_columns: int = 20, padding: float = 7.0) -> Batch:
    """Return clips of ones; 7 beyond a clip's end shows reads and writes there."""
    features = torch.full((len(lengths), max(lengths), n_columns), padding)
    for row, length in enumerate(lengths):
        features[row, :length] = 1
    return Batch(features, torch.tensor(lengths), torch.arange(len(lengths)) % 3, None)


def counting(lengths: list[int]) -> Batch:
    """Return clips of one column that count 1, 2, 3...; 0 beyond a clip's end."""
    features = torch.zeros(len(lengths), max(lengths), 1)
    for row, length in enumerate(lengths):
        features[row, :length, 0] = torch.arange(1, length + 1)
    return Batch(features, torch.tensor(lengths), torch.arange(len(lengths)) % 3, None)


def own_frames(batch: Batch) -> torch.Tensor:
    return torch.arange(batch.features.shape[1]) < batch.lengths[:, None]


# Filter


def test_a_filter_is_straight_between_its_points_equal_in_every_frame_and_zero_on_padding():
    n_columns = 4 * (FILTER_POINTS - 1) + 1
    batch = batch_of_ones([6, 3], n_columns)
    filtered = filter_columns(batch, 0.5, rng())
    assert torch.equal(filtered.features[1, 3:], batch.features[1, 3:])
    gains = filtered.features - batch.features
    torch.testing.assert_close(gains[0], gains[0, :1].expand(6, -1))
    assert gains.abs().max() <= 0.5
    assert not torch.allclose(gains[0, 0], gains[1, 0]), "each clip has its own"
    bends = gains[0, 0].diff().diff().abs()
    at_points = torch.arange(n_columns - 2) % 4 == 3
    assert bends[~at_points].max() < 1e-5 < bends[at_points].min()


def test_a_single_column_is_raised_or_lowered_as_a_whole():
    filtered = filter_columns(batch_of_ones([4], 1), 0.5, rng())
    assert len(filtered.features[0, :, 0].unique()) == 1


# Everything off


@pytest.mark.parametrize("changes", [{}, WAVEFORM])
def test_with_every_setting_off_the_batch_is_returned(changes):
    batch = batch_of_ones([5, 3])
    assert BatchAugmenter(resolve(changes), 3, CPU)(batch) is batch


def test_settings_for_samples_do_not_change_frame_features():
    batch = batch_of_ones([5, 3])
    settings = resolve({"augment.noise_snr_db": 15, "augment.gain_db": 6, "augment.time_shift_s": 0.1})
    assert BatchAugmenter(settings, 3, CPU)(batch) is batch


@pytest.mark.parametrize("name", ["bilstm", "cnn_bilstm", "lite_cnn"])
def test_training_without_augmentation_is_plain_training_bit_for_bit(name, training_data):
    settings = resolve(
        {"model.name": name, "model.width": 4, "model.hidden_size": 8, "train.epochs": 2, "data.max_seconds": 0.3}
    )
    data = training_data(settings)
    trainer = Trainer(settings, data)
    losses = [result.train_loss for result in trainer.epochs()]

    seed_everything(settings.seed)
    normaliser = data.features.fit_normaliser(data.train)
    model = build_model(settings, data.features.view.n_features, 3)
    weights = compute_class_weights(data.targets[data.train], 3)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=1e-2)
    order, plain = rng(settings.seed), []
    n_steps = 2 * len(shuffle_into_batches(data.train, data.features.lengths, 32, rng()))
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 2e-3, total_steps=max(n_steps + 1, 8), pct_start=0.25, cycle_momentum=False
    )
    for _ in range(2):
        model.train()
        total = torch.zeros(())
        for clips in shuffle_into_batches(data.train, data.features.lengths, 32, order):
            batch = make_batch(data, clips, normaliser)
            optimizer.zero_grad()
            loss = F.cross_entropy(model(batch.features, batch.lengths), batch.targets, weights, label_smoothing=0.1)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()
            schedule.step()
            total += loss.detach() * len(clips)
        plain.append(float(total) / len(data.train))
    assert losses == plain
    for own, same in zip(trainer.model.parameters(), model.parameters(), strict=True):
        assert torch.equal(own, same)


# Everything on


@pytest.mark.parametrize("changes", [{}, WAVEFORM])
def test_the_same_seed_gives_the_same_changes_and_the_input_stays(changes):
    batch = counting([900, 700, 800]) if changes else batch_of_ones([90, 70, 80])
    kept = batch.features.clone()
    one, same, other = (
        BatchAugmenter(resolve(changes | EVERYTHING | {"seed": seed}), 3, CPU)(batch).features for seed in (1, 1, 2)
    )
    assert torch.equal(one, same) and not torch.equal(one, other)
    assert torch.equal(batch.features, kept)


def test_the_next_batch_has_new_random_changes():
    augment, batch = BatchAugmenter(resolve({"augment.masks": 2}), 3, CPU), batch_of_ones([90, 70, 80])
    assert not torch.equal(augment(batch).features, augment(batch).features)


def test_augmentation_changes_no_other_draw(training_data):
    settings = resolve({"model.name": "bilstm", "augment.mixup": 0.3, "augment.masks": 1})
    data = training_data(settings)
    plain, changed = Trainer(resolve({"model.name": "bilstm"}), data), Trainer(settings, data)
    for own, same in zip(plain.model.parameters(), changed.model.parameters(), strict=True):
        assert torch.equal(own, same)
    state = torch.random.get_rng_state()
    BatchAugmenter(resolve(WAVEFORM | EVERYTHING), 3, CPU)(counting([90, 70]))
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize(
    "changes", [{"model.name": "bilstm"}, {"model.name": "cnn_bilstm", "model.width": 4}, WAVEFORM]
)
def test_a_run_with_everything_on_learns(changes, training_data):
    how = {"train.epochs": 6, "train.batch_size": 8, "data.max_seconds": 0.5, "optimizer.lr": 5e-3}
    settings = resolve(changes | how | EVERYTHING | {"distill.alpha": 0.5})
    data = training_data(settings)
    teacher = np.full((len(data.targets), 3), -2, np.float32)
    teacher[np.arange(len(teacher)), data.targets] = 2
    results = list(Trainer(settings, replace(data, teacher_logits=teacher), make_student_loss).epochs())
    assert all(math.isfinite(result.train_loss) for result in results)
    assert results[-1].train_loss < results[0].train_loss


# Masks


@pytest.mark.parametrize("seed", range(10))
def test_time_masks_do_not_change_padding(seed):
    batch = batch_of_ones([40, 80, 25], n_columns=1)
    masked = mask_spectra(batch, 3, rng(seed)).features
    own = own_frames(batch)
    assert set(masked[own].unique().tolist()) <= {0, 1}
    assert set(masked[~own].unique().tolist()) == {7}


def test_masks_stay_small():
    batch = mask_spectra(batch_of_ones([100] * 200), 1, rng())
    in_time = (batch.features == 0).all(dim=2).sum(dim=1)
    in_columns = (batch.features == 0).all(dim=1).sum(dim=1)
    assert in_time.max() == 15 and in_columns.max() == 3
    assert in_time.min() == in_columns.min() == 0


def test_masks_are_up_to_fifteen_percent_of_the_clips_own_length():
    batch = mask_spectra(batch_of_ones([20, 200] * 100, n_columns=1), 1, rng())
    masked = (batch.features == 0).sum(dim=(1, 2))
    assert masked[0::2].max() == 3 and masked[1::2].max() == 30


def test_every_width_and_every_position_is_drawn():
    batch = mask_spectra(batch_of_ones([40] * 3000, n_columns=1), 1, rng())
    zeros = batch.features[:, :, 0] == 0
    share = torch.bincount(zeros.sum(dim=1), minlength=7) / 3000
    assert len(share) == 7 and share.min() > 0.11 and share.max() < 0.18, "widths 0 to 6, 1/7 each"
    ends = zeros[:, 0].float().mean(), zeros[:, -1].float().mean()
    assert all(0 < end < 0.2 for end in ends)


def test_clips_have_different_masks():
    batch = mask_spectra(batch_of_ones([100] * 8), 1, rng())
    assert len({tuple((clip == 0).flatten().tolist()) for clip in batch.features}) > 4


def test_a_waveform_is_masked_in_time_only():
    batch = mask_spectra(batch_of_ones([1000], n_columns=1), 2, rng())
    assert 0 < (batch.features == 0).sum() <= 300


def test_a_clip_of_one_frame_is_not_masked():
    for seed in range(20):
        batch = mask_spectra(batch_of_ones([1, 1], n_columns=20), 8, rng(seed))
        assert (batch.features != 0).any(dim=2).all()


def test_masks_do_not_change_stored_features(training_data):
    settings = resolve({"model.name": "bilstm"})
    data = training_data(settings)
    normaliser = data.features.fit_normaliser(data.train)
    before = make_batch(data, data.train[:4], normaliser)
    mask_spectra(before, 8, rng())
    torch.testing.assert_close(make_batch(data, data.train[:4], normaliser).features, before.features)


# Mixup


class Fixed:
    """A generator that draws these shares and this order."""

    def __init__(self, shares: list[float], partners: list[int]) -> None:
        self.shares, self.partners = np.array(shares), np.array(partners)

    def beta(self, a: float, b: float, size: int) -> np.ndarray:
        return self.shares

    def permutation(self, n: int) -> np.ndarray:
        return self.partners


def test_mixup_equals_values_computed_by_hand():
    batch = Batch(torch.tensor([[[1.0], [2.0]], [[10.0], [0.0]]]), torch.tensor([2, 1]), torch.tensor([0, 2]), None)
    mixed = mixup(batch, 0.3, 3, 1.0, Fixed([0.75, 1.0], [1, 0]))
    torch.testing.assert_close(mixed.features[:, :, 0], torch.tensor([[3.25, 1.5], [10, 0]]))
    torch.testing.assert_close(mixed.targets, torch.tensor([[0.75, 0, 0.25], [0, 0, 1]]))
    assert mixed.lengths.tolist() == [2, 2] and mixed.teacher_logits is None


def test_the_teachers_probabilities_are_mixed_at_the_temperature_of_the_loss():
    teacher = torch.randn(4, 3, generator=torch.Generator().manual_seed(0)) * 5
    batch = replace(batch_of_ones([3] * 4), teacher_logits=teacher)
    shares, partners = [0.2, 0.9, 0.0, 1.0], [2, 0, 3, 1]
    mixed = mixup(batch, 0.3, 3, 4.0, Fixed(shares, partners)).teacher_logits
    share, soft = torch.tensor(shares)[:, None], (teacher / 4).softmax(dim=1)
    torch.testing.assert_close((mixed / 4).softmax(dim=1), share * soft + (1 - share) * soft[partners])


def test_shares_follow_the_beta_distribution():
    batch = batch_of_ones([2] * 6000, n_columns=1)
    for alpha in (0.2, 1.0, 5.0):
        targets = mixup(replace(batch, targets=torch.arange(6000) % 2), alpha, 2, 1.0, rng()).targets
        torch.testing.assert_close(targets.sum(dim=1), torch.ones(6000))
        # Half of the partners are of the same class and show no share; for the others the share is the target.
        own = targets[torch.arange(6000), torch.arange(6000) % 2].double()
        mixed = own[(own < 1 - 1e-6) & (own > 1e-6)] if alpha >= 1 else own[own < 1]
        expected = 1 / (4 * (2 * alpha + 1))
        assert float(mixed.var()) == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("weights", [None, torch.tensor([0.5, 1.0, 3.0])])
def test_one_hot_targets_have_the_loss_of_their_class(smoothing, weights):
    generator = torch.Generator().manual_seed(0)
    logits, targets = torch.randn(16, 3, generator=generator), torch.randint(3, (16,), generator=generator)
    hard = F.cross_entropy(logits, targets, weights, label_smoothing=smoothing)
    assert torch.equal(cross_entropy(logits, targets, weights, smoothing), hard)
    torch.testing.assert_close(cross_entropy(logits, F.one_hot(targets, 3).float(), weights, smoothing), hard)
    soft = distillation_loss(
        logits,
        logits.flip(0),
        F.one_hot(targets, 3).float(),
        temperature=2.0,
        alpha=0.3,
        class_weights=weights,
        label_smoothing=smoothing,
    )
    same = distillation_loss(
        logits, logits.flip(0), targets, temperature=2.0, alpha=0.3, class_weights=weights, label_smoothing=smoothing
    )
    torch.testing.assert_close(soft, same)


def test_the_loss_of_a_mixed_target_is_the_mixture_of_both_losses():
    logits = torch.randn(1, 3, generator=torch.Generator().manual_seed(1))
    first, second = (cross_entropy(logits, torch.tensor([c]), None, 0.0) for c in (0, 2))
    mixed = cross_entropy(logits, torch.tensor([[0.3, 0.0, 0.7]]), None, 0.0)
    torch.testing.assert_close(mixed, 0.3 * first + 0.7 * second)


# Samples


def test_a_crop_keeps_a_contiguous_part_of_every_clip():
    batch = counting([100, 60, 1])
    places, shares = set(), []
    for seed in range(50):
        cropped = crop(batch, 0.5, rng(seed))
        for row, length in enumerate(cropped.lengths.tolist()):
            clip = cropped.features[row, :, 0]
            first = int(clip[0])
            assert clip[:length].tolist() == list(range(first, first + length))
            assert (clip[length:] == 0).all() and first + length - 1 <= batch.lengths[row]
            assert length >= 0.5 * batch.lengths[row]
        places.add(int(cropped.features[0, 0, 0]))
        shares.append(cropped.lengths[0] / 100)
    assert len(places) > 15 and min(shares) < 0.6 and max(shares) > 0.9


def test_a_shift_moves_a_clip_within_its_own_length():
    batch = counting([100, 60])
    shifts = set()
    for seed in range(50):
        moved = shift_in_time(batch, 20, rng(seed))
        assert torch.equal(moved.lengths, batch.lengths)
        for row, length in enumerate([100, 60]):
            clip = moved.features[row, :, 0]
            position = int(clip.nonzero()[0])
            shift = position - int(clip[position]) + 1
            shifts.add(shift)
            expected = [value if 1 <= value <= length else 0 for value in range(1 - shift, length + 1 - shift)]
            assert clip[:length].tolist() == expected and (clip[length:] == 0).all()
    assert min(shifts) < -15 and max(shifts) > 15 and max(map(abs, shifts)) <= 20


def test_no_shift_removes_more_than_half_a_clip():
    moved = shift_in_time(counting([10] * 50), 1000, rng())
    assert ((moved.features != 0).sum(dim=(1, 2)) == 5).all()


def test_gain_is_in_decibels_and_the_same_for_a_whole_clip():
    changed = change_gain(batch_of_ones([50] * 500, n_columns=1), 6.0, rng())
    levels = 20 * torch.log10(changed.features[:, 0, 0])
    assert (changed.features == changed.features[:, :1]).all()
    assert -6 <= levels.min() < -5 and 5 < levels.max() <= 6.0001


def test_noise_has_a_ratio_in_its_range_and_is_zero_on_padding():
    batch = counting([4000, 3000, 2000, 3500])
    noisy = add_noise(batch, 10.0, rng(), torch.Generator().manual_seed(0))
    noise = noisy.features - batch.features
    assert (noise[~own_frames(batch)] == 0).all()
    ratios = 10 * torch.log10(batch.features.square().sum(dim=(1, 2)) / noise.square().sum(dim=(1, 2)))
    assert ((ratios > 9.99) & (ratios < 25.01)).all() and len(set(ratios.tolist())) == 4


def test_a_clip_of_zeros_stays_finite():
    batch = replace(counting([10, 10]), features=torch.zeros(2, 10, 1))
    assert torch.isfinite(add_noise(batch, 10.0, rng(), torch.Generator()).features).all()
    assert torch.isfinite(BatchAugmenter(resolve(WAVEFORM | EVERYTHING), 3, CPU)(batch).features).all()


def spectra(lengths: list[int], n_columns: int = 16) -> Batch:
    """Return clips whose values rise by 1 per frame and 0.1 per column; 0 beyond a clip's end."""
    frames = torch.arange(max(lengths), dtype=torch.float32)[None, :, None].expand(len(lengths), -1, n_columns)
    features = frames + torch.arange(n_columns) / 10
    counts = torch.tensor(lengths)
    own = torch.arange(max(lengths)) < counts[:, None]
    return Batch(features * own[:, :, None], counts, torch.zeros(len(lengths), dtype=torch.int64), None)


def test_a_stretched_ramp_is_a_ramp_of_another_slope():
    batch = spectra([40, 25, 1])
    found = stretch_spectra(batch, 0.3, rng())
    draws = rng()
    tempo, tract = draws.uniform(0.7, 1.3, 3), draws.uniform(0.85, 1.15, 3)
    assert found.lengths.tolist() == [round(40 * tempo[0]), round(25 * tempo[1]), 1]
    for row, length in enumerate(found.lengths.tolist()):
        frames = (torch.arange(length) / tempo[row]).clamp_max(batch.lengths[row] - 1)
        columns = (torch.arange(16) / tract[row]).clamp_max(15) / 10
        expected = (frames[:, None] + columns).float()
        torch.testing.assert_close(found.features[row, :length], expected, rtol=1e-4, atol=1e-3)
        assert not found.features[row, length:].any()


def test_stretching_does_not_change_its_input():
    batch = spectra([12, 9])
    before = batch.features.clone()
    stretch_spectra(batch, 0.5, rng())
    torch.testing.assert_close(batch.features, before)


def test_only_one_spectrum_can_be_stretched():
    with pytest.raises(UserError, match="augment.stretch needs features.sets log_mel; got log_mel zcr"):
        refuse_contradictions(
            resolve({"model.name": "bilstm", "augment.stretch": 0.1, "features.sets": ("log_mel", "zcr")})
        )
