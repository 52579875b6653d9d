"""The aggregate posterior of trained runs, against the reference's exact mixture."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

from betavae_jax.aggregate import measure_aggregate
from betavae_jax.checks import InputError
from betavae_jax.types import Posterior


@pytest.mark.parametrize("case", ["broad", "correlated", "sharp"])
def test_it_is_the_references_up_to_sampling(reference_data, case):
    folder = reference_data / "metrics_reference"
    expected = json.loads((folder / "total_correlation.json").read_text())["cases"][case]
    with np.load(folder / "total_correlation.npz") as arrays:
        posterior = Posterior(arrays[f"{case}_mu"], arrays[f"{case}_log_var"])
    measured = measure_aggregate(posterior, num_samples=2000)
    exact = expected["exact_all_N_samples"]
    for name in ("mutual_information", "total_correlation", "dimensionwise_kl"):
        assert abs(measured[name] - exact[name]) < 0.1 + 0.03 * abs(exact[name]), name
    matrix = np.cov(posterior.mean, rowvar=False, ddof=0)
    off_diagonal = np.sum(matrix**2) - np.sum(np.diag(matrix) ** 2)
    np.testing.assert_allclose(measured["covariance_off_diagonal"], off_diagonal, rtol=1e-3)
    assert abs(measured["mmd_rbf"]) < 0.05


def test_the_prior_itself_measures_zero():
    posterior = Posterior(jnp.zeros((50, 3)), jnp.zeros((50, 3)))
    measured = measure_aggregate(posterior)
    for name in ("mutual_information", "total_correlation", "dimensionwise_kl"):
        assert abs(measured[name]) < 1e-5
    assert measured["covariance_off_diagonal"] == measured["covariance_diagonal"] == 0


def test_the_order_of_examples_is_only_noise():
    """Means and noise that make the prior together, in the order of one latent, as factors are."""
    rng = np.random.default_rng(0)
    mean = rng.normal(scale=np.sqrt(0.75), size=(4000, 3)).astype(np.float32)
    mean = mean[np.argsort(mean[:, 0])]
    measured = measure_aggregate(Posterior(mean, np.full_like(mean, np.log(0.25))))
    assert abs(measured["mmd_rbf"]) < 0.01
    assert abs(measured["total_correlation"]) < 0.1
    assert measured["dimensionwise_kl"] < 0.05


def test_one_example_is_refused():
    with pytest.raises(InputError, match="at least 2; got 1"):
        measure_aggregate(Posterior(jnp.zeros((1, 3)), jnp.zeros((1, 3))))
