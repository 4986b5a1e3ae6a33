"""Classifiers that read classes from features: probes and nearest class prototypes."""

import warnings
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..errors import require

CONSTANT = 1e-6  # times the largest feature's standard deviation
PROTOTYPE_DRAWS = 20
Features: TypeAlias = NDArray[np.float32]
Labels: TypeAlias = NDArray[np.int64]


def fit_linear_probe(features: Features, labels: Labels) -> Any:
    """Fit a multinomial logistic regression on standardised features ``(n, d)`` and labels ``(n,)``, at least two different ones:
    the usual linear probe, as a scikit-learn pipeline. Its ``decision_function`` gives ``(n, classes)`` in order of ``classes_``.
    """
    require("sklearn", "audit")
    from sklearn.linear_model import LogisticRegression

    return _fit_standardised(LogisticRegression(C=1.0, max_iter=300), features, labels)


def _fit_standardised(classifier: Any, features: Features, labels: Labels) -> Any:
    """Fit a pipeline of a StandardScaler and a classifier. Nearly constant features are not scaled: it gives NaN or noise."""
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(features)
    scaler.scale_[scaler.scale_ < CONSTANT * scaler.scale_.max()] = 1.0
    return make_pipeline(scaler, classifier.fit(scaler.transform(features), labels))


def as_linear_map(probe: Any) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return weight ``(classes, d)`` and bias ``(classes,)`` of a linear probe of more than two classes, with its scaling."""
    scaler, regression = probe[0], probe[-1]
    weight = regression.coef_ / scaler.scale_
    bias = regression.intercept_ - weight @ scaler.mean_
    return weight.astype(np.float32), bias.astype(np.float32)


def fit_hidden_probe(features: Features, labels: Labels, hidden: int, decay: float | None = None) -> Any:
    """Fit a perceptron with one layer of ``hidden`` rectified units; data as of :func:`fit_linear_probe`. ``decay`` is the weight
    decay of 200 epochs without early stopping, for sets too small to hold a tenth out; None stops early. The scikit-learn
    pipeline's ``predict_proba`` gives ``(n, classes)`` in order of ``classes_``."""
    require("sklearn", "audit")
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier

    options: dict[str, Any] = {"early_stopping": True} if decay is None else {"alpha": decay, "max_iter": 200}
    with warnings.catch_warnings():
        if decay is not None:
            warnings.simplefilter("ignore", ConvergenceWarning)
        return _fit_standardised(MLPClassifier((hidden,), random_state=0, **options), features, labels)


def prototype_hits(
    features: Features, labels: Labels, test_features: Features, test_labels: Labels, shots: int
) -> NDArray[np.float64]:
    """Compute the share of 20 draws in which each test feature ``(m, d)`` is nearest to its label's prototype: float64 ``(m,)``.

    A prototype is the mean of ``shots`` random examples of its class among features ``(n, d)`` with labels ``(n,)`` (Snell et
    al., "Prototypical Networks for Few-shot Learning", NeurIPS 2017). Features are scaled to length 1, so that the nearest is
    the one at the smallest angle.
    """
    classes = np.unique(labels)
    generator = np.random.default_rng(0)
    train, test = normalize(features), normalize(test_features)
    hits = np.zeros(len(test_labels))
    for _ in range(PROTOTYPE_DRAWS):
        chosen = [generator.choice(np.flatnonzero(labels == label), shots, replace=False) for label in classes]
        prototypes = normalize(np.stack([train[indices].mean(0) for indices in chosen]))
        hits += classes[(test @ prototypes.T).argmax(1)] == test_labels
    return hits / PROTOTYPE_DRAWS


def normalize(features: Features) -> Features:
    """Scale features ``(n, d)`` to length 1."""
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
