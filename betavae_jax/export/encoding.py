"""A whole set through an encoder and into a file, a batch at a time."""

import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from betavae_jax.checks import InputError
from betavae_jax.data import DATASETS, load_dataset
from betavae_jax.data.files import expand_user
from betavae_jax.data.pictures import Look, check_look
from betavae_jax.data.streams import Chunk, Stream, are_binary, stream_path, stream_splits
from betavae_jax.export.code_files import Codes, Columns, check_code_file, open_codes
from betavae_jax.export.description import settings_of
from betavae_jax.representation import Representation
from betavae_jax.runs.settings import Settings
from betavae_jax.types import Array, Params, Posterior, Shape

_ROWS_AT_ONCE = 256


def open_input(
    representation: Representation, name: str | None, *, skip_bad: bool | None = None
) -> list[Stream]:
    """Opens what is to be encoded, prepared as the run's own examples were.

    Pictures in a folder get the run's size and channels.

    Args:
      representation: The run.
      name: A file, a folder, a data set such as `tfds:mnist`; None for the run's own data set,
        whole and in its own order.
      skip_bad: Whether pictures in a folder that cannot be read are left out, with a warning each;
        None for what the run's own settings say.

    Returns:
      The training split, and the test split where the set has one.

    Raises:
      InputError: If there is no such input, or its examples have another shape than the run's.
    """
    settings = settings_of(representation)
    path = expand_user(name or "")
    if name and path.exists():
        if skip_bad is None:
            skip_bad = bool(settings.data.get("skip_bad", False))
        look = _look(settings, representation.image_shape)
        streams = stream_path(path, look, skip_bad=skip_bad)
    else:
        streams = _stream_named(settings, name)
    for stream in streams:
        if stream.shape != representation.image_shape:
            raise InputError(
                f"expected examples of shape {list(representation.image_shape)}, as those that the"
                f" run was trained on; got {list(stream.shape)} in {stream.source}"
            )
    return streams


def _look(settings: Settings, x_shape: Shape) -> Look | None:
    """How pictures become the run's examples; None where they cannot."""
    if len(x_shape) != 3 or x_shape[0] != x_shape[1] or x_shape[2] not in (1, 3):
        return None
    return check_look(x_shape[0], x_shape[2], settings.data.get("image_fit", "crop"))


def _stream_named(settings: Settings, name: str | None) -> list[Stream]:
    name = name or settings.dataset
    kind = name.partition(":")[0]
    if kind not in DATASETS:
        raise InputError(
            "expected input to be a file, a folder, or a data set such as tfds:mnist;"
            f" got {name}, which does not exist"
        )
    own = kind == settings.dataset.partition(":")[0]
    return stream_splits(load_dataset(name, **(settings.data if own else {})), name)


def count_examples(streams: Sequence[Stream]) -> int:
    """How many examples there are at most."""
    return sum(stream.num_examples for stream in streams)


def encode_to_file(
    representation: Representation,
    streams: Sequence[Stream],
    output: pathlib.Path,
    *,
    follow: Callable[[int], object] | None = None,
) -> int:
    """Encodes examples in their order into a file; neither is ever held whole.

    Args:
      representation: The run.
      streams: As `open_input` gives them.
      output: A `.npz`, `.csv` or `.parquet` file; see `code_files.open_codes`.
      follow: Called with the number of examples after each batch.

    Returns:
      How many examples there were.

    Raises:
      InputError: If an example is not as it should be; the file is then as it was before.
    """
    check_code_file(output)
    columns = Columns(
        representation.num_latents,
        streams[0].factor_names,
        has_names=any(stream.has_names for stream in streams),
        has_splits=len(streams) > 1,
    )
    total = 0
    with open_codes(output, columns) as write:
        for codes in _encode(representation, streams):
            write(codes)
            if follow:
                follow(len(codes.mean))
            total += len(codes.mean)
    return total


def _encode(representation: Representation, streams: Sequence[Stream]) -> Iterator[Codes]:
    """Encodes batches of one size; while one is computed, the next is read."""
    is_image = len(representation.image_shape) == 3
    encode = _make_encode(representation, 1.0 if is_image and are_binary(streams) else 255.0)
    waiting: tuple[Chunk, Stream, Posterior] | tuple[()] = ()
    for stream in streams:
        for chunk in stream.chunks(_ROWS_AT_ONCE):
            x = chunk.x if is_image else _vectors(chunk.x, representation)
            following = (chunk, stream, encode(representation.params, _fill(x)))
            if waiting:
                yield _fetch(*waiting)
            waiting = following
    if waiting:
        yield _fetch(*waiting)


def _make_encode(
    representation: Representation, divisor: float
) -> Callable[[Params, Any], Posterior]:
    """Compiles the encoder, of bytes from 0 to `divisor` or of what the model sees."""
    model = representation.model

    @jax.jit
    def encode(params: Params, x: Array) -> Posterior:
        x = x.astype(jnp.float32) / divisor if x.dtype == jnp.uint8 else x.astype(jnp.float32)
        return model.encode(params, x)

    return encode


def _vectors(x: Any, representation: Representation) -> np.ndarray:
    """Vectors as the run's own were standardised."""
    values, scale = np.asarray(x), representation.scale
    if scale is not None:
        values = scale.standardize(values)
    return values.astype(np.float32)


def _fill(x: Any) -> Any:
    """Repeats the last of too few rows on the host, so that one program serves all batches."""
    missing = _ROWS_AT_ONCE - len(x)
    if not missing or isinstance(x, jax.Array):
        return x
    return np.concatenate([x, np.repeat(x[-1:], missing, axis=0)])


def _fetch(chunk: Chunk, stream: Stream, posterior: Posterior) -> Codes:
    mean, log_variance = (np.asarray(leaf)[: len(chunk.x)] for leaf in posterior)
    if not (np.isfinite(mean).all() and np.isfinite(log_variance).all()):
        raise InputError(
            f"expected examples with finite codes in {stream.source}; got NaN or infinity"
        )
    return Codes(mean, log_variance, chunk.factors, chunk.names, stream.split)
