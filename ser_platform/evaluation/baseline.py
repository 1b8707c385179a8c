"""The baseline for neural models: a linear SVM on pooled frame features."""

import numpy as np
from numpy.typing import NDArray
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from ser_platform.corpora.splits.split import Split
from ser_platform.features.store.feature_store import open_family
from ser_platform.metrics import uar

BASELINE_SETS = ("log_mel", "mfcc", "zcr", "rms")
REGULARISATION = (1e-4, 1e-3, 1e-2, 1e-1)  # C; dev selects one


def pool_features(hashes: tuple[str, ...], dtype: str = "float32") -> NDArray[np.float64]:
    """Return the mean and standard deviation over frames of every stored column, `(n_clips, 2 * n_features)`."""
    parts = []
    for name in BASELINE_SETS:
        family = open_family(name, hashes, dtype)
        mean, square = (family.sums / family.lengths[:, None, None]).transpose(1, 0, 2)
        parts += [mean, np.sqrt(np.maximum(square - mean**2, 0))]
    return np.concatenate(parts, axis=1)


def predict_with_svm(split: Split, dtype: str = "float32") -> NDArray[np.int64]:
    """Train on train, select C on dev, and return the predicted classes of the test clips, `(n_test,)`."""
    labels = split.manifest.labels
    features = pool_features(tuple(split.manifest.column("audio_sha256")), dtype)
    targets = split.manifest.encode_targets(labels)
    best_score, best = -1.0, None
    for c in REGULARISATION:
        svm = make_pipeline(StandardScaler(), LinearSVC(C=c, class_weight="balanced", max_iter=5000))
        svm.fit(features[split.train], targets[split.train])
        score = uar(targets[split.dev], svm.predict(features[split.dev]), len(labels))
        if score > best_score:
            best_score, best = score, svm
    assert best is not None
    return np.asarray(best.predict(features[split.test]), dtype=np.int64)
