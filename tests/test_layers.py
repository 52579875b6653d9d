"""Matrix-product convolutions against XLA's own, in value and gradient."""

import functools
import re
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from betavae_jax.checks import InputError
from betavae_jax.kernels import supports
from betavae_jax.layers import (
    FORMS,
    Convolution,
    TransposedConvolution,
    check_form,
    convolution,
    transposed_convolution,
)

MATRIX_PRODUCTS = ("matmul", "split_matmul")
DIMENSIONS = ("NHWC", "HWIO", "NHWC")
FORBIDDEN = (
    r"\s(convolution|all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter)"
    r"(-start)?\("
)


def lax_convolution(x, kernel):
    padding = ((1, 1), (1, 1))
    return lax.conv_general_dilated(x, kernel, (2, 2), padding, dimension_numbers=DIMENSIONS)


def lax_transposed(x, kernel):
    return lax.conv_transpose(x, kernel, (2, 2), "SAME", dimension_numbers=DIMENSIONS)


# x's shape, and F. The kind of product is picked by the channels of the larger image: up
# to three are gathered, more are filtered in pairs of rows.
CONVOLUTIONS = {
    "gathered, grey": ((3, 16, 16, 1), 32),
    "gathered, colour, not square": ((5, 6, 10, 3), 7),
    "gathered, last of the rule": ((3, 4, 8, 3), 5),
    "gathered, smallest": ((1, 2, 2, 1), 1),
    "row pairs, first of the rule": ((3, 8, 12, 4), 7),
    "row pairs, odd number of rows": ((7, 6, 4, 8), 3),
    "row pairs, one row": ((2, 2, 6, 6), 4),
    "row pairs, one output channel": ((3, 8, 4, 16), 1),
    "row pairs, wide": ((2, 32, 32, 32), 32),
}
TRANSPOSED = {
    "gathered, grey": ((3, 8, 8, 32), 1),
    "gathered, colour, not square": ((5, 3, 5, 7), 3),
    "gathered, last of the rule": ((3, 2, 4, 5), 3),
    "gathered, smallest": ((1, 1, 1, 1), 1),
    "row pairs, first of the rule": ((3, 4, 6, 7), 4),
    "row pairs, odd number of rows": ((7, 3, 2, 3), 8),
    "row pairs, one row": ((2, 1, 3, 4), 6),
    "row pairs, one input channel": ((3, 4, 2, 1), 16),
    "row pairs, wide": ((2, 16, 16, 32), 32),
}
CASES = [
    pytest.param(fn, reference, *case, id=f"{fn.__name__}: {name}")
    for fn, reference, table in (
        (convolution, lax_convolution, CONVOLUTIONS),
        (transposed_convolution, lax_transposed, TRANSPOSED),
    )
    for name, case in table.items()
]
ONE_OF_EACH_FORM = [
    pytest.param(convolution, (3, 8, 8, 1), 6, id="convolution, gathered"),
    pytest.param(convolution, (3, 8, 8, 6), 8, id="convolution, row pairs"),
    pytest.param(transposed_convolution, (3, 4, 4, 6), 1, id="transposed, gathered"),
    pytest.param(transposed_convolution, (3, 4, 4, 8), 6, id="transposed, row pairs"),
]


def draw(seed, *shapes):
    generator = np.random.default_rng(seed)
    return [jnp.asarray(generator.normal(size=shape), jnp.float32) for shape in shapes]


def assert_close(actual, expected, tolerance=1e-5):
    """Compares within `tolerance` of the largest expected magnitude."""
    assert actual.shape == expected.shape
    assert actual.dtype == expected.dtype
    scale = np.max(np.abs(expected))
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * scale)


def value_and_gradients(fn, x, kernel):
    """Returns fn's value, and the gradients of a fixed random functional of it."""
    value, pull_back = jax.vjp(fn, x, kernel)
    cotangent = np.random.default_rng(1).normal(size=value.shape)
    return value, *pull_back(jnp.asarray(cotangent, jnp.float32))


@pytest.mark.parametrize(("fn", "reference", "x_shape", "features"), CASES)
def test_value_and_both_gradients_are_those_of_lax(fn, reference, x_shape, features):
    x, kernel = draw(0, x_shape, (4, 4, x_shape[-1], features))
    forms = [functools.partial(fn, form=form) for form in MATRIX_PRODUCTS]
    all_of = jax.jit(lambda x, k: [value_and_gradients(f, x, k) for f in (reference, *forms)])
    expected, *actual = all_of(x, kernel)
    for one in actual:
        jax.tree.map(assert_close, one, expected)


@pytest.mark.parametrize("form", sorted(set(FORMS) - {"split_matmul"}))
@pytest.mark.parametrize("channels", [(16, 32), (3, 16), (16, 1)])
def test_other_forms_are_equal_to_lax_too(form, channels):
    small, large = (3, 3, 5, channels[1]), (3, 6, 10, channels[0])
    x, y, kernels = draw(0, large, small, (2, 4, 4, *channels))
    turned = kernels.swapaxes(3, 4)

    def all_of(form, kernel, turned):
        def down(x, k):
            return convolution(x, k, form) if form else lax_convolution(x, k)

        def up(y, k):
            return transposed_convolution(y, k, form) if form else lax_transposed(y, k)

        return value_and_gradients(down, x, kernel), value_and_gradients(up, y, turned)

    actual = jax.jit(jax.vmap(functools.partial(all_of, form)))(kernels, turned)
    expected = jax.jit(jax.vmap(functools.partial(all_of, "")))(kernels, turned)
    jax.tree.map(assert_close, actual, expected)


def test_second_derivatives_of_the_kernels_are_those_of_matrix_products():
    x, kernel = draw(0, (2, 4, 6, 16), (4, 4, 16, 16))

    def slope(form):
        def value(kernel):
            return jnp.sum(jnp.sin(convolution(x, kernel, form)))

        return jax.grad(lambda k: jnp.sum(jnp.square(jax.grad(value)(k))))

    both = jax.jit(lambda k: [slope(form)(k) for form in ("kernels", "matmul")])
    assert_close(*both(kernel))


def test_kernels_take_32_bits_for_indices_where_64_are_the_default():
    x, kernel = draw(0, (2, 4, 6, 16), (4, 4, 16, 16))

    def values_of(form):
        fn = functools.partial(convolution, form=form)
        return jax.jit(lambda x, k: value_and_gradients(fn, x, k))(x, kernel)

    expected = values_of("matmul")
    with jax.enable_x64(True):
        actual = values_of("kernels")
    jax.tree.map(assert_close, actual, expected)


def test_no_kernel_has_more_numbers_than_32_bits_count():
    assert supports((2**14, 64, 64, 16), 16)  # 2³⁰ numbers
    assert not supports((2**15, 64, 64, 16), 16)
    assert not supports((2**14, 64, 64, 16), 64)


def test_kernels_are_compiled_for_a_gpu_and_nothing_is_gathered():
    x, kernels = draw(0, (4, 32, 32, 32), (2, 4, 4, 32, 64))
    program = jax.jit(jax.vmap(lambda k: value_and_gradients(
        functools.partial(convolution, form="kernels"), x, k)))  # fmt: skip
    text = program.trace(kernels).lower(lowering_platforms=("cuda",)).as_text()
    assert text.count("custom_call @__gpu$xla.gpu.triton") == 3
    assert not re.search(r"stablehlo\.(pad|concatenate|gather|convolution|dot_general|while)", text)


def test_an_unknown_form_is_refused():
    with pytest.raises(InputError, match="convolution to be one of auto, kernels"):
        convolution(jnp.zeros((1, 4, 4, 3)), jnp.zeros((4, 4, 3, 5)), "fft")


@pytest.mark.parametrize(
    ("platform", "capability", "refused"),
    [
        ("cpu", None, False),
        ("gpu", "8.0", False),
        ("gpu", "10.0", False),
        ("gpu", "7.5", True),
        ("gpu", "gfx90a", True),
        ("tpu", None, True),
    ],
)
def test_kernels_are_refused_where_they_cannot_be_compiled(
    monkeypatch, platform, capability, refused
):
    known = {} if capability is None else {"compute_capability": capability}
    device = types.SimpleNamespace(platform=platform, device_kind="its kind", **known)
    monkeypatch.setattr(jax, "local_devices", lambda: [device])
    check_form("matmul")
    if refused:
        with pytest.raises(InputError, match=r"capability 8\.0 or more .* got its kind"):
            check_form("kernels")
    else:
        check_form("kernels")


def test_one_pixel_draws_the_kernel():
    (kernel,) = draw(0, (4, 4, 1, 6))
    x = jnp.zeros((1, 8, 8, 1)).at[0, 4, 4, 0].set(1.0)
    # Output (i, j) reads pixels 2i-1 .. 2i+2, so pixel 4 meets kernel rows 3 and 1 there.
    y = np.asarray(jax.jit(convolution)(x, kernel))
    assert_close(y[0, 1:3, 1:3], np.asarray(kernel)[3::-2, 3::-2, 0], 1e-6)
    assert np.count_nonzero(y) == 4 * 6
    # Pixel i of the small image is spread over 2i-1 .. 2i+2 of the large one, the kernel
    # turned round, as Flax's ConvTranspose has it.
    x = jnp.zeros((1, 4, 4, 1)).at[0, 2, 1, 0].set(1.0)
    y = np.asarray(jax.jit(transposed_convolution)(x, kernel))
    assert_close(y[0, 3:7, 1:5], np.asarray(kernel)[::-1, ::-1, 0], 1e-6)
    assert np.count_nonzero(y) == 16 * 6


@pytest.mark.parametrize(("fn", "x_shape", "features"), ONE_OF_EACH_FORM)
def test_eager_jit_and_vmap_over_kernels_agree(fn, x_shape, features):
    x, kernels = draw(0, x_shape, (3, 4, 4, x_shape[-1], features))
    jitted = jax.jit(lambda k: value_and_gradients(fn, x, k))
    mapped = jax.jit(jax.vmap(lambda k: value_and_gradients(fn, x, k)))(kernels)
    for run, kernel in enumerate(kernels):
        for m, j in zip(mapped, jitted(kernel), strict=True):
            assert_close(m[run], j, 1e-6)
    assert_close(fn(x, kernels[0]), jitted(kernels[0])[0], 1e-6)


@pytest.mark.parametrize(("fn", "x_shape", "features"), ONE_OF_EACH_FORM)
def test_forward_mode_agrees_with_reverse_mode(fn, x_shape, features):
    x, dx, kernel, dkernel = draw(
        0, x_shape, x_shape, *[(4, 4, x_shape[-1], features) for _ in range(2)]
    )

    @jax.jit
    def both_modes(x, dx, kernel, dkernel):
        value, tangent = jax.jvp(fn, (x, kernel), (dx, dkernel))
        _, pull_back = jax.vjp(fn, x, kernel)
        forward, reverse = jnp.vdot(value, tangent), map(jnp.vdot, pull_back(value), (dx, dkernel))
        bilinear = fn(dx, kernel) + fn(x, dkernel)
        return tangent, bilinear, forward, sum(reverse), jnp.vdot(value, value)

    tangent, bilinear, forward, reverse, scale = both_modes(x, dx, kernel, dkernel)
    assert_close(tangent, bilinear)
    assert abs(forward - reverse) < 1e-5 * scale


@pytest.mark.parametrize(("fn", "x_shape", "features"), ONE_OF_EACH_FORM)
def test_descent_in_a_loop_is_that_of_single_steps(fn, x_shape, features):
    x, kernel = draw(0, x_shape, (4, 4, x_shape[-1], features))

    def step(kernel):
        return kernel - 1e-4 * jax.grad(lambda k: jnp.sum(fn(x, k) ** 2))(kernel)

    @jax.jit
    def three_ways(num_steps, kernel):
        loop = lax.fori_loop(0, num_steps, lambda _, k: step(k), kernel)
        scanned, _ = lax.scan(lambda k, _: (step(k), None), kernel, length=3)
        return loop, scanned, step(step(step(kernel)))

    loop, scanned, expected = three_ways(3, kernel)
    assert_close(loop, expected, 1e-6)
    assert_close(scanned, expected, 1e-6)


@pytest.mark.parametrize(("fn", "x_shape", "features"), ONE_OF_EACH_FORM)
def test_a_population_on_two_devices_compiles_to_matrix_products_alone(fn, x_shape, features):
    mesh = Mesh(np.asarray(jax.devices()[:2]), ("runs",))
    x, kernels = draw(0, x_shape, (4, 4, 4, x_shape[-1], features))
    x = jax.device_put(x, NamedSharding(mesh, PartitionSpec()))
    kernels = jax.device_put(kernels, NamedSharding(mesh, PartitionSpec("runs")))
    program = jax.jit(jax.vmap(lambda x, k: value_and_gradients(fn, x, k), in_axes=(None, 0)))
    lowered = program.lower(x, kernels)
    assert "stablehlo.dot_general" in lowered.as_text()
    text = lowered.compile().as_text()
    assert re.search(r"num_partitions=2", text)
    assert not re.search(FORBIDDEN, text)


def test_the_search_for_forbidden_operations_finds_them():
    x, kernel = draw(0, (3, 8, 8, 6), (4, 4, 6, 8))
    assert re.search(FORBIDDEN, jax.jit(lax_convolution).lower(x, kernel).compile().as_text())


@pytest.mark.parametrize("fn", [convolution, transposed_convolution])
def test_types_promote_as_in_jax_numpy(fn):
    x, kernel = draw(0, (2, 4, 4, 3), (4, 4, 3, 5))
    whole = jnp.round(10 * x)
    fn = jax.jit(fn)
    assert_close(fn(whole.astype(jnp.int32), kernel), fn(whole, kernel), 1e-6)
    half = jax.eval_shape(fn, x.astype(jnp.bfloat16), kernel.astype(jnp.bfloat16))
    assert half.dtype == jnp.bfloat16


@pytest.mark.parametrize(
    ("fn", "x_shape", "kernel_shape", "text"),
    [
        (convolution, (2, 7, 8, 3), (4, 4, 3, 5), r"even height and width; got \[2, 7, 8, 3\]"),
        (convolution, (2, 8, 5, 3), (4, 4, 3, 5), r"even height and width; got \[2, 8, 5, 3\]"),
        (convolution, (2, 0, 8, 3), (4, 4, 3, 5), r"even height and width; got \[2, 0, 8, 3\]"),
        (convolution, (8, 8, 3), (4, 4, 3, 5), r"x of shape .*; got \[8, 8, 3\]"),
        (convolution, (2, 8, 8, 3), (3, 3, 3, 5), r"\[4, 4, 3, any\]; got \[3, 3, 3, 5\]"),
        (convolution, (2, 8, 8, 3), (4, 4, 2, 5), r"\[4, 4, 3, any\]; got \[4, 4, 2, 5\]"),
        (transposed_convolution, (8, 8, 3), (4, 4, 3, 5), r"x of shape .*; got \[8, 8, 3\]"),
        (transposed_convolution, (2, 8, 8, 3), (4, 4, 5, 3), r"got \[4, 4, 5, 3\]"),
    ],
)
def test_wrong_shapes_are_refused(fn, x_shape, kernel_shape, text):
    with pytest.raises(InputError, match=text):
        fn(jnp.zeros(x_shape), jnp.zeros(kernel_shape))


@pytest.mark.parametrize(
    ("ours", "flax"),
    [
        (Convolution(7), nn.Conv(7, (4, 4), (2, 2))),
        (TransposedConvolution(7), nn.ConvTranspose(7, (4, 4), (2, 2))),
    ],
)
def test_layers_have_the_parameters_and_outputs_of_flax(ours, flax):
    (x,) = draw(0, (3, 8, 4, 5))
    variables, expected = (layer.init(jax.random.key(0), x) for layer in (ours, flax))
    assert jax.tree.map(jnp.shape, variables) == {"params": {"kernel": (4, 4, 5, 7), "bias": (7,)}}
    jax.tree.map(np.testing.assert_array_equal, variables, expected)
    variables["params"]["bias"] = jnp.arange(7.0)
    assert_close(jax.jit(ours.apply)(variables, x), jax.jit(flax.apply)(variables, x))
