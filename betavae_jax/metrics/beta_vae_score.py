"""The score of Higgins et al. (2017): which factor do pairs of examples share?"""

import numpy as np

from betavae_jax.checks import check_at_least
from betavae_jax.metrics.classifiers import check_installed, fit_logistic
from betavae_jax.metrics.results import Result, binomial_interval, library_versions
from betavae_jax.metrics.sources import Generator, Source, check_points, in_parts


def beta_vae_score(
    source: Source,
    *,
    batch_size: int = 64,
    num_train: int = 10_000,
    num_test: int = 5_000,
    seed: int = 0,
) -> Result:
    """Scores a representation by how well a linear classifier tells which factor pairs share.

    Args:
      source: Where codes come from; at least two factors.
      batch_size: Pairs behind one point.
      num_train: Points to fit the classifier to.
      num_test: Points to test it on.
      seed: Of the draws.

    Returns:
      The test accuracy in [0, 1]; constant codes score about 1/K.

    Raises:
      InputError: If there is one factor only, a setting is too small, or the source refuses.

    References:
      Higgins et al. (2017), "beta-VAE", section 3; the classifier is a logistic
      regression as in Locatello et al. (2019).
    """
    check_points(source, num_train, num_test)
    check_at_least("batch_size", batch_size, 1, integer=True)
    check_installed("sklearn")
    rng = np.random.default_rng(seed)
    train_x, train_y = draw_features(source, rng, num_train, batch_size)
    test_x, test_y = draw_features(source, rng, num_test, batch_size)
    classifier = fit_logistic(train_x, train_y, solver="newton-cholesky")
    right = classifier.predict(test_x) == test_y
    accuracy = float(right.mean())
    per_factor = [float(right[test_y == k].mean()) for k in range(source.num_factors)]
    return Result(
        metric="beta_vae_score",
        value=accuracy,
        scores={
            "eval_accuracy": accuracy,
            "train_accuracy": float(np.mean(classifier.predict(train_x) == train_y)),
        },
        per_factor={"eval_accuracy": np.asarray(per_factor)},
        per_latent={},
        matrices={"weights": classifier.coef_.T},
        interval=binomial_interval(accuracy, num_test),
        convention=f"Higgins 2017 as in Locatello 2019: {source.description}, batch "
        f"{batch_size}, logistic regression (C 1, to convergence) of mean |z1 − z2|",
        sizes={"train": num_train, "test": num_test, "batch": batch_size,
               "latents": train_x.shape[1], "factors": source.num_factors},
        seed=seed,
        versions=library_versions("scikit-learn", "scipy"),
    )  # fmt: skip


def draw_features(
    source: Source, rng: Generator, num_points: int, batch_size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Draws points of the score: features mean |z₁ − z₂| `[P, D]` and the factor shared `[P]`."""
    features, factors = [], []
    for points in in_parts(num_points):
        factor, first, second = source.draw_pairs(rng, points, batch_size)
        features.append(np.abs(first - second).mean(axis=1))
        factors.append(factor)
    return np.concatenate(features), np.concatenate(factors)
