"""Recipes and copies: copies are reproducible, and only training clips are copied."""

import hashlib
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from ser_platform.corpora.audio.reader import Audio
from ser_platform.corpora.manifest import Manifest
from ser_platform.corpora.splits.protocols import make_splits
from ser_platform.corpora.splits.split import ALL_LEAKS, Split
from ser_platform.errors import BadAudio, CorpusError
from ser_platform.features.augmentation.augmentation_plan import plan_copies
from ser_platform.features.augmentation.channels import BandLimit
from ser_platform.features.augmentation.recipes import RECIPES, Recipe, compute_copy_digest
from ser_platform.tuning.search_space.registered_names import REGISTRIES
from tests.features.augmentation.signals import DIGEST, RATE, db, energy, hanning, speechlike


def test_the_choices_of_the_setting_are_the_recipes():
    assert REGISTRIES["augment.recipe"] == tuple(RECIPES)


def test_a_copy_depends_on_clip_recipe_and_number_only():
    audio = Audio(speechlike(), RATE, DIGEST)
    recipe = RECIPES["broad"]
    forwards = [recipe.make_copy(audio, index) for index in range(1, 8)]
    backwards = [recipe.make_copy(audio, index) for index in range(7, 0, -1)][::-1]
    for one, other in zip(forwards, backwards, strict=True):
        np.testing.assert_array_equal(one.samples, other.samples)
    assert len({copy.samples.tobytes() for copy in forwards}) == 7


def test_another_process_makes_the_same_copy():
    code = (
        "import hashlib, numpy as np, torch\n"
        "from ser_platform.corpora.audio.reader import Audio\n"
        "from ser_platform.features.augmentation.recipes import RECIPES\n"
        "torch.set_num_threads(1)\n"
        "t = np.arange(8000) / 16000\n"
        f"audio = Audio(np.sin(2764 * t).astype(np.float32), 16000, {DIGEST!r})\n"
        "print(hashlib.sha256(RECIPES['fourfold'].make_copy(audio, 2).samples.tobytes()).hexdigest())\n"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout.strip()
    audio = Audio(np.sin(2764 * np.arange(8000) / 16000).astype(np.float32), RATE, DIGEST)
    assert printed == hashlib.sha256(RECIPES["fourfold"].make_copy(audio, 2).samples.tobytes()).hexdigest()


def test_the_fourfold_expansion_is_noise_speed_and_pre_emphasis():
    recipe, audio = RECIPES["fourfold"], Audio(speechlike(), RATE, DIGEST)
    noisy, fast, lifted = (recipe.make_copy(audio, index).samples for index in (1, 2, 3))
    assert 14.9 < db(energy(audio.samples) / energy(noisy - audio.samples)) < 30.1
    assert len(fast) in {-(-24_000 * 10 // 9), -(-24_000 * 10 // 11)}
    np.testing.assert_allclose(lifted[1:], audio.samples[1:] - 0.97 * audio.samples[:-1], atol=1e-6)


def test_variants_are_used_cyclically_with_new_draws():
    recipe, audio = RECIPES["fourfold"], Audio(speechlike(), RATE, DIGEST)
    first, fourth = recipe.make_copy(audio, 1), recipe.make_copy(audio, 4)
    assert len(first.samples) == len(fourth.samples) == len(audio.samples)
    assert not np.array_equal(first.samples, fourth.samples)


@pytest.mark.parametrize("name", RECIPES)
def test_a_copy_has_the_rate_of_the_recipe_and_its_own_digest(name):
    audio = Audio(speechlike(sample_rate=48_000), 48_000, DIGEST)
    copies = [RECIPES[name].make_copy(audio, index) for index in range(1, 7)]
    assert {copy.sample_rate for copy in copies} == {RATE}
    digests = {copy.sha256 for copy in copies}
    assert len(digests) == 6 and all(len(digest) == 64 and int(digest, 16) for digest in digests)
    assert copies[0].sha256 == compute_copy_digest(DIGEST, RECIPES[name].key, 1)


def test_digests_differ_between_clips_and_recipes():
    digests = {compute_copy_digest(clip, recipe, index) for clip in "ab" for recipe in "cd" for index in (1, 2)}
    assert len(digests) == 8


@pytest.mark.parametrize(("digest", "index"), [("", 1), (DIGEST, 0), (DIGEST, -1)])
def test_index_zero_and_a_clip_without_digest_are_refused(digest, index):
    with pytest.raises(ValueError, match=r"digest|numbered from 1"):
        RECIPES["fourfold"].make_copy(Audio(speechlike(), RATE, digest), index)


def test_the_error_of_a_silent_copy_names_it(tone):
    recipe = Recipe("high_pass", ((BandLimit(4_000, 0),),))
    with pytest.raises(BadAudio, match="high_pass copy 3 of abababababab: is silent after BandLimit"):
        recipe.make_copy(Audio(tone(7_000, 1.0) * hanning(1.0), RATE, DIGEST), 3)


@pytest.mark.parametrize("protocol", ["speaker", "loso", "random"])
def test_only_training_clips_are_copied_under_every_protocol(protocol, tones):
    for split in make_splits(tones, protocol, 0, True):
        copies = plan_copies(split, RECIPES["fourfold"], 3)
        assert {copy.original_row for copy in copies} == set(split.train.tolist())
        assert not {copy.original_row for copy in copies} & {*split.dev.tolist(), *split.test.tolist()}
        assert len(copies) == 3 * len(split.train)


def test_rows_in_place_of_a_split_are_refused(split):
    for rows in (split.dev, split.manifest, list(split.manifest)):
        with pytest.raises(AttributeError):
            plan_copies(rows, RECIPES["fourfold"], 1)


def test_a_training_clip_that_is_also_in_dev_or_test_is_not_copied(tones):
    digests = list(tones.column("audio_sha256"))
    digests[0] = digests[53]
    doubled = tones.with_column("audio_sha256", digests)
    rows = np.arange(54)
    leaks = ALL_LEAKS
    split = Split(doubled, rows[:40], rows[40:45], rows[45:], 0, allowed_leaks=leaks)
    assert {copy.original_row for copy in plan_copies(split, RECIPES["fourfold"], 1)} == set(range(1, 40))


def test_copies_have_an_index_and_a_digest(split):
    copies = plan_copies(split, RECIPES["fourfold"], 2)
    assert [copy.index for copy in copies[:4]] == [1, 2, 1, 2]
    original = split.manifest.column("audio_sha256")[split.train[0]]
    assert copies[1].digest == compute_copy_digest(original, RECIPES["fourfold"].key, 2)
    assert len({copy.digest for copy in copies}) == len(copies)


def test_zero_copies_are_allowed_and_fewer_refused(split):
    assert plan_copies(split, RECIPES["fourfold"], 0) == ()
    with pytest.raises(ValueError, match="at least 0; got -1"):
        plan_copies(split, RECIPES["fourfold"], -1)


def test_clips_without_audio_digests_cannot_be_copied(split):
    bare = Manifest(split.manifest.table.drop_columns(["audio_sha256"]))
    with pytest.raises(CorpusError, match="no audio digest: extract"):
        plan_copies(replace(split, manifest=bare), RECIPES["fourfold"], 1)
