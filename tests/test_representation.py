"""A trained run as functions of arrays: references, shapes, factors, refusals."""

import json
import pickle
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import multivariate_normal

import betavae_jax as bv
from betavae_jax import coding
from betavae_jax.checks import InputError
from betavae_jax.data import load_dataset
from betavae_jax.runs.checkpoints import CheckpointError
from betavae_jax.runs.settings import Settings, resolve, to_config
from betavae_jax.types import Posterior, Scale

GRID, MARGIN, SIZE = 16, 3.5, 16


@pytest.fixture(scope="module")
def representation(run_directory):
    return bv.load(run_directory)


@pytest.fixture(scope="module")
def images(representation):
    """Every dot: x = index // 16, y = index % 16."""
    data = load_dataset("blobs", **representation.config["settings"]["data"]).train
    return np.asarray(data.gather(data.arrays, jnp.arange(GRID**2), None))


def linear_model(rng):
    """A linear Gaussian model that encodes to its exact posterior, and its log density."""
    sigma, scales = 0.7, np.array([1.5, 0.8])
    basis = np.linalg.qr(rng.normal(size=(4, 2)))[0]
    weights, offset = basis * scales, rng.normal(size=4)  # x = W z + b + σ ε
    variance = 1 / (1 + scales**2 / sigma**2)
    to_mean = weights * variance / sigma**2  # [F, D]
    bias = np.concatenate([-offset @ to_mean, np.log(variance)])
    encoder = {"kernel": np.hstack([to_mean, np.zeros((4, 2))]), "bias": bias}
    decoder = {"kernel": weights.T, "bias": offset}
    params = {
        "encoder": {"posterior": encoder},
        "decoder": {"network": {"output": decoder}, "likelihood": ()},
    }
    settings = Settings(
        num_latents=2,
        network_settings={"widths": "none", "decoder_widths": "none"},
        network="mlp",
        likelihood="gaussian",
        likelihood_settings={"sigma": sigma},
    )
    representation = bv.Representation(
        config=to_config(resolve(settings, (4,)), {"x_shape": [4]}),
        results=None,
        step=0,
        image_shape=(4,),
        num_latents=2,
        params=jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), params),
    )
    covariance = weights @ weights.T + sigma**2 * np.eye(4)
    return representation, multivariate_normal(offset, covariance)


def centre(image):
    """(column, row) of the middle of a dot, pixel centres at a half."""
    image = image[..., 0]
    at = np.arange(SIZE) + 0.5
    return (image.sum(0) @ at / image.sum(), image.sum(1) @ at / image.sum())


def test_load_says_what_the_run_is(representation, run_directory):
    results = json.loads((run_directory / "results.json").read_text())
    assert representation.step == 3000
    assert representation.image_shape == (16, 16, 1)
    assert representation.num_latents == 3
    assert representation.results == results["runs"][0]
    assert representation.config == json.loads((run_directory / "config.json").read_text())
    assert bv.load(str(run_directory), run=1).results == results["runs"][1]


def test_codes_are_those_of_the_results(representation, images):
    mean, log_variance = representation.encode(images)
    kl = 0.5 * (mean**2 + np.exp(log_variance) - 1 - log_variance).mean(axis=0, dtype=np.float64)
    np.testing.assert_allclose(kl, representation.results["kl_per_latent"], rtol=1e-4, atol=1e-5)


def test_encode_takes_every_form_of_an_image(representation, images):
    expected = representation.encode(images[:5])
    assert isinstance(expected, Posterior)
    assert expected.mean.shape == expected.log_variance.shape == (5, 3)
    for form in (images[:5, ..., 0], jnp.asarray(images[:5]), images[:5].astype(np.float64)):
        np.testing.assert_array_equal(representation.encode(form).mean, expected.mean)
    for one in (images[2], images[2, ..., 0]):
        assert representation.encode(one).mean.shape == (3,)
        np.testing.assert_allclose(representation.encode(one).mean, expected.mean[2], rtol=1e-4,
                                   atol=1e-5)  # fmt: skip
    whole = representation.model.encode(representation.params, jnp.asarray(images[:5]))
    np.testing.assert_allclose(expected.log_variance, whole.log_variance, rtol=1e-4, atol=1e-5)


def test_bytes_and_booleans_are_the_floats_that_they_stand_for(representation, images):
    as_bytes = np.round(images[:4] * 255).astype(np.uint8)
    encoded = representation.encode(as_bytes).mean
    np.testing.assert_array_equal(encoded, representation.encode(as_bytes / np.float32(255)).mean)
    binary = images[:4] > 0.5
    expected = representation.encode(binary.astype(np.float32)).mean
    np.testing.assert_array_equal(representation.encode(binary).mean, expected)
    np.testing.assert_array_equal(representation.encode(binary.astype(np.uint8)).mean, expected)


def test_a_large_batch_is_its_parts(representation, images):
    many = np.concatenate([images, images[:77]])
    encoded = representation.encode(many).mean
    assert encoded.shape == (333, 3)
    np.testing.assert_allclose(encoded[256:], representation.encode(images[:77]).mean, rtol=1e-4,
                               atol=1e-5)  # fmt: skip


def test_decode_is_the_mean_of_the_likelihood(representation):
    z = np.random.default_rng(0).normal(size=(3, 3)).astype(np.float32)
    logits = np.asarray(representation.model.decode(representation.params, jnp.asarray(z)))
    decoded = representation.decode(z)
    assert decoded.shape == (3, 16, 16, 1)
    np.testing.assert_allclose(decoded, 1 / (1 + np.exp(-logits)), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(representation.decode(z[1]), decoded[1], rtol=1e-4, atol=1e-6)


def test_reconstruct_keeps_the_place(representation, images):
    rebuilt = representation.reconstruct(images)
    places = np.array([centre(image) for image in rebuilt])
    wanted = np.array([centre(image) for image in images])
    assert np.mean(np.abs(places - wanted)) < 0.7


def test_samples_of_a_key_are_the_first_of_more(representation):
    samples = representation.sample(3, 5)
    assert samples.shape == (5, 16, 16, 1)
    np.testing.assert_allclose(
        samples[:2], representation.sample(jax.random.key(3), 2), rtol=1e-4, atol=1e-6
    )
    assert np.abs(samples[0] - representation.sample(4, 1)[0]).max() > 1e-3
    assert np.abs(samples[0] - samples[1]).max() > 1e-3


def test_traverse_moves_one_latent_at_a_time(representation, images):
    mean = representation.encode(images[40]).mean
    strips = representation.traverse(images[40], [2, "z0"], span=2.0, num_steps=5)
    assert strips.shape == (2, 5, 16, 16, 1)
    z = np.tile(mean, (5, 1))
    z[:, 2] = [-2, -1, 0, 1, 2]
    np.testing.assert_allclose(strips[0], representation.decode(z), rtol=1e-4, atol=1e-6)
    low = np.where(np.arange(3) == 0, -1.0, mean)
    strip = representation.traverse(images[40], ["z0"], span=(-1, 0.5), num_steps=2)[0]
    np.testing.assert_allclose(strip[0], representation.decode(low), rtol=1e-4, atol=1e-6)
    assert representation.traverse(images[40]).shape == (3, 11, 16, 16, 1)
    followed = representation.results["metrics"]["axis_alignment"]["latent"]["x"]
    np.testing.assert_array_equal(
        representation.traverse(images[40], ["x"]), representation.traverse(images[40], [followed])
    )


def test_edit_sets_latents(representation, images):
    mean = np.array(representation.encode(images[40]).mean)
    mean[1] = -1.5
    edited = representation.edit(images[40], {1: -1.5})
    np.testing.assert_allclose(edited, representation.decode(mean), rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(edited, representation.edit(images[40], {"z1": -1.5}))
    np.testing.assert_array_equal(
        representation.edit(images[40], {}), representation.reconstruct(images[40])
    )


@pytest.mark.parametrize("run", [0, 1])
@pytest.mark.parametrize(("factor", "axis"), [("x", 0), ("y", 1)])
def test_editing_a_factor_moves_the_dot_there(run_directory, images, run, factor, axis):
    representation = bv.load(run_directory, run)
    here = images[5 * GRID + 9]
    step = (SIZE - 2 * MARGIN) / (GRID - 1)
    for value in (2, 7.5, 12):
        place = centre(representation.edit(here, {factor: value}))
        assert abs(place[axis] - (MARGIN + value * step)) < 0.8
        assert abs(place[1 - axis] - centre(here)[1 - axis]) < 0.8


def test_factors_may_be_edited_together(representation, images):
    edited = representation.edit(images[[0, 200]], {"x": 3, "y": 12})
    step = (SIZE - 2 * MARGIN) / (GRID - 1)
    for image in edited:
        assert np.allclose(centre(image), (MARGIN + 3 * step, MARGIN + 12 * step), atol=0.8)


def test_the_bound_is_log_p_where_the_posterior_is_exact():
    rng = np.random.default_rng(0)
    representation, density = linear_model(rng)
    x = rng.normal(size=(6, 4)) * 2
    expected = density.logpdf(x)
    for importance in (2, 7):  # every weight is p(x)
        bound = representation.elbo(x, importance=importance)
        np.testing.assert_allclose(bound, expected, rtol=1e-4, atol=1e-3)
    elbo = representation.elbo(x, num_samples=4000)  # of which the KL is exact
    np.testing.assert_allclose(elbo, expected, atol=0.1)


def test_one_sample_has_the_exact_kl_and_noise_of_its_own_example():
    representation, density = linear_model(np.random.default_rng(0))
    x = np.random.default_rng(1).normal(size=(64, 4)) * 2
    bound = representation.elbo(x)
    # With a KL from the sample, the bound of an exact posterior would have no noise.
    assert np.std(bound - density.logpdf(x)) > 0.3
    near = representation.elbo(x + 1e-4)
    assert np.std(near - density.logpdf(x)) > 0.3
    assert abs(np.corrcoef(near - density.logpdf(x), bound - density.logpdf(x))[0, 1]) < 0.5


def test_the_bound_rises_to_log_p_with_more_samples():
    rng = np.random.default_rng(0)
    exact, density = linear_model(rng)
    params = jax.tree.map(lambda leaf: leaf, exact.params)
    params["encoder"]["posterior"]["bias"] += jnp.array([0.5, 0.5, 0.7, 0.7])  # a worse posterior
    worse = bv.Representation(**{**vars_of(exact), "params": params})
    x = rng.normal(size=(64, 4))
    gaps = [
        np.mean(density.logpdf(x) - worse.elbo(x, num_samples=s, importance=k))
        for s, k in ((200, 1), (50, 4), (1, 2000))
    ]
    assert gaps[0] > gaps[1] > gaps[2]
    assert gaps[0] > 0.5
    assert abs(gaps[2]) < 0.03


def vars_of(representation):
    names = ("config", "results", "step", "image_shape", "num_latents", "params", "scale")
    return {name: getattr(representation, name) for name in names}


def test_the_bound_of_an_image_does_not_depend_on_its_company(representation, images):
    bounds = representation.elbo(images[:9])
    assert bounds.shape == (9,)
    np.testing.assert_allclose(representation.elbo(images[8:3:-1]), bounds[8:3:-1], rtol=1e-4)
    assert representation.elbo(images[4]).shape == ()
    np.testing.assert_allclose(representation.elbo(images[4]), bounds[4], rtol=1e-4)
    assert np.abs(representation.elbo(images[:9], seed=1) - bounds).min() > 0
    ours = representation.elbo(images, num_samples=20).mean()
    assert abs(ours - representation.results["elbo"]) < 1.5  # one sample each there


def test_fingerprints_of_binary_images_differ():
    rng = np.random.default_rng(0)
    x = (rng.random((4000, 8, 8, 1)) > 0.5).astype(np.float32)
    prints = np.asarray(jax.jit(jax.vmap(coding.fingerprint))(x))
    assert len(np.unique(prints)) >= 3998  # 4000 draws of 2³² collide 0.002 times
    np.testing.assert_array_equal(prints[7], coding.fingerprint(jnp.asarray(x[7])))


def test_a_sigma_of_a_batch_bounds_no_image(train_run, tmp_path):
    workdir = train_run(
        tmp_path / "run", data={"image_size": 16, "blob_margin": 4.0}, network="mlp",
        likelihood="gaussian_optimal",
        network_settings={"widths": "8", "decoder_widths": "8"}, num_steps=1,
    )  # fmt: skip
    representation = bv.load(workdir)
    image = np.zeros((16, 16), np.float32)
    assert np.isfinite(representation.reconstruct(image)).all()
    with pytest.raises(InputError, match=r"one example alone a density, .* got gaussian_optimal"):
        representation.elbo(image)


def test_few_programs_serve_every_number_of_images(run_directory, images):
    coding._make_coding.cache_clear()
    first = bv.load(run_directory)
    for count in (*range(1, 20), 250, 256, 257, 512):
        first.encode(np.resize(images, (count, 16, 16, 1)))
    functions = first._coding
    assert functions.encode._cache_size() == 7  # 1, 2, 4, 8, 16, 32, 256
    second = bv.load(run_directory, run=1)
    second.encode(images[:3])
    assert second._coding is functions
    assert functions.encode._cache_size() == 7


def test_loading_reads_no_data_and_writes_nothing(run_directory, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("the data set was loaded")

    monkeypatch.setattr("betavae_jax.runs.settings.load_dataset", refuse)
    before = {path: path.stat().st_mtime_ns for path in run_directory.rglob("*")}
    bv.load(run_directory).reconstruct(np.zeros((16, 16)))
    assert {path: path.stat().st_mtime_ns for path in run_directory.rglob("*")} == before


def test_a_run_without_results_loads(run_directory, tmp_path):
    unfinished = shutil.copytree(run_directory, tmp_path / "run")
    (unfinished / "results.json").unlink()
    shutil.rmtree(unfinished / "checkpoints" / "3000")
    representation = bv.load(unfinished)
    assert (representation.step, representation.results) == (1500, None)
    with pytest.raises(InputError, match=r"z0 to z2 \(which latents follow factors is not known\)"):
        representation.edit(np.zeros((16, 16)), {"x": 3})
    results = json.loads((run_directory / "results.json").read_text())
    (unfinished / "results.json").write_text(json.dumps(results))  # of a later step
    assert bv.load(unfinished).results is None


def test_the_checkpoint_before_a_damaged_one_serves(run_directory, tmp_path, caplog):
    damaged = shutil.copytree(run_directory, tmp_path / "run")
    for path in (damaged / "checkpoints" / "3000" / "state").rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert bv.load(damaged).step == 1500
    assert "checkpoint of step 3000 is damaged" in caplog.text
    assert (damaged / "checkpoints" / "3000").is_dir()
    shutil.rmtree(damaged / "checkpoints" / "1500")
    with pytest.raises(CheckpointError, match="none of the checkpoints in"):
        bv.load(damaged)


def test_a_run_that_failed_loads_with_a_warning(run_directory, tmp_path, caplog, monkeypatch):
    from betavae_jax import restore

    step, leaves = restore.read_latest(run_directory / "checkpoints")
    failed = leaves | {"state.failed_at": np.array([7, -1], np.int32)}
    monkeypatch.setattr(restore, "read_latest", lambda _: (step, failed))
    bv.load(run_directory, 1)
    assert not caplog.text
    bv.load(run_directory, 0)
    assert "stopped at step 7" in caplog.text


@pytest.mark.parametrize("test_fraction", [0.0, 0.25])
def test_vectors_come_and_go_in_their_own_units(tmp_path, train_run, test_fraction):
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(64, 5)) * [1, 10, 100, 0, 3] + [0, 5, -300, 8, 1.7e9]
    np.save(tmp_path / "vectors.npy", vectors)
    workdir = train_run(
        tmp_path / "run",
        dataset="arrays",
        data={"data_dir": str(tmp_path / "vectors.npy")},
        test_fraction=test_fraction,
        num_latents=2,
        network_settings={"widths": "16", "decoder_widths": "16"},
        num_steps=300,
    )
    (tmp_path / "vectors.npy").unlink()  # how they were standardised stands in the configuration
    representation = bv.load(workdir)
    assert isinstance(representation.scale, Scale)
    kept = np.random.default_rng(0).permutation(64)[: round(64 * test_fraction)]
    learnt = np.delete(vectors, kept, axis=0)
    np.testing.assert_allclose(representation.scale.mean, learnt.mean(0), rtol=1e-5, atol=1e-6)
    expected = learnt.std(0)
    expected[3] = 1
    np.testing.assert_allclose(representation.scale.scale, expected, rtol=1e-5)
    rebuilt = representation.reconstruct(vectors)
    assert (rebuilt.shape, rebuilt.dtype) == (vectors.shape, np.float64)
    error = np.sqrt(np.mean((rebuilt - vectors) ** 2, axis=0))
    assert np.sum(error < 0.8 * vectors.std(0)) >= 2  # two latents keep two features
    np.testing.assert_allclose(rebuilt[:, 3], 8, atol=0.5)
    np.testing.assert_allclose(rebuilt[:, 4], 1.7e9, rtol=0, atol=12)  # float32 has steps of 128
    samples = representation.sample(0, 100)
    np.testing.assert_allclose(samples[:, 3:] - [8, 1.7e9], 0, atol=12)
    assert representation.encode(vectors[0]).mean.shape == (2,)
    with pytest.raises(InputError, match=r"shape \[5\], or a batch"):
        representation.encode(vectors[:, :4])
    with pytest.raises(InputError, match="finite numbers"):
        representation.encode(np.full((2, 5), np.nan))


FLOATS = np.zeros((2, 16, 16))
REFUSED_IMAGES = {
    "floats of bytes": (np.full((2, 16, 16), 255.0), r"\[0, 1\].*got 255 to 255.*images / 255"),
    "NaN": (np.full((16, 16), np.nan), "got NaN or infinity"),
    "negative": (FLOATS - 1, "got -1 to -1"),
    "other shape": (np.zeros((2, 28, 28)), r"\[16, 16, 1\] or \[16, 16\].*got \[2, 28, 28\]"),
    "three channels": (np.zeros((2, 16, 16, 3)), r"got \[2, 16, 16, 3\]"),
    "channels first": (np.zeros((2, 1, 16, 16)), r"got \[2, 1, 16, 16\]"),
    "none": (np.zeros((0, 16, 16)), "at least one example; got none"),
    "whole numbers": (np.zeros((2, 16, 16), np.int32), "uint8.*got int32"),
    "a number": (3.0, r"got \[\]"),
    "text": (np.full((16, 16), "a"), "got <U1"),
    "unlike lists": ([[0.0, 1.0], [0.0]], "an array; got lists of unlike shapes"),
    "nothing": (None, "an array of numbers; got a NoneType"),
    "masked": (np.ma.masked_equal(FLOATS, 0), "an array of numbers; got masked values"),
}


@pytest.mark.parametrize("case", REFUSED_IMAGES)
def test_what_is_no_image_is_refused(representation, case):
    images, message = REFUSED_IMAGES[case]
    for method in (representation.encode, representation.elbo, representation.reconstruct):
        with pytest.raises(InputError, match=message) as raised:
            method(images)
        assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda r: r.decode(np.zeros((2, 4))), r"codes of shape \[any, 3\]; got \[2, 4\]"),
        (lambda r: r.decode(np.full(3, np.inf)), "finite numbers.* in codes; got inf"),
        (lambda r: r.decode(np.full(3, 1e300)), "within float32, in codes; got 1e"),
        (lambda r: r.decode([[1.0, 2.0], [3.0]]), "codes to be an array; got lists of unlike"),
        (lambda r: r.decode(np.zeros((0, 3))), "got none"),
        (lambda r: r.decode(["a", "b", "c"]), "codes to be numbers"),
        (lambda r: r.sample(0, 0), "n to be a whole number of at least 1; got 0"),
        (lambda r: r.sample("a", 1), "none of jax.random, to be a whole number .*; got 'a'"),
        (lambda r: r.sample(-1, 1), "got -1"),
        (lambda r: r.sample(jax.random.split(jax.random.key(0)), 1), "key of shape"),
        (lambda r: r.traverse(FLOATS), "one example; got a batch of 2"),
        (lambda r: r.traverse(FLOATS[0], [3]), r"0 to 2 or z0 to z2, or a factor \(x, y\); got 3"),
        (lambda r: r.traverse(FLOATS[0], []), "at least one latent"),
        (lambda r: r.traverse(FLOATS[0], span=-1.0), "span"),
        (lambda r: r.traverse(FLOATS[0], span=(1, -1)), r"got \(1, -1\)"),
        (lambda r: r.traverse(FLOATS[0], span="wide"), "got 'wide'"),
        (lambda r: r.traverse(FLOATS[0], num_steps=1), "num_steps"),
        (lambda r: r.edit(FLOATS, {"radius": 1}), r"a factor \(x, y\); got 'radius'"),
        (lambda r: r.edit(FLOATS, {"z9": 1}), "got 'z9'"),
        (lambda r: r.edit(FLOATS, {-1: 1}), "got -1"),
        (lambda r: r.edit(FLOATS, {True: 1}), "got True"),
        (lambda r: r.edit(FLOATS, {"x": 16}), "value from 0 to 15; got 16"),
        (lambda r: r.edit(FLOATS, {"x": -0.1}), "got -0.1"),
        (lambda r: r.edit(FLOATS, {"x": "left"}), "got 'left'"),
        (lambda r: r.edit(FLOATS, {"z1": float("nan")}), "finite number; got nan"),
        (lambda r: r.edit(FLOATS, {"z1": 10**400}), "finite number; got 10"),
        (lambda r: r.edit(FLOATS, {"z1": np.zeros(2)}), "'z1' to be a finite number"),
        (lambda r: r.edit(FLOATS, "z1"), r'such as \{"z1": 1.5\}; got \'z1\''),
        (lambda r: r.edit(FLOATS, {0: 1, "z0": 2}), "different latents; got z0 twice"),
        (lambda r: r.elbo(FLOATS, num_samples=0), "num_samples"),
        (lambda r: r.elbo(FLOATS, importance=1.5), "importance"),
    ],
)
def test_bad_arguments_are_refused(representation, call, message):
    with pytest.raises(InputError, match=message):
        call(representation)


def test_numbers_may_be_scalars_of_numpy_and_jax(representation, images):
    one = images[3]
    edited = representation.edit(one, {"z1": 2.0})
    for value in (np.float32(2), np.array(2), jnp.float32(2)):
        np.testing.assert_array_equal(representation.edit(one, {np.int64(1): value}), edited)
    at_seven = representation.edit(one, {"x": 7})
    np.testing.assert_array_equal(representation.edit(one, {"x": jnp.int32(7)}), at_seven)
    moved = representation.traverse(one, [1, 2], 2.0, 3)
    np.testing.assert_array_equal(
        representation.traverse(one, jnp.array([1, 2]), jnp.float32(2), np.int64(3)), moved
    )
    for two in (np.uint8(2), np.float16(2)):
        np.testing.assert_array_equal(representation.traverse(one, [1, 2], two, 3), moved)
    for alone in ("z1", 1, np.int64(1)):
        np.testing.assert_array_equal(representation.traverse(one, alone, 2, 3), moved[:1])
    assert len(representation.sample(np.int64(0), np.int64(3))) == 3
    bounds = representation.elbo(images[:2], importance=np.int64(5))
    np.testing.assert_array_equal(bounds, representation.elbo(images[:2], importance=5))


def test_bfloat16_is_a_float(representation, images):
    halved = jnp.asarray(images[:2], jnp.bfloat16)
    expected = representation.encode(np.asarray(halved, np.float32)).mean
    np.testing.assert_array_equal(representation.encode(halved).mean, expected)
    codes = jnp.asarray(expected, jnp.bfloat16)
    expected = representation.decode(np.asarray(codes, np.float32))
    np.testing.assert_array_equal(representation.decode(codes), expected)


def test_a_pickle_of_a_used_representation_is_as_the_first(representation, images):
    edited = representation.edit(images[3], {"x": 7})
    back = pickle.loads(pickle.dumps(representation))
    np.testing.assert_array_equal(back.edit(images[3], {"x": 7}), edited)
    assert back.results == representation.results


def test_loading_needs_neither_the_objective_nor_the_data_set(run_directory, images, tmp_path):
    copy = shutil.copytree(run_directory, tmp_path / "run")
    change_config(copy, lambda c: c["settings"].update(objective="mine", dataset="mine"))
    mean = bv.load(copy).encode(images).mean
    np.testing.assert_array_equal(mean, bv.load(run_directory).encode(images).mean)
    with pytest.raises(InputError, match=r"objective to be one of .*; got 'mine'"):
        bv.load(copy).edit(images, {"x": 3})
    change_config(copy, lambda c: c["settings"].update(network="mine"))
    with pytest.raises(InputError, match=r"network to be one of .*; got 'mine'"):
        bv.load(copy)


def test_a_factor_that_no_latent_follows_is_refused(representation):
    row = json.loads(json.dumps(representation.results))
    row["metrics"]["axis_alignment"]["abs_pearson_r"]["y"] = 0.21
    weak = bv.Representation(**{**vars_of(representation), "results": row})
    with pytest.raises(InputError, match=r"\|r\| of 0.5 or more; got y, to which z\d .* 0.21"):
        weak.edit(FLOATS, {"y": 3})


def change_config(workdir, change):
    config = json.loads((workdir / "config.json").read_text())
    change(config)
    (workdir / "config.json").write_text(json.dumps(config))


def test_what_is_no_run_is_refused(run_directory, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    for nowhere in (tmp_path / "nowhere", "~/nowhere"):
        with pytest.raises(InputError, match=rf"; {tmp_path}/nowhere/config.json is missing"):
            bv.load(nowhere)
    with pytest.raises(InputError, match=r"a run directory; .*config.json is missing"):
        bv.load(run_directory / "config.json")
    for path in (None, 3, b"run"):
        with pytest.raises(InputError, match=f"workdir to be a path; got {path!r}"):
            bv.load(path)
    for run in (2, -1, "0", True):
        with pytest.raises(InputError, match=rf"0 to 1; got {run!r}"):
            bv.load(run_directory, run)
    copy = shutil.copytree(run_directory, tmp_path / "run")
    change_config(copy, lambda config: config["settings"].update(novelty=1))
    with pytest.raises(InputError, match="the settings of this version"):
        bv.load(copy)
    change_config(copy, lambda config: config["program"].update(format=99))
    with pytest.raises(InputError, match=r"of format \d+ or older; got 99"):
        bv.load(copy)
    copy = shutil.copytree(run_directory, tmp_path / "other")
    change_config(copy, lambda config: config["settings"].update(num_latents=4))
    with pytest.raises(CheckpointError, match="of another program"):
        bv.load(copy)
    shutil.rmtree(copy / "checkpoints")
    with pytest.raises(InputError, match="it has none yet"):
        bv.load(copy)
    assert not (copy / "checkpoints").exists()
