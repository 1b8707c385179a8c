"""Recipes of changed copies of training clips, reproducible on every machine.

Copies are numbered from 1; 0 is the original. The random values of a copy depend only on the recipe, the clip's audio
and the number of the copy.
"""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np

from ser_platform.corpora.audio.reader import SAMPLE_RATE, Audio
from ser_platform.errors import BadAudio
from ser_platform.features.augmentation.channels import BandLimit, Codec, MuLaw
from ser_platform.features.augmentation.level import Gain, PreEmphasis
from ser_platform.features.augmentation.noise import Noise
from ser_platform.features.augmentation.rooms import Reverb
from ser_platform.features.augmentation.stretching import Pitch, Speed, Tempo
from ser_platform.features.augmentation.transform import KEY_LENGTH, Transform
from ser_platform.files import digest_of


@dataclass(frozen=True)
class Recipe:
    """Variants of transforms. Copy 1 uses the first of `variants`, copy 2 the second, and so on, cyclically; the
    transforms of a variant are applied in order.

    Clips are first resampled to `sample_rate`, so that noise and filters do not depend on the rate of the recording.
    """

    version: ClassVar[int] = 1
    name: str
    variants: tuple[tuple[Transform, ...], ...]
    sample_rate: int = SAMPLE_RATE  # Hz; of the copies

    @cached_property
    def key(self) -> str:
        """A digest of the transforms, their order, the rate and `version`, but not the name."""
        variants = [[transform.key for transform in variant] for variant in self.variants]
        return digest_of({"variants": variants, "rate": self.sample_rate, "version": self.version}, KEY_LENGTH)

    def make_copy(self, audio: Audio, index: int) -> Audio:
        """Return copy `index`, from 1, of a clip, with the digest of `compute_copy_digest`.

        Raises:
            ValueError: the clip has no digest, or the index is below 1.
            BadAudio: the copy is silent or not finite.
        """
        digest = compute_copy_digest(audio.sha256, self.key, index)
        rng = np.random.default_rng(int(digest, 16))
        samples = audio.resample(self.sample_rate)
        try:
            for transform in self.variants[(index - 1) % len(self.variants)]:
                samples = transform(samples, self.sample_rate, rng)
        except BadAudio as bad:
            raise BadAudio(f"{self.name} copy {index} of {audio.sha256[:12]}", bad.reason) from bad
        return Audio(samples, self.sample_rate, digest)


def compute_copy_digest(audio_sha256: str, recipe_key: str, index: int) -> str:
    """Return the digest of a copy, which identifies it as an audio digest identifies an original: 64 hex digits.

    Raises:
        ValueError: the clip has no digest, or the index is below 1.
    """
    if not audio_sha256:
        raise ValueError("a copy needs the digest of its clip's audio")
    if index < 1:
        raise ValueError(f"copies are numbered from 1, the original is 0; got {index}")
    return hashlib.sha256(f"copy {audio_sha256} {recipe_key} {index}".encode()).hexdigest()


# A common expansion of acted speech to four times the clips: the original and these three copies.
FOURFOLD = ((Noise(snr_db=(15.0, 30.0)),), (Speed(factors=(0.9, 1.1)),), (PreEmphasis(0.97),))
RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe("fourfold", FOURFOLD),
        # Ko et al., 2015: the original, one slower and one faster.
        Recipe("threefold_speed", ((Speed((0.9,)),), (Speed((1.1,)),))),
        # Small changes, which do not change the emotion.
        Recipe("prosody", ((Pitch((-1.5, 1.5)),), (Tempo((0.9, 1.1)),), (Pitch((-1.0, 1.0)), Tempo((0.93, 1.07))))),
        # Rooms and background noise, near and far.
        Recipe(
            "rooms",
            (
                (Reverb((0.2, 0.6)), Gain((-6.0, 6.0))),
                (Reverb((0.3, 0.9), (3.0, 12.0)), Noise((15.0, 30.0), "pink")),
                (Noise((10.0, 25.0), "pink"), Gain((-6.0, 6.0))),
            ),
        ),
        # Telephone and lossy coding.
        Recipe("channels", ((BandLimit(), MuLaw()), (Codec("mp3"),), (Codec("ogg"),))),
        Recipe(
            "broad",
            (
                *FOURFOLD,
                (Reverb((0.2, 0.6)), Noise((20.0, 35.0), "pink")),
                (Pitch((-1.5, 1.5)), Gain((-6.0, 6.0))),
                (BandLimit(), MuLaw(), Noise((20.0, 35.0))),
            ),
        ),
    )
}
