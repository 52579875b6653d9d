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
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

_TAPS = 4  # kernel rows, and columns
_ROWS = 128  # pixels of the small image that one program computes
_ROWS_SUMMED = 64  # of them that one product of `kernel_gradient` contracts
_LARGEST_SUM = 4096  # entries of a kernel tap up to which a program sums a row of taps
_MOST_SPLITS = 16  # programs that share the sum over a batch
_CHANNELS = (16, 32, 64, 128)  # Triton: powers of two, and products no narrower than 16


def supports(channels: int, features: int) -> bool:
    """Says whether there are kernels for so many input and output channels."""
    return channels in _CHANNELS and features in _CHANNELS


@jax.custom_vjp
def correlate(x: Array, kernel: Array) -> Array:
    """`layers.convolution`: `[B, H, W, C]` and `[4, 4, C, F]` -> `[B, H/2, W/2, F]`."""
    batch, height, width, channels = x.shape
    rows, columns, features = height // 2, width // 2, kernel.shape[-1]
    body = functools.partial(_correlate, (batch, height, width))
    y = _call(
        body,
        (_num_blocks(batch * rows * columns, _ROWS),),
        ((batch * rows * columns, features), x.dtype),
        x.reshape(-1, channels),
        kernel.reshape(-1, channels, features),
    )
    return y.reshape(batch, rows, columns, features)


@jax.custom_vjp
def spread(y: Array, kernel: Array) -> Array:
    """The transpose of `correlate` in x: `[B, h, w, F]`, `[4, 4, C, F]` -> `[B, 2h, 2w, C]`."""
    batch, rows, columns, features = y.shape
    channels = kernel.shape[2]
    body = functools.partial(_spread, (batch, rows, columns))
    x = _call(
        body,
        (_num_blocks(batch * rows * columns, _ROWS), 4),
        ((4 * batch * rows * columns, channels), y.dtype),
        y.reshape(-1, features),
        kernel.reshape(-1, channels, features),
    )
    return x.reshape(batch, 2 * rows, 2 * columns, channels)


@jax.custom_vjp
def kernel_gradient(x: Array, y: Array) -> Array:
    """The transpose of `correlate` in the kernel: x and y as there -> `[4, 4, C, F]`."""
    batch, height, width, channels = x.shape
    features = y.shape[-1]
    num_rows = batch * y.shape[1] * y.shape[2]
    taps = _TAPS if channels * features <= _LARGEST_SUM else 1
    splits = min(_MOST_SPLITS, _num_blocks(num_rows, 4 * _ROWS_SUMMED))
    body = functools.partial(_sum_products, (batch, height, width), taps)
    partial_sums = _call(
        body,
        (_TAPS * _TAPS // taps, splits),
        ((splits, _TAPS * _TAPS, channels, features), jnp.float32),
        x.reshape(-1, channels),
        y.reshape(-1, features),
    )
    total = partial_sums.sum(axis=0).astype(x.dtype)
    return total.reshape(_TAPS, _TAPS, channels, features)


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
    compiled = call(compiler_params=triton.CompilerParams(num_warps=4, num_stages=2))
    result: Array = lax.platform_dependent(*operands, cuda=compiled, default=call(interpret=True))
    return result


def _pixels(block: Any, size: int, image: tuple[int, int, int]) -> tuple[Array, ...]:
    """Numbers, positions and validity of a block of pixels of `[B, rows, columns]`."""
    batch, rows, columns = image
    number = block * size + jnp.arange(size)
    return (
        number,
        number // (rows * columns),
        number // columns % rows,
        number % columns,
        (number < batch * rows * columns),
    )


def _entries(ref: Any, row: Array) -> Any:
    """Whole rows `[M, C]` of an array."""
    return ref.at[row[:, None], jnp.arange(ref.shape[-1])[None]]


def _load(ref: Any, row: Array, mask: Array) -> Array:
    """Reads rows `[M, C]`; zeros for those that the mask leaves out, which may lie outside."""
    from jax.experimental.pallas import triton

    return triton.load(_entries(ref, row), mask=mask[:, None], other=0.0)


def _store(ref: Any, row: Array, mask: Array, value: Array) -> None:
    from jax.experimental.pallas import triton

    triton.store(_entries(ref, row), value.astype(ref.dtype), mask=mask[:, None])


def _product(a: Array, b: Array, contract: tuple[int, int]) -> Array:
    dimensions = (((contract[0],), (contract[1],)), ((), ()))
    return lax.dot_general(a, b, dimensions, preferred_element_type=jnp.float32)


def _correlate(image: tuple[int, int, int], x_ref: Any, k_ref: Any, y_ref: Any) -> None:
    """One block of y's pixels: 16 products of `[M, C]` with `[C, F]`."""
    from jax.experimental import pallas as pl

    batch, height, width = image
    small = (batch, height // 2, width // 2)
    number, b, i, j, valid = _pixels(pl.program_id(0), _ROWS, small)
    total = jnp.zeros((_ROWS, y_ref.shape[-1]), jnp.float32)
    for tap in range(_TAPS * _TAPS):
        r, c = 2 * i - 1 + tap // _TAPS, 2 * j - 1 + tap % _TAPS
        inside = valid & (r >= 0) & (r < height) & (c >= 0) & (c < width)
        pixels = _load(x_ref, (b * height + r) * width + c, inside)
        total += _product(pixels, k_ref[tap], (1, 0))
    _store(y_ref, number, valid, total)


def _spread(image: tuple[int, int, int], y_ref: Any, k_ref: Any, x_ref: Any) -> None:
    """The pixels (2i + p, 2j + q) of x for a block of pixels (i, j) of y: four products.

    Pixel 2i + p meets kernel row 1 - p + 2a with y's row i + p - a, for a of 0 and 1.
    """
    from jax.experimental import pallas as pl

    _, rows, columns = image
    p, q = pl.program_id(1) // 2, pl.program_id(1) % 2
    _, b, i, j, valid = _pixels(pl.program_id(0), _ROWS, image)
    total = jnp.zeros((_ROWS, x_ref.shape[-1]), jnp.float32)
    for a, e in ((0, 0), (0, 1), (1, 0), (1, 1)):
        r, c = i + p - a, j + q - e
        inside = valid & (r >= 0) & (r < rows) & (c >= 0) & (c < columns)
        pixels = _load(y_ref, (b * rows + r) * columns + c, inside)
        tap = (1 - p + 2 * a) * _TAPS + 1 - q + 2 * e
        total += _product(pixels, k_ref[tap], (1, 1))
    _store(x_ref, (b * 2 * rows + 2 * i + p) * 2 * columns + 2 * j + q, valid, total)


def _sum_products(
    image: tuple[int, int, int], taps: int, x_ref: Any, y_ref: Any, out_ref: Any
) -> None:
    """Some taps' sums of x's pixels times y's `[C, F]`, over one share of the batch."""
    from jax.experimental import pallas as pl

    batch, height, width = image
    small = (batch, height // 2, width // 2)
    splits, _, channels, features = out_ref.shape
    first, share = pl.program_id(0) * taps, pl.program_id(1)
    blocks = _num_blocks(_num_blocks(math.prod(small), _ROWS_SUMMED), splits)

    def add(block: Array, totals: tuple[Array, ...]) -> tuple[Array, ...]:
        number, b, i, j, valid = _pixels(share * blocks + block, _ROWS_SUMMED, small)
        cotangent = _load(y_ref, number, valid)
        added = []
        for offset, total in enumerate(totals):
            tap = first + offset
            r, c = 2 * i - 1 + tap // _TAPS, 2 * j - 1 + tap % _TAPS
            inside = valid & (r >= 0) & (r < height) & (c >= 0) & (c < width)
            pixels = _load(x_ref, (b * height + r) * width + c, inside)
            added.append(total + _product(pixels, cotangent, (0, 0)))
        return tuple(added)

    zeros = (jnp.zeros((channels, features), jnp.float32),) * taps
    for offset, total in enumerate(lax.fori_loop(0, blocks, add, zeros)):
        out_ref[share, first + offset] = total
