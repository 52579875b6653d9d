"""The scikit-learn estimator: its protocol, its data, its place in pipelines."""

import pickle
import signal
import warnings

import jax.numpy as jnp
import joblib
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

import betavae_jax as bv
from betavae_jax import in_memory
from betavae_jax.checks import InputError
from betavae_jax.estimator_settings import run_settings
from betavae_jax.examples import scale_of, shape_of

# Programs small enough to compile in a second or two: one layer each way. Most tests train on 30
# or 20 vectors of three, as most of scikit-learn's checks do, so that these compile once.
TINY = {
    "num_latents": 2,
    "num_steps": 8,
    "batch_size": 8,
    "network": "mlp",
    "network_settings": {"widths": "none", "decoder_widths": "none"},
    "random_state": 0,
}


def tiny(**parameters):
    return bv.BetaVAE(**{**TINY, **parameters})


@pytest.fixture(scope="module")
def vectors():
    rng = np.random.default_rng(0)
    hidden = rng.normal(size=(30, 2))
    return hidden @ rng.normal(size=(2, 3)) * [1, 10, 100] + [0, 50, -1000]


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).random((32, 8, 8))


def test_scikit_learn_checks_it():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        outcomes = check_estimator(tiny(), on_fail=None)
    failed = {o["check_name"]: o["exception"] for o in outcomes if o["status"] == "failed"}
    assert failed == {}
    skipped = {o["check_name"] for o in outcomes if o["status"] == "skipped"}
    assert skipped <= {"check_array_api_input"}  # where SciPy was not told of other arrays
    assert len(outcomes) > 40


def test_vectors_are_standardised_and_come_back_in_their_units(vectors):
    vae = tiny(num_steps=600, learning_rate=1e-2, beta=1.0)
    vae.fit(vectors)
    np.testing.assert_allclose(vae.scale_.mean, vectors.mean(0))
    np.testing.assert_allclose(vae.scale_.scale, vectors.std(0))
    assert vae.settings_.likelihood == "gaussian"
    codes = vae.transform(vectors)
    assert codes.shape == (30, 2)
    assert codes.dtype == np.float32
    rebuilt = vae.inverse_transform(codes)
    assert rebuilt.shape == vectors.shape
    assert np.all(np.mean((rebuilt - vectors) ** 2, axis=0) < 0.3 * vectors.var(0))
    standardised = (vectors - vectors.mean(0)) / vectors.std(0)
    expected = vae.representation_.model.encode(
        vae.representation_.params, standardised.astype(np.float32)
    )
    np.testing.assert_allclose(codes, expected.mean, rtol=1e-4, atol=1e-5)


def test_the_network_and_likelihood_suit_the_data(vectors, images):
    chosen = {}
    for name, x in {"vectors": vectors, "images": images, "negative": images - 0.5}.items():
        standardized = scale_of(x, "auto") is not None
        parameters = bv.BetaVAE().get_params()
        settings = run_settings(parameters, shape_of(x), 0, standardized=standardized)
        chosen[name] = (settings.network, settings.network_settings["widths"], settings.likelihood)
    assert chosen == {
        "vectors": ("mlp", "256,256", "gaussian"),
        "images": ("conv", "256,256", "bernoulli"),
        "negative": ("conv", "256,256", "gaussian"),
    }


def test_images_keep_their_axes(images):
    for x in (images, images[..., None]):
        vae = tiny(num_steps=1).fit(x)
        assert vae.transform(x).shape == (32, 2)
        assert vae.inverse_transform(vae.transform(x)).shape == x.shape
        assert vae.n_features_in_ == np.prod(x.shape[1:])
        assert vae.scale_ is None


def test_images_outside_the_unit_interval_are_standardised_by_channel(images):
    x = np.stack([images * 2 - 1, images * 6 + 3, -images], axis=-1)
    vae = tiny(num_steps=1).fit(x)
    np.testing.assert_allclose(vae.scale_.mean, x.mean((0, 1, 2)))
    np.testing.assert_allclose(vae.scale_.scale, x.std((0, 1, 2)))
    assert vae.inverse_transform(vae.transform(x)).shape == x.shape
    large = scale_of(images * 255, "gaussian")
    np.testing.assert_allclose(large.mean, [(images * 255).mean()])
    assert scale_of(images, "gaussian") is None
    assert scale_of(images * 255, "auto") is None  # refused then: bytes as floats, most likely


def test_bytes_are_the_images_that_they_stand_for(images):
    as_bytes = np.round(images * 255).astype(np.uint8)
    fitted, expected = tiny().fit(as_bytes), tiny().fit(as_bytes / np.float32(255))
    np.testing.assert_allclose(fitted.transform(as_bytes), expected.transform(as_bytes), atol=1e-5)
    dark = np.minimum(as_bytes, 1)  # not binary: the first call has seen other bytes
    np.testing.assert_array_equal(fitted.transform(dark), fitted.transform(dark / np.float32(255)))
    binary = (as_bytes > 99).astype(np.uint8)
    as_floats = tiny().fit(binary.astype(float)).transform(binary.astype(float))
    np.testing.assert_allclose(tiny().fit(binary).transform(binary), as_floats, atol=1e-5)
    with pytest.raises(InputError, match="bytes of 0 and 1, as before; got 255"):
        tiny().fit(binary).transform(np.full((2, 8, 8), 255, np.uint8))


def test_a_seed_gives_the_same_bits_and_others_do_not(vectors):
    first = tiny().fit_transform(vectors)
    np.testing.assert_array_equal(tiny().fit(vectors).transform(vectors), first)
    np.testing.assert_array_equal(clone(tiny()).fit_transform(vectors), first)
    assert np.abs(tiny(random_state=1).fit_transform(vectors) - first).max() > 1e-3
    free = tiny(random_state=None)
    assert np.abs(free.fit_transform(vectors) - free.fit_transform(vectors)).max() > 1e-3


def test_two_passes_are_one_fit(vectors):
    vae = tiny()
    for passes in (1, 2):
        vae.partial_fit(vectors)
        assert vae.n_steps_ == 4 * passes
    np.testing.assert_array_equal(vae.transform(vectors), tiny().fit_transform(vectors))
    vae.fit(vectors)  # begins anew
    assert vae.n_steps_ == 8


def test_partial_fit_goes_on_with_other_data_and_other_coefficients(vectors):
    vae = tiny().partial_fit(vectors)
    scale = vae.scale_
    before = vae.transform(vectors)
    vae.set_params(beta=8.0, learning_rate=0.1).partial_fit(vectors[:20] * 3)
    assert vae.n_steps_ == 4 + 3
    assert vae.scale_ is scale
    assert np.abs(vae.transform(vectors) - before).max() > 1e-3
    with pytest.raises(InputError, match="num_latents was 2, is 3"):
        vae.set_params(num_latents=3).partial_fit(vectors)


def test_training_raises_the_score(vectors):
    scores = [
        tiny(num_steps=n, learning_rate=1e-2).fit(vectors).score(vectors) for n in (1, 40, 400)
    ]
    assert scores[0] < scores[1] < scores[2]


def test_the_score_is_the_mean_bound(images):
    vae = tiny().fit(images)
    bounds = vae.score_samples(images)
    assert bounds.shape == (32,)
    np.testing.assert_allclose(vae.score(images), bounds.mean(), rtol=1e-5)
    np.testing.assert_array_equal(bounds, vae.representation_.elbo(images, num_samples=8))


def test_searches_and_pipelines_take_it(vectors):
    labels = (vectors[:, 0] > 0).astype(int)
    pipeline = make_pipeline(StandardScaler(), tiny(), LogisticRegression())
    search = GridSearchCV(pipeline, {"betavae__beta": np.array([1.0, 4.0])}, cv=3)
    search.fit(vectors, labels)
    assert search.best_params_["betavae__beta"] in (1.0, 4.0)
    names = search.best_estimator_[:-1].get_feature_names_out()
    assert list(names) == ["betavae0", "betavae1"]
    grid = {"num_latents": [np.int64(2)], "learning_rate": np.float32([1e-3, 1e-2])}
    own = GridSearchCV(tiny(), grid, cv=3).fit(vectors)
    assert own.transform(vectors).shape == (30, 2)
    assert own.best_params_["learning_rate"] == np.float32(1e-2)


def test_values_that_are_swept_share_a_program(vectors):
    tiny().fit(vectors)
    before = in_memory._program.cache_info().misses
    for beta, rate, steps, state in ((1.0, 1e-3, 3, 1), (2.0, 1e-2, 5, 2)):
        tiny(beta=beta, learning_rate=rate, num_steps=steps, random_state=state).fit(vectors)
    assert in_memory._program.cache_info().misses == before


def test_a_name_may_stand_for_another_function_later(vectors, monkeypatch):
    """Whoever edits an objective, a network or a likelihood in a notebook runs the cell again."""
    mlp, laplace = bv.NETWORKS["mlp"], bv.LIKELIHOODS["laplace"]()
    changes = [
        (bv.OBJECTIVES, bv.OBJECTIVES["vae"], lambda: bv.OBJECTIVES["beta_vae"]()),
        (bv.NETWORKS, lambda *shape: mlp(*shape, widths="4"), lambda *shape: mlp(*shape)),
        (bv.LIKELIHOODS, bv.LIKELIHOODS["gaussian"], lambda: laplace._replace(mean=jnp.zeros_like)),
    ]
    for registry, maker, _ in changes:
        monkeypatch.setitem(registry, "mine", maker)
    parameters = {**dict.fromkeys(("objective", "network", "likelihood"), "mine"),
                  "network_settings": None}  # fmt: skip
    codes = [tiny(**parameters).fit_transform(vectors)]
    for registry, _, maker in changes:
        monkeypatch.setitem(registry, "mine", maker)
        fitted = tiny(**parameters).fit(vectors)
        codes.append(fitted.transform(vectors))
        assert not np.allclose(codes[-1], codes[-2])
    np.testing.assert_allclose(fitted.inverse_transform(codes[-1][:1]), [vectors.mean(axis=0)])


def test_copies_on_disk_transform_alike(vectors, tmp_path):
    vae = tiny().fit(vectors)
    joblib.dump(vae, tmp_path / "vae.joblib")
    for copy in (pickle.loads(pickle.dumps(vae)), joblib.load(tmp_path / "vae.joblib")):
        np.testing.assert_array_equal(copy.transform(vectors), vae.transform(vectors))
        copy.partial_fit(vectors)
        assert copy.n_steps_ == vae.n_steps_ + 4


def test_the_representation_edits_and_samples(images):
    representation = tiny().fit(images).representation_
    assert representation.edit(images[0], {"z1": 2.0}).shape == (8, 8, 1)
    assert representation.sample(0, 3).shape == (3, 8, 8, 1)
    assert representation.results is None
    assert representation.step == 8


def test_every_coefficient_can_be_reached(vectors):
    published = {"factor_vae": {"gamma": 35.0, "beta": 1.0}, "beta_vae": {"beta": 4.0}, "vae": {}}
    for objective, expected in published.items():
        assert coefficients_of(objective=objective) == expected
    assert coefficients_of(objective="factor_vae", coefficients={"gamma": 7}, beta=2.0) == {
        "gamma": 7.0,
        "beta": 2.0,
    }
    vae = tiny(objective="beta_tcvae", beta=3.0, coefficients={"alpha": np.float64(0.5)})
    vae.set_params(schedules={"beta": "linear:0:4"}).fit(vectors)
    assert vae.settings_.coefficients == {"alpha": [0.5], "beta": [3.0], "gamma": [1.0]}
    assert vae.settings_.schedules == {"beta": "linear:0:4"}


def coefficients_of(**parameters):
    parameters = bv.BetaVAE(**parameters).get_params()
    settings = run_settings(parameters, (5,), 0, standardized=True)
    return {name: value for name, [value] in settings.coefficients.items()}


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"objective": "vae", "beta": 2.0}, "objective vae, which takes none; got beta"),
        ({"objective": "delta_vae"}, "objective to be one of .*; got 'delta_vae'"),
        ({"objective": "ada_gvae"}, "known factors"),
        ({"coefficients": {"gamma": 1.0}}, "objective beta_vae, which takes beta; got gamma"),
        ({"coefficients": {"beta": 1.0}}, "beta as a parameter of its own"),
        ({"beta": -1.0}, "beta to be a number of at least 0; got -1"),
        ({"beta": "4"}, "beta to be a number"),
        ({"num_latents": 0}, "num_latents"),
        ({"num_steps": 1.5}, "num_steps"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"network": "transformer"}, "network to be one of"),
        ({"network_settings": {"depth": 3}}, "network mlp, which takes"),
        ({"likelihood": "poisson"}, "likelihood to be one of"),
        ({"likelihood": "bernoulli"}, "likelihood of real values"),
        ({"precision": "float16"}, "precision"),
        ({"network_settings": 3}, "network_settings to be a mapping by name, or None; got 3"),
        ({"coefficients": [1.0]}, "coefficients to be a mapping"),
    ],
)
def test_bad_parameters_are_refused_by_fit(vectors, parameters, message):
    with pytest.raises(InputError, match=message) as raised:
        tiny(**parameters).fit(vectors)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.full((4, 8, 8), 255.0), r"floats in \[0, 1\].*images / 255"),
        (np.full((4, 8, 8), np.nan), r"images of finite numbers; got others: .* NaN\.$"),
        (np.zeros((4, 8, 8, 7)), "1 to 4 channels"),
        (np.zeros((0, 8, 8)), "0 sample"),
        (np.zeros(8), "1D array"),
        (np.zeros((2, 2, 2, 2, 2)), "dim"),
        (np.full((4, 3), 1e300), "within float32"),
    ],
)
def test_what_cannot_be_fitted_is_refused(x, message):
    with pytest.raises(ValueError, match=message):
        tiny().fit(x)


def test_other_shapes_than_those_fitted_are_refused(vectors, images):
    with pytest.raises(NotFittedError):
        tiny().transform(vectors)
    fitted = tiny(num_steps=1).fit(images)
    with pytest.raises(InputError, match=r"was fitted, \[8, 8, 1\]; got \[7, 8\]"):
        fitted.transform(images[:, 1:])
    with pytest.raises(InputError, match=r"got \[64\]"):
        fitted.transform(images.reshape(32, 64))
    with pytest.raises(ValueError, match="X has 2 features"):
        tiny(num_steps=1).fit(vectors).transform(vectors[:, 1:])
    with pytest.raises(InputError, match=r"codes of shape \[any, 2\]"):
        fitted.inverse_transform(np.zeros((1, 3)))


def test_masked_values_are_refused(vectors, images):
    fitted = tiny(num_steps=1).fit(np.ma.masked_array(vectors))  # nothing in it is masked
    calls = {
        "X": (tiny().fit, fitted.partial_fit, fitted.transform, fitted.score),
        "codes": (fitted.inverse_transform,),
    }
    for what, functions in calls.items():
        for function in functions:
            with pytest.raises(InputError, match=f"expected {what} .* numbers; got masked values"):
                function(np.ma.masked_greater(vectors, 1))
    with pytest.raises(InputError, match="got masked values"):
        tiny().fit(np.ma.masked_greater(images, 0.5))


@pytest.mark.parametrize("kind", ["vectors", "images"])
def test_bfloat16_is_a_float(kind, request):
    given = jnp.asarray(request.getfixturevalue(kind), jnp.bfloat16)
    plain = np.asarray(given, np.float32)
    fitted, expected = tiny(num_steps=1).fit(given), tiny(num_steps=1).fit(plain)
    codes = fitted.transform(given)
    np.testing.assert_array_equal(codes, expected.transform(plain))
    halved = jnp.asarray(codes, jnp.bfloat16)
    decoded = expected.inverse_transform(np.asarray(halved, np.float32))
    np.testing.assert_array_equal(fitted.inverse_transform(halved), decoded)


def test_weights_are_refused_with_the_reason(vectors):
    weights = np.ones(30)
    for method in ("fit", "partial_fit", "fit_transform"):
        with pytest.raises(InputError, match=r"drawn equally often.*got sample_weight"):
            getattr(tiny(), method)(vectors, sample_weight=weights)


def test_a_loss_that_is_not_finite_warns(vectors):
    with pytest.warns(ConvergenceWarning, match=r"not finite at step \d+"):
        vae = tiny(learning_rate=1e30).fit(vectors)
    assert vae.n_steps_ <= 8


def test_an_interrupt_reaches_the_caller(vectors, monkeypatch):
    vae = tiny().fit(vectors)
    codes = vae.transform(vectors)
    fit = in_memory.fit
    monkeypatch.setattr(
        in_memory, "fit", lambda *a, **k: fit(*a, **k)._replace(signal=signal.SIGINT)
    )
    # A shell's background jobs are started with this signal ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            vae.fit(vectors)
    finally:
        signal.signal(signal.SIGINT, before)
    np.testing.assert_array_equal(vae.transform(vectors), codes)
