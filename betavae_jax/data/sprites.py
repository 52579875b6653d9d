"""The images of dSprites, drawn from their geometry.

The published images were drawn by a GPU as polygons without antialiasing: vertices
rounded to 1/256 px, and a pixel is lit where its centre is inside. All of that is whole
numbers in units of 1/256 px, so it can be drawn again exactly. Of 64,834 published images
64,825 come out pixel for pixel, and the others differ in one pixel each.

References:
  Matthey, Higgins, Hassabis and Lerchner, "dSprites: Disentanglement testing Sprites
  dataset", 2017.
"""

import functools

import numpy as np

FACTOR_NAMES = ("shape", "scale", "orientation", "posX", "posY")
FACTOR_SIZES = (3, 6, 40, 32, 32)  # an image's index is row-major over these
IMAGE_SIZE = 64  # pixels a side
PACKED_SIZE = IMAGE_SIZE**2 // 8  # bytes of an image as `np.packbits` packs it
NUM_POSITIONS = FACTOR_SIZES[3] * FACTOR_SIZES[4]
NUM_SPRITES = FACTOR_SIZES[0] * FACTOR_SIZES[1] * FACTOR_SIZES[2]
NUM_IMAGES = NUM_SPRITES * NUM_POSITIONS

_GRID = 256  # steps of a vertex in a pixel
_UNIT = 0.3 * IMAGE_SIZE  # length in pixels of a shape's unit at scale 1
_SCALES = np.linspace(0.5, 1, FACTOR_SIZES[1])
_ANGLES = np.linspace(0, 2 * np.pi, FACTOR_SIZES[2])  # both ends: the last repeats the first
_POSITIONS = IMAGE_SIZE / 4 + IMAGE_SIZE / 2 * np.linspace(0, 1, FACTOR_SIZES[3])
_CENTRES = _GRID * np.arange(IMAGE_SIZE) + _GRID // 2  # where pixels are sampled
# SUFFIXES[c] lights the columns from c on: a row's first column is its highest bit
_SUFFIXES = np.array([2 ** (IMAGE_SIZE - c) - 1 for c in range(IMAGE_SIZE + 1)], np.uint64)


def draw_sprite(sprite: int) -> np.ndarray:
    """Draws one shape, scale and orientation at all positions.

    Args:
      sprite: a number below 720, row-major over shape, scale and orientation.

    Returns:
      `[1024, 512]` uint8, row-major over posX and posY, packed as by `np.packbits`.
    """
    x, y = (_vertices(along) for along in _outline(sprite))  # [32, V] each
    rows, edges = _crossed_rows(y)
    columns = _crossed_columns(x, y, rows, edges)  # [32, C]
    # inside, by the even-odd rule, is right of an odd number of crossings
    lit = np.zeros((FACTOR_SIZES[3], FACTOR_SIZES[4] * IMAGE_SIZE), np.uint64)
    first = np.flatnonzero(np.diff(rows, prepend=-1))
    lit[:, rows[first]] = np.bitwise_xor.reduceat(_SUFFIXES[columns], first, axis=1)
    return lit.astype(">u8").view(np.uint8).reshape(NUM_POSITIONS, PACKED_SIZE)


@functools.cache
def _shapes() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The outlines `[2, V]` of square, ellipse and heart; x to the right, y down, unit size."""
    square = np.array([[-0.5, 0.5, 0.5, -0.5], [-0.5, -0.5, 0.5, 0.5]])
    t = 2 * np.pi * np.arange(100) / 100
    ellipse = np.stack([0.5 * 1.33 * np.cos(t), 0.5 / 1.33 * np.sin(t)])
    t = 2 * np.pi * np.arange(150) / 150
    down = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    heart = np.stack([0.5 * np.sin(t) ** 3, -down / 29 - 0.075])
    return square, ellipse, heart


def _outline(sprite: int) -> np.ndarray:
    """A sprite's vertices `[2, V]` in pixels around its centre; it turns anticlockwise."""
    shape, scale, angle = np.unravel_index(sprite, FACTOR_SIZES[:3])
    cosine, sine = np.cos(_ANGLES[angle]), np.sin(_ANGLES[angle])
    x, y = _shapes()[shape]
    turned = np.stack([cosine * x + sine * y, cosine * y - sine * x])
    return np.asarray(_UNIT * _SCALES[scale] * turned)


def _vertices(offsets: np.ndarray) -> np.ndarray:
    """`[V]` pixels from the centre -> `[32, V]` int64 in steps of 1/256 px, at each position."""
    # the positions are 32/31 px apart, so every one of them rounds anew
    return np.rint(_GRID * (_POSITIONS[:, None] + offsets)).astype(np.int64)


def _crossed_rows(y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Finds the edges `[C]` that cross the centres of the rows `[C]`, sorted by row.

    Rows count on over the images at all posY. A centre at the height of a vertex counts as
    above it, so that the bottom edge is inside and the top edge is not.
    """
    above = y[:, None, :] < _CENTRES[:, None]  # [32, 64, V]
    crossed = above != np.roll(above, -1, axis=2)
    rows, edges = np.nonzero(crossed.reshape(-1, y.shape[1]))
    return rows, edges


def _crossed_columns(
    x: np.ndarray, y: np.ndarray, rows: np.ndarray, edges: np.ndarray
) -> np.ndarray:
    """The first column `[32, C]` whose centre is not left of each crossing, at each posX."""
    position, row = np.divmod(rows, IMAGE_SIZE)
    height = (np.roll(y, -1, axis=1) - y)[position, edges]
    fallen = _CENTRES[row] - y[position, edges]
    width = np.roll(x, -1, axis=1) - x
    # whole numbers far below 2^53: the quotient is whole exactly where a centre is on the edge
    scaled = (x - _GRID // 2)[:, edges] * height + width[:, edges] * fallen
    return np.ceil(scaled / (_GRID * height)).astype(np.int64)
