"""Functions over devices, whose compiled programs go when they go."""

import contextlib
import weakref
from collections.abc import Callable
from typing import Any

import jax


def over_devices(
    function: Callable[..., Any], devices: tuple[jax.Device, ...], **options: Any
) -> Any:
    """A function by `jax.pmap` that lets go of its programs once nothing holds it.

    JAX keeps what it compiled for a function as long as this lives, and by it the function
    itself: for ever. A process that trained some 190 programs had used up the memory mappings
    that Linux grants, and was aborted.

    Args:
      function: One made for this call: its programs go with the result.
      devices: Where it runs.
      **options: Further ones of `jax.pmap`.
    """
    mapped = jax.pmap(function, devices=devices, **options)
    weakref.finalize(mapped, _forget, function).atexit = False
    return mapped


def _forget(function: Callable[..., Any]) -> None:
    with contextlib.suppress(ImportError, AttributeError):  # JAX has no public way
        from jax._src import pmap

        pmap._cached_shard_map.evict_function(function)
