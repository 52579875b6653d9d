"""Convolution kernels for NVIDIA GPUs: neighbourhoods are read in place, never gathered.

On a GPU a population of small networks is bound by memory traffic. A convolution written
as a matrix product of a gathered array moves that array twice, and it is several times as
large as the image; these kernels (Pallas, compiled by Triton) load each neighbourhood from
the image itself, through the cache. All sums are in a fixed order: the same bits at every
call. Products are in the precision that `jax_default_matmul_precision` says: by default
TF32 of float32, accumulated in float32.

The three are the one trilinear form Σ y[b,i,j,f] x[b,2i-1+r,2j-1+c,d] k[r,c,d,f] with one
factor left out, so each is differentiated by the other two. Forward mode is not defined.
"""

import functools
import math
import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

VERSION = 2  # of the order in which they sum: it is part of what a run's bits depend on
_TAPS = 4  # kernel rows, and columns
_TILE = 16_384  # bytes of the pixels of one product, several of which share a processor
_FEWEST_ROWS, _MOST_ROWS = 64, 128  # pixels of one product; the matrix units take 64 at once
_ROWS_SUMMED = 32  # pixels that one product of `kernel_gradient` contracts
_LONGEST_RUN = 128  # channels of the neighbours in a row that it multiplies at once
_MOST_SPLITS = 16  # programs that share its sum over a batch
_WARPS = 4
_STAGES = 3  # loads under way beside a product, and one
_LEAST_CAPABILITY = 8.0  # Ampere: Triton's
_CHANNELS = (16, 32, 64)  # Triton: powers of two, from 16 on; 128 do not fit a processor


def supports(image: tuple[int, ...], features: int) -> bool:
    """Says whether there are kernels for images `[B, H, W, C]` of features `[B, H/2, W/2, F]`."""
    *pixels, channels = image
    most = math.prod(pixels) * max(channels, features)  # of which each has a number of 32 bits
    return channels in _CHANNELS and features in _CHANNELS and most < 2**31


def run_on(device: jax.Device) -> bool:
    """Says whether they are compiled for a device, or are interpreted on it: on a CPU."""
    capability = str(getattr(device, "compute_capability", ""))
    nvidia = re.fullmatch(r"\d+\.\d+", capability)  # AMD's is gfx90a and the like
    return device.platform == "cpu" or bool(nvidia and float(capability) >= _LEAST_CAPABILITY)


@jax.custom_vjp
def correlate(x: Array, kernel: Array) -> Array:
    """`layers.convolution`: `[B, H, W, C]` and `[4, 4, C, F]` -> `[B, H/2, W/2, F]`."""
    batch, height, width, channels = x.shape
    rows, columns, features = height // 2, width // 2, kernel.shape[-1]
    size = _num_rows(channels, x.dtype)
    y = _call(
        functools.partial(_correlate, (batch, height, width), size),
        (_num_blocks(batch * rows * columns, size),),
        ((batch * rows * columns, features), x.dtype),
        x.reshape(-1),
        # The contracted axis comes last: the matrix units read TF32 in no other order.
        kernel.reshape(-1, channels, features).swapaxes(1, 2),
    )
    return y.reshape(batch, rows, columns, features)


@jax.custom_vjp
def spread(y: Array, kernel: Array) -> Array:
    """The transpose of `correlate` in x: `[B, h, w, F]`, `[4, 4, C, F]` -> `[B, 2h, 2w, C]`."""
    batch, rows, columns, features = y.shape
    channels = kernel.shape[2]
    size = _num_rows(features, y.dtype)
    x = _call(
        functools.partial(_spread, (batch, rows, columns), size),
        (_num_blocks(batch * rows * columns, size), 4),
        ((4 * batch * rows * columns, channels), y.dtype),
        y.reshape(-1),
        kernel.reshape(-1, channels, features),
    )
    return x.reshape(batch, 2 * rows, 2 * columns, channels)


@jax.custom_vjp
def kernel_gradient(x: Array, y: Array) -> Array:
    """The transpose of `correlate` in the kernel: x and y as there -> `[4, 4, C, F]`."""
    batch, height, width, channels = x.shape
    features = y.shape[-1]
    pixels = min(_TAPS, _LONGEST_RUN // channels)
    groups = _TAPS * _TAPS // pixels
    num_rows = batch * y.shape[1] * y.shape[2]
    splits = min(_MOST_SPLITS, _num_blocks(num_rows, 4 * _ROWS_SUMMED))
    partial_sums = _call(
        functools.partial(_sum_products, (batch, height, width), pixels),
        (groups, splits),
        ((splits, groups, pixels * channels, features), jnp.float32),
        x.reshape(-1),
        y.reshape(-1),
    )
    total = partial_sums.sum(axis=0).astype(x.dtype)
    return total.reshape(_TAPS, _TAPS, channels, features)


def _num_rows(channels: int, dtype: Any) -> int:
    """Pixels whose channels are a tile."""
    return max(_FEWEST_ROWS, min(_MOST_ROWS, _TILE // (channels * jnp.dtype(dtype).itemsize)))


def _differentiate(
    function: Any, first: Callable[..., Array], second: Callable[..., Array]
) -> None:
    """Gives a bilinear function its gradients: of the two factors and the cotangent."""

    def forward(a: Array, b: Array) -> tuple[Array, tuple[Array, Array]]:
        return function(a, b), (a, b)

    def backward(factors: tuple[Array, Array], cotangent: Array) -> tuple[Array, Array]:
        a, b = factors
        return first(a, b, cotangent), second(a, b, cotangent)

    function.defvjp(forward, backward)


_differentiate(correlate, lambda _, k, g: spread(g, k), lambda x, _, g: kernel_gradient(x, g))
_differentiate(spread, lambda _, k, g: correlate(g, k), lambda y, _, g: kernel_gradient(g, y))
_differentiate(kernel_gradient, lambda _, y, g: spread(y, g), lambda x, _, g: correlate(x, g))


def _num_blocks(rows: int, size: int) -> int:
    return math.ceil(rows / size)


def _call(
    body: Callable[..., None], grid: tuple[int, ...], out: tuple[Any, Any], *operands: Array
) -> Array:
    """Runs a kernel over a grid; elsewhere than on a GPU it is interpreted, for tests."""
    from jax.experimental import pallas as pl
    from jax.experimental.pallas import triton

    shape, dtype = out
    call = functools.partial(
        pl.pallas_call, body, out_shape=jax.ShapeDtypeStruct(shape, dtype), grid=grid
    )
    compiled = call(compiler_params=triton.CompilerParams(num_warps=_WARPS, num_stages=_STAGES))
    result: Array = lax.platform_dependent(*operands, cuda=compiled, default=call(interpret=True))
    return result


def _divide(number: Array, divisor: int) -> tuple[Array, Array]:
    """Quotient and remainder of numbers that are not negative, in an instruction or two each."""
    by = lax.full_like(number, divisor)
    return lax.div(number, by), lax.rem(number, by)


def _pixels(block: Any, size: int, image: tuple[int, int, int]) -> tuple[Array, ...]:
    """Numbers, positions and validity of a block of pixels of `[B, rows, columns]`."""
    batch, rows, columns = image
    number = block * size + jnp.arange(size, dtype=jnp.int32)
    line, column = _divide(number, columns)
    return number, *_divide(line, rows), column, number < batch * rows * columns


def _load(ref: Any, first: Array, lanes: int, mask: Array) -> Array:
    """Reads `[M, lanes]`, each row from its first number on; zeros where the mask is false."""
    from jax.experimental.pallas import triton

    return triton.load(ref.at[first[:, None] + jnp.arange(lanes)[None]], mask=mask, other=0.0)


def _store(ref: Any, row: Array, mask: Array, value: Array) -> None:
    """Writes rows `[M, C]` but for those that the mask leaves out, which may lie outside."""
    from jax.experimental.pallas import triton

    entries = ref.at[row[:, None], jnp.arange(ref.shape[-1])[None]]
    triton.store(entries, value.astype(ref.dtype), mask=mask[:, None])


def _product(a: Array, b: Array, contract: int) -> Array:
    """The product of two matrices over the same axis of both."""
    dimensions = (((contract,), (contract,)), ((), ()))
    return lax.dot_general(a, b, dimensions, preferred_element_type=jnp.float32)


def _correlate(image: tuple[int, int, int], size: int, x_ref: Any, k_ref: Any, y_ref: Any) -> None:
    """One block of y's pixels: 16 products of `[M, C]` with `[F, C]`."""
    from jax.experimental import pallas as pl

    batch, height, width = image
    taps, features, channels = k_ref.shape
    small = (batch, height // 2, width // 2)
    number, b, i, j, valid = _pixels(pl.program_id(0), size, small)

    def add(tap: Array, total: Array) -> Array:
        row, column = _divide(tap, _TAPS)
        r, c = 2 * i - 1 + row, 2 * j - 1 + column
        inside = valid & (r >= 0) & (r < height) & (c >= 0) & (c < width)
        first = ((b * height + r) * width + c) * channels
        return total + _product(_load(x_ref, first, channels, inside[:, None]), k_ref[tap], 1)

    zeros = jnp.zeros((size, features), jnp.float32)
    _store(y_ref, number, valid, lax.fori_loop(0, taps, add, zeros))


def _spread(image: tuple[int, int, int], size: int, y_ref: Any, k_ref: Any, x_ref: Any) -> None:
    """The pixels (2i + p, 2j + q) of x for a block of pixels (i, j) of y: four products.

    Pixel 2i + p meets kernel row 1 - p + 2a with y's row i + p - a, for a of 0 and 1.
    """
    from jax.experimental import pallas as pl

    _, rows, columns = image
    _, channels, features = k_ref.shape
    p, q = _divide(pl.program_id(1), 2)
    _, b, i, j, valid = _pixels(pl.program_id(0), size, image)

    def add(neighbour: Array, total: Array) -> Array:
        a, e = _divide(neighbour, 2)
        r, c = i + p - a, j + q - e
        inside = valid & (r >= 0) & (r < rows) & (c >= 0) & (c < columns)
        first = ((b * rows + r) * columns + c) * features
        kernel = k_ref[(1 - p + 2 * a) * _TAPS + 1 - q + 2 * e]
        return total + _product(_load(y_ref, first, features, inside[:, None]), kernel, 1)

    total = lax.fori_loop(0, 4, add, jnp.zeros((size, channels), jnp.float32))
    _store(x_ref, (b * 2 * rows + 2 * i + p) * 2 * columns + 2 * j + q, valid, total)


def _sum_products(
    image: tuple[int, int, int], pixels: int, x_ref: Any, y_ref: Any, out_ref: Any
) -> None:
    """A row of taps' sums of x's pixels times y's `[P C, F]`, over one share of the batch."""
    from jax.experimental import pallas as pl

    batch, height, width = image
    small = (batch, height // 2, width // 2)
    splits, _, run, features = out_ref.shape
    channels = run // pixels
    group, share = pl.program_id(0), pl.program_id(1)
    blocks = _num_blocks(_num_blocks(math.prod(small), _ROWS_SUMMED), splits)
    row, place = _divide(group, _TAPS // pixels)
    neighbour, _ = _divide(jnp.arange(run, dtype=jnp.int32), channels)

    def add(block: Array, total: Array) -> Array:
        number, b, i, j, valid = _pixels(share * blocks + block, _ROWS_SUMMED, small)
        cotangent = _load(y_ref, number * features, features, valid[:, None])
        r, c = 2 * i - 1 + row, 2 * j - 1 + place * pixels
        columns = c[:, None] + neighbour[None]
        inside = (valid & (r >= 0) & (r < height))[:, None] & (columns >= 0) & (columns < width)
        x = _load(x_ref, ((b * height + r) * width + c) * channels, run, inside)
        return total + _product(x, cotangent, 0)

    zeros = jnp.zeros((run, features), jnp.float32)
    out_ref[share, group] = lax.fori_loop(0, blocks, add, zeros)
