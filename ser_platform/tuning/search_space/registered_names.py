"""The valid names of settings that choose from a registry: models, feature sets, pools, recipes, losses."""

from ser_platform.distillation.teacher_terms import TERMS
from ser_platform.features.augmentation.recipes import RECIPES
from ser_platform.features.families import FEATURE_SETS
from ser_platform.features.families.presets import PRESETS
from ser_platform.features.views.pooling import POOLS
from ser_platform.models import MODELS
from ser_platform.settings import Registries

REGISTRIES: Registries = {
    "features.sets": (*FEATURE_SETS, *PRESETS),
    "features.pool": tuple(POOLS),
    "model.name": tuple(MODELS),
    "augment.recipe": tuple(RECIPES),
    "distill.loss": tuple(TERMS),
}
