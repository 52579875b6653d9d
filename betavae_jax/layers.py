"""4×4 stride-2 convolution and its transpose, in the form that suits the device.

XLA's own convolution is the wrong primitive for a population of small models: on
the CPU its gradient is 13 to 60 times slower inside a loop than outside, `vmap`
over kernels turns it into grouped convolutions, and sharding those inserts
all-gathers. It is one of the `FORMS`, to compare with. The form `matmul` is matrix
products, of two kinds picked from the static shapes:

- up to three channels on the large side: every 4×4 neighbourhood is gathered and
  multiplied once (the gathered array is then small, as 16 C is);
- otherwise: a minimal-filtering algorithm over pairs of output rows, in three
  quarters of the multiplications.

The form `split_matmul` is the same with the three products of that algorithm apart,
which suits XLA's CPU compiler.

A transposed convolution is the linear transpose of the same form with the kernel
mirrored, so an encoder and a decoder layer of equal shape cost the same.

References:
  Winograd 1980, Arithmetic Complexity of Computations, section V: F(2, 2).
  Lavin & Gray 2016, Fast Algorithms for Convolutional Neural Networks, section 4.
"""

import functools
from collections.abc import Callable
from typing import TypeAlias

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from betavae_jax import kernels
from betavae_jax.checks import InputError, check_name, check_shape
from betavae_jax.types import Array

Form: TypeAlias = Callable[[Array, Array], Array]  # [B, H, W, C], [4, 4, C, F] -> [B, H/2, W/2, F]

_KERNEL_SIZE = 4
# Measured on two CPU cores, batch 64, forward and backward: gathering takes a third of the
# time at 1 channel, seven tenths at 3, and as long or half as long again at 4.
_MOST_GATHERED_CHANNELS = 3
_AUTO = {"cpu": "split_matmul", "gpu": "matmul"}  # by platform, as measured; matmul elsewhere


def convolution(x: Array, kernel: Array, form: str = "auto") -> Array:
    """Correlates with a 4×4 kernel at every second pixel, the edges padded by one zero.

    Equal to `lax.conv_general_dilated` with strides (2, 2), padding ((1, 1), (1, 1)),
    which is "SAME" here, and dimension numbers NHWC, HWIO, NHWC.

    Args:
      x: `[B, H, W, C]`, H and W even.
      kernel: `[4, 4, C, F]`.
      form: How it is computed: `auto` or a name in `FORMS`.

    Returns:
      `[B, H/2, W/2, F]`.

    Raises:
      InputError: If the shapes are not these, or there is no such form.
    """
    check_shape("x", x.shape, (None, None, None, None))
    check_shape("kernel", kernel.shape, (_KERNEL_SIZE, _KERNEL_SIZE, x.shape[-1], None))
    if any(size < 2 or size % 2 for size in x.shape[1:3]):
        raise InputError(f"expected x of even height and width; got {list(x.shape)}")
    dtype = jnp.result_type(x, kernel)
    return FORMS[choose_form(form)](x.astype(dtype), kernel.astype(dtype))


def transposed_convolution(x: Array, kernel: Array, form: str = "auto") -> Array:
    """Spreads each pixel over a 4×4 neighbourhood of an image of twice the size.

    Equal to `lax.conv_transpose` with strides (2, 2), padding "SAME" and dimension
    numbers NHWC, HWIO, NHWC, as in Flax's `ConvTranspose`: the kernel is not flipped.

    Args:
      x: `[B, H, W, C]`, of any height and width.
      kernel: `[4, 4, C, F]`.
      form: As for `convolution`.

    Returns:
      `[B, 2H, 2W, F]`.

    Raises:
      InputError: If the shapes are not these, or there is no such form.
    """
    check_shape("x", x.shape, (None, None, None, None))
    check_shape("kernel", kernel.shape, (_KERNEL_SIZE, _KERNEL_SIZE, x.shape[-1], None))
    batch, height, width, channels = x.shape
    features = kernel.shape[-1]
    dtype = jnp.result_type(x, kernel)
    # conv_transpose correlates the dilated x, so as the transpose of a correlation it has
    # the kernel mirrored, with the channels' roles exchanged.
    mirrored = kernel[::-1, ::-1].swapaxes(2, 3).astype(dtype)
    form = choose_form(form)
    image = jax.ShapeDtypeStruct((batch, 2 * height, 2 * width, features), dtype)
    if form == "kernels" and kernels.supports(image.shape, channels):
        return kernels.spread(x.astype(dtype), mirrored)
    form = "matmul" if form == "kernels" else form
    transpose = jax.linear_transpose(lambda image: convolution(image, mirrored, form), image)
    (y,) = transpose(x.astype(dtype))
    return y


def check_form(form: str) -> None:
    """Refuses a form of convolution that is unknown, or that this device cannot compute."""
    check_name("convolution", form, ["auto", *FORMS])
    if form == "kernels" and not kernels.run_on(device := jax.local_devices()[0]):
        raise InputError(
            "expected an NVIDIA GPU of compute capability 8.0 or more for the convolution kernels; "
            f"got {device.device_kind} (another --network_convolution, or JAX_PLATFORMS=cpu)"
        )


def choose_form(form: str) -> str:
    """The form that is meant: `auto` is what was measured to be the fastest on this backend."""
    check_form(form)
    return _AUTO.get(jax.default_backend(), "matmul") if form == "auto" else form


def _multiply(filter_pairs: Form, x: Array, kernel: Array) -> Array:
    """`convolution` as products: of what is gathered where channels are few, else filtered."""
    few = x.shape[-1] <= _MOST_GATHERED_CHANNELS
    return _gather(x, kernel) if few else filter_pairs(x, kernel)


def _load_in_place(x: Array, kernel: Array) -> Array:
    """`convolution` by a kernel of our own where there is one for the channels."""
    supported = kernels.supports(x.shape, kernel.shape[-1])
    return kernels.correlate(x, kernel) if supported else FORMS["matmul"](x, kernel)


def _convolve(x: Array, kernel: Array) -> Array:
    """`convolution` by XLA's own."""
    padding = ((1, 1), (1, 1))
    dimensions = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(x, kernel, (2, 2), padding, dimension_numbers=dimensions)


def _shift_blocks(x: Array, kernel: Array) -> Array:
    """`convolution`, each 2×2 block of pixels multiplied once, for all four outputs it is in."""
    batch, height, width, channels = x.shape
    features = kernel.shape[-1]
    rows, columns = height // 2, width // 2
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    x = x.reshape(batch, rows + 1, 2, columns + 1, 2 * channels).swapaxes(2, 3)
    kernel = kernel.reshape(2, 2, 2, 2 * channels, features).transpose(1, 3, 0, 2, 4)
    m = _products(x.reshape(1, -1, 4 * channels), kernel.reshape(1, 4 * channels, 4 * features))
    m = m.reshape(batch, rows + 1, columns + 1, 2, 2, features)
    top = m[:, :-1, :-1, 0, 0] + m[:, :-1, 1:, 0, 1]
    return top + m[:, 1:, :-1, 1, 0] + m[:, 1:, 1:, 1, 1]


def _products(x: Array, kernel: Array) -> Array:
    """Multiplies `[G, M, K]` by `[G, K, N]`.

    Even a single product goes with a leading axis: without it XLA's CPU compiler
    writes the gradient of the kernel as a product of two transposed copies, which
    takes twice as long.
    """
    return lax.dot_general(x, kernel, (((2,), (1,)), ((0,), (0,))))


def _gather(x: Array, kernel: Array) -> Array:
    """`convolution`, with every neighbourhood gathered into `[16 C]`.

    Columns first, then rows, so that the pieces copied are as long as can be.
    """
    batch, height, width, channels = x.shape
    features = kernel.shape[-1]
    rows, columns = height // 2, width // 2
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    x = x.reshape(batch, rows + 1, 2, columns + 1, 2 * channels)
    x = jnp.concatenate([x[..., :-1, :], x[..., 1:, :]], axis=-1)
    x = x.swapaxes(2, 3).reshape(batch, rows + 1, columns, 8 * channels)
    x = jnp.concatenate([x[:, :-1], x[:, 1:]], axis=-1)
    x = x.reshape(1, batch * rows * columns, 16 * channels)
    y = _products(x, kernel.reshape(1, 16 * channels, features))
    return y.reshape(batch, rows, columns, features)


def _filter_row_pairs(x: Array, kernel: Array) -> Array:
    """`convolution`, two output rows from three products instead of four.

    With x's rows taken in pairs u₀, u₁, u₂ and the kernel's in pairs a, b, the output
    rows u₀a + u₁b and u₁a + u₂b are, with m = u₁(a + b),

        (u₀ - u₁)a + m   and   m - (u₁ - u₂)b.

    The coefficients are 0 and ±1, so its error is that of the plain sum, relative to
    the largest of the rows. Along a row, pairs of pixels are multiplied by both halves
    of the kernel at once and the halves added with a shift, which copies less than
    gathering neighbourhoods does.
    """
    batch, height, width, channels = x.shape
    features = kernel.shape[-1]
    rows, columns = height // 2, width // 2
    tiles = (rows + 1) // 2  # an odd last row is computed with a partner and cut off
    x = jnp.pad(x, ((0, 0), (1, 4 * tiles + 3 - height), (1, 1), (0, 0)))
    x = x.reshape(batch, tiles + 1, 2, 2, columns + 1, 2 * channels)
    u0, u1, u2 = x[:, :-1, 0], x[:, :-1, 1], x[:, 1:, 0]  # [B, tiles, 2, columns + 1, 2C]
    u = jnp.stack([u0 - u1, u1, u1 - u2]).swapaxes(3, 4)
    u = u.reshape(3, batch * tiles * (columns + 1), 4 * channels)

    kernel = kernel.reshape(2, 2, 2, 2 * channels, features).transpose(0, 1, 3, 2, 4)
    a, b = kernel.reshape(2, 4 * channels, 2 * features)
    m = _products(u, jnp.stack([a, a + b, b]))
    m = m.reshape(3, batch, tiles, columns + 1, 2 * features)
    m = m[..., :-1, :features] + m[..., 1:, features:]
    y = jnp.stack([m[0] + m[1], m[1] - m[2]], axis=2)
    return y.reshape(batch, 2 * tiles, columns, features)[:, :rows]


def _filter_row_pairs_apart(x: Array, kernel: Array) -> Array:
    """`_filter_row_pairs`, each of the three products of an array of its own.

    XLA's CPU compiler writes an array that is stacked from others, or whose rows move
    inside its columns, one number at a time. So nothing is stacked here, and the rows of
    a pair are interleaved once, while the columns are padded: all that follows reads and
    writes whole rows of tiles.
    """
    batch, height, width, channels = x.shape
    features = kernel.shape[-1]
    rows, columns = height // 2, width // 2
    tiles = (rows + 1) // 2  # an odd last row is computed with a partner and cut off
    x = jnp.pad(x, ((0, 0), (1, 4 * tiles + 3 - height), (0, 0), (0, 0)))
    x = x.reshape(batch, 2 * tiles + 2, 2, width, channels).swapaxes(2, 3)
    x = jnp.pad(x, ((0, 0), (0, 0), (1, 1), (0, 0), (0, 0)))
    x = x.reshape(batch, tiles + 1, 2, (columns + 1) * 4 * channels)
    u0, u1, u2 = x[:, :-1, 0], x[:, :-1, 1], x[:, 1:, 0]

    # Row pair, row, half, column, C, F: a pair of columns holds its column before its row.
    kernel = kernel.reshape(2, 2, 2, 2, channels, features).transpose(0, 3, 1, 4, 2, 5)
    a, b = kernel.reshape(2, 4 * channels, 2 * features)

    def product(u: Array, k: Array) -> Array:
        m = _products(u.reshape(1, -1, 4 * channels), k[None])
        m = m.reshape(batch, tiles, columns + 1, 2 * features)
        return m[..., :-1, :features] + m[..., 1:, features:]

    m0, m1, m2 = product(u0 - u1, a), product(u1, a + b), product(u1 - u2, b)
    y = jnp.stack([m0 + m1, m1 - m2], axis=2)
    return y.reshape(batch, 2 * tiles, columns, features)[:, :rows]


FORMS: dict[str, Form] = {
    "kernels": _load_in_place,
    "lax": _convolve,
    "matmul": functools.partial(_multiply, _filter_row_pairs),
    "space_to_depth": _shift_blocks,
    "split_matmul": functools.partial(_multiply, _filter_row_pairs_apart),
}


class Convolution(nn.Module):
    """A layer of `convolution` with a bias; Flax's shapes and initial values.

    Attributes:
      features: F, the channels of the output.
      form: `auto` or a name in `FORMS`.
    """

    features: int
    form: str = "auto"

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps `[B, H, W, C]` to `[B, H/2, W/2, F]`."""
        kernel, bias = _parameters(self, x.shape[-1], self.features)
        return convolution(x, kernel, self.form) + bias


class TransposedConvolution(nn.Module):
    """A layer of `transposed_convolution` with a bias; Flax's shapes and initial values.

    Attributes:
      features: F, the channels of the output.
      form: `auto` or a name in `FORMS`.
    """

    features: int
    form: str = "auto"

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps `[B, H, W, C]` to `[B, 2H, 2W, F]`."""
        kernel, bias = _parameters(self, x.shape[-1], self.features)
        return transposed_convolution(x, kernel, self.form) + bias


def _parameters(module: nn.Module, channels: int, features: int) -> tuple[Array, Array]:
    """Returns a module's kernel `[4, 4, C, F]`, and its bias as `[1, 1, 1, F]`."""
    shape = (_KERNEL_SIZE, _KERNEL_SIZE, channels, features)
    kernel = module.param("kernel", nn.initializers.lecun_normal(), shape)
    bias = module.param("bias", nn.initializers.zeros_init(), (features,))
    return kernel, bias.reshape(1, 1, 1, features)
