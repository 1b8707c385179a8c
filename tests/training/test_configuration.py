import pytest

from ser_platform.models import NEURAL, build_model
from ser_platform.settings import resolve
from ser_platform.training.configuration import count_prediction_parameters, feature_view


@pytest.mark.parametrize("name", NEURAL)
def test_a_models_size_follows_from_its_configuration(name):
    settings = resolve({"model.name": name, "features.sets": ["log_mel", "mfcc"], "features.n_mfcc": 13})
    model = build_model(settings, feature_view(settings).n_features, 7)
    assert count_prediction_parameters(settings, 7) == sum(parameter.numel() for parameter in model.parameters())


def test_a_waveform_model_uses_no_frame_features():
    assert feature_view(resolve({"model.name": "lite_cnn", "features.sets": ["log_mel"]})).sets == ("waveform",)
    assert feature_view(resolve({"model.name": "bilstm", "features.sets": ["mfcc"]})).sets == ("mfcc",)


@pytest.mark.parametrize(
    ("overrides", "families"),
    [
        ({"model.name": "bilstm", "features.sets": ["mfcc"]}, ("mfcc",)),
        ({"model.name": "lite_cnn", "data.trim_db": 30}, ("waveform", "rms")),
    ],
)
def test_required_families_follow_from_a_configuration(overrides, families):
    assert feature_view(resolve(overrides)).required_families == families
