"""The page in a real browser: sliders, table, and a decoder that agrees with JAX."""

import json
import pathlib
import sys

import jax
import numpy as np
import pytest
from random_parameters import random_parameters

import betavae_jax.report
from betavae_jax.likelihoods import LIKELIHOODS
from betavae_jax.models import make_model
from betavae_jax.networks import NETWORKS
from betavae_jax.networks.assembly import ACTIVATIONS
from betavae_jax.report.decoder import (
    choose_format,
    decoder_for_page,
    describe_decoder,
    round_decoder,
)

DECODER_JS = pathlib.Path(betavae_jax.report.__file__).with_name("decoder.js")


def open_page(browser, path):
    """Opens a page anew; returns the messages of its console and the addresses it asked for."""
    browser.get_log("browser")
    browser.get_log("performance")
    browser.get(path.as_uri())
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [e["params"]["request"]["url"] for e in events
             if e["method"] == "Network.requestWillBeSent"]  # fmt: skip
    return browser.get_log("browser"), asked


def settle(browser):
    """Waits for the next frame but one, when what was asked for is drawn."""
    browser.execute_async_script(
        "const done = arguments[0];"
        "requestAnimationFrame(() => requestAnimationFrame(() => done(null)));"
    )


def pixels(browser):
    settle(browser)
    script = """const c = document.querySelector('#stage canvas');
        return Array.from(c.getContext('2d').getImageData(0, 0, c.width, c.height).data);"""
    return np.asarray(browser.execute_script(script))


def move(browser, latent, value):
    browser.execute_script(
        "const s = document.getElementById('z' + arguments[0]); s.value = arguments[1];"
        "s.dispatchEvent(new Event('input'));",
        latent,
        value,
    )


def column(browser, number):
    script = """return [...document.querySelectorAll('tbody tr')].filter((r) => !r.hidden)
        .map((r) => r.cells[arguments[0]].textContent);"""
    return browser.execute_script(script, number)


@pytest.mark.parametrize("kind", ["population", "vector_page"])
def test_the_page_loads_without_errors_or_requests(browser, request, kind):
    page = request.getfixturevalue(kind).page
    messages, asked = open_page(browser, page)
    assert messages == []
    # The page itself, and the pictures that it holds.
    assert [url for url in asked if not url.startswith("data:")] == [page.as_uri()]
    width = browser.execute_script("return document.documentElement.scrollWidth")
    assert width <= browser.execute_script("return window.innerWidth")


def test_a_slider_changes_the_picture_and_reset_brings_it_back(browser, population):
    open_page(browser, population.page)
    before = pixels(browser)
    latents = browser.execute_script("return data.runs[0].latents.map((l) => l.latent)")
    assert sorted(latents) == [0, 1, 2]
    for latent in latents:
        move(browser, latent, 3)
    after = pixels(browser)
    assert np.max(np.abs(after - before)) > 2
    browser.execute_script("document.getElementById('reset').click()")
    np.testing.assert_array_equal(pixels(browser), before)


def test_the_picture_is_what_the_model_decodes(browser, population):
    open_page(browser, population.page)
    run = browser.execute_script("return data.runs[0].run")
    params = jax.device_get(population.carry.state.params)
    own = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:])[run], params)
    z = [0.5, -1.5, 2.5]
    for latent, value in enumerate(z):
        move(browser, latent, value)
    model = population.experiment.model
    expected = np.asarray(model.mean(model.decode(own, np.asarray([z], np.float32))))[0, ..., 0]
    got = pixels(browser).reshape(16, 16, 4)
    assert np.all(got[..., 3] == 255)
    np.testing.assert_allclose(got[..., 0] / 255, expected, atol=1e-2)


def test_the_latents_that_do_not_count_as_active_are_pale(browser, population):
    open_page(browser, population.page)
    silent, pale = browser.execute_script("""data.runs[0].latents[1].silent = true;
        document.getElementById('run').dispatchEvent(new Event('change'));
        return [data.runs[0].latents.map((l) => l.silent),
          [...document.querySelectorAll('.latent')].map((e) => e.classList.contains('silent'))];""")
    assert silent == pale
    assert True in pale
    assert False in pale


def test_an_example_sets_the_sliders(browser, population):
    open_page(browser, population.page)
    script = """document.querySelectorAll('.picks button')[arguments[0]].click();
        return data.runs[0].latents.map((l) => document.getElementById('z' + l.latent).value);"""
    read = "const r = data.runs[0]; return r.latents.map((l) => r.codes[arguments[0]][l.latent])"
    for example in (0, 3):
        values = np.asarray(browser.execute_script(script, example + 1), float)
        np.testing.assert_allclose(values, browser.execute_script(read, example), atol=0.006)
    assert browser.execute_script(script, 0) == ["0", "0", "0"]


def test_another_run_can_be_chosen(browser, population):
    open_page(browser, population.page)
    runs = browser.execute_script("return data.runs.map((r) => r.run)")
    assert len(runs) == 2  # the best of each beta
    first = pixels(browser)
    browser.execute_script(f"document.querySelector('button.open[data-run=\"{runs[1]}\"]').click()")
    assert np.any(pixels(browser) != first)
    assert browser.execute_script("return document.getElementById('run').value") == str(runs[1])


def test_the_table_sorts(browser, population):
    open_page(browser, population.page)
    elbo = [f"{row['elbo']:.2f}" for row in population.results["runs"]]
    assert column(browser, 3) == elbo
    click = "document.querySelectorAll('th button')[3].click()"
    browser.execute_script(click)
    assert column(browser, 3) == sorted(elbo, key=float)
    browser.execute_script(click)
    assert column(browser, 3) == sorted(elbo, key=float, reverse=True)
    sort = "return document.querySelectorAll('th')[3].getAttribute('aria-sort')"
    assert browser.execute_script(sort) == "descending"


@pytest.mark.parametrize(
    ("words", "runs"),
    [("beta=1", "01"), ("beta=16 seed=1", "3"), ("SEED=0", "02"), ("", "0123"), ("x=1", "")],
)
def test_the_table_filters(browser, population, words, runs):
    open_page(browser, population.page)
    browser.execute_script(
        "const f = document.getElementById('filter'); f.value = arguments[0];"
        "f.dispatchEvent(new Event('input'));",
        words,
    )
    assert column(browser, 0) == list(runs)


def test_vectors_are_drawn_as_a_line(browser, vector_page):
    open_page(browser, vector_page.page)
    read = "return document.querySelectorAll('#stage polyline')[1].getAttribute('points')"
    settle(browser)
    before = browser.execute_script(read)
    assert len(before.split()) == 20
    move(browser, 0, 3)
    settle(browser)
    assert browser.execute_script(read) != before
    assert float(browser.execute_script("return document.body.dataset.difference")) < 1e-2


def test_a_wrong_decoder_is_owned_up_to(browser, population, tmp_path):
    text = population.page.read_text("utf-8")
    (tmp_path / "a.html").write_text(text.replace('"mean":"sigmoid"', '"mean":"tilted"'), "utf-8")
    for page, visible in ((population.page, False), (tmp_path / "a.html", True)):
        open_page(browser, page)
        read = "return !document.getElementById('differs').hidden"
        assert browser.execute_script(read) is visible


# The decoder: (network, its settings, shape of x, likelihood).
DECODERS = [
    *(("conv", {"activation": name}, (16, 16, 1), "bernoulli") for name in sorted(ACTIVATIONS)),
    *(("mlp", {"decoder_widths": "20"}, (5,), name) for name in sorted(LIKELIHOODS)),
    ("conv", {}, (13, 30, 3), "continuous_bernoulli"),  # cropped on all sides
    ("conv", {"decoder_widths": "none"}, (16, 8, 2), "gaussian"),
    ("conv_locatello", {}, (32, 32, 4), "bernoulli"),
    ("mlp", {"decoder_widths": "none"}, (6, 7, 3), "bernoulli"),
    ("mlp", {"decoder_widths": "40,30", "decoder_activation": "elu"}, (11,), "laplace"),
    ("mlp", {}, (40,), "bernoulli"),  # in eight bits
]


@pytest.mark.parametrize(("network", "settings", "x_shape", "likelihood"), DECODERS)
def test_the_decoder_agrees_with_jax(browser, network, settings, x_shape, likelihood):
    model = make_model(NETWORKS[network](x_shape, 4, **settings), LIKELIHOODS[likelihood]())
    rng, spread = np.random.default_rng(1), 0.3 if len(x_shape) == 1 else 0.05
    params = jax.tree.map(  # biases too, so that outputs spread over their range
        lambda p: 1.5 * np.asarray(p) + spread * rng.normal(size=p.shape).astype(np.float32),
        jax.jit(model.init)(jax.random.key(1)),
    )
    z = 2 * np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    decode = jax.jit(lambda params, z: model.mean(model.decode(params, z)))
    # What eight bits change is not the browser's to answer for.
    own = round_decoder(params) if choose_format(params) == "int8" else params
    expected = np.asarray(decode(own, z)).reshape(3, -1)
    decoder = describe_decoder(model, params, x_shape, 4, likelihood)
    described = decoder_for_page(decoder, z[0], expected[0], 1e-2)
    browser.get("about:blank")
    script = (
        DECODER_JS.read_text()
        + """const decode = makeDecoder(arguments[0]);
        return [arguments[1].map((z) => Array.from(decode(z))),
                largestDifference(decode, arguments[0].check)];"""
    )
    got, difference = browser.execute_script(script, described, z.tolist())
    assert np.ptp(expected) > 0.05
    np.testing.assert_allclose(got, expected, atol=1e-2)
    assert difference <= 1e-2


def test_a_frame_is_fast(browser, capsys):
    """64×64 within 30 ms a frame where the machine is free; three times that where it is busy."""
    model = make_model(NETWORKS["conv_locatello"]((64, 64, 3), 10), LIKELIHOODS["bernoulli"]())
    params = random_parameters(model.init)
    decoder = describe_decoder(model, params, (64, 64, 3), 10, "bernoulli")
    described = decoder_for_page(decoder, np.zeros(10), np.zeros((64, 64, 3)), 1e-2)
    browser.get("about:blank")
    script = (
        DECODER_JS.read_text()
        + """const decode = makeDecoder(arguments[0]), times = [];
        for (let i = 0; i < 60; i++) {
          const z = Array.from({ length: 10 }, (_, d) => Math.sin(i + d));
          const began = performance.now();
          decode(z);
          times.push(performance.now() - began);
        }
        return times;"""
    )
    times = browser.execute_script(script, described)
    with capsys.disabled():
        sys.stdout.write(
            f" [64x64x3: {np.median(times):.1f} ms a frame, at most {max(times):.1f}] "
        )
    assert np.median(times) < 90
