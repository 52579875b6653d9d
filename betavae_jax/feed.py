"""What the compiled program reads: data that stays on the devices, or parts that take turns."""

import concurrent.futures
import math
from collections.abc import Callable
from typing import NamedTuple

import jax

from betavae_jax.data.shards import Shards, shard_at
from betavae_jax.population import replicate
from betavae_jax.types import Arrays


class Feed(NamedTuple):
    """The data of each training step."""

    arrays: Callable[[int], Arrays]  # step -> arrays placed on the devices
    until: Callable[[int], float]  # step -> the first step with other arrays, or infinity
    close: Callable[[], None]


def resident(arrays: Arrays) -> Feed:
    """Feeds the same placed arrays at every step."""
    return Feed(lambda _: arrays, lambda _: math.inf, lambda: None)


def taking_turns(shards: Shards, devices: tuple[jax.Device, ...]) -> Feed:
    """Feeds the parts of a set in turn; the next part is placed while one serves.

    Args:
      shards: The parts.
      devices: Where they go, each part on every device.

    Returns:
      The feed. The part of a step depends on the step alone.
    """
    worker = concurrent.futures.ThreadPoolExecutor(1, "betavae-feed")
    placed: dict[int, concurrent.futures.Future[Arrays]] = {}  # by turn

    def place(turn: int) -> Arrays:
        number = shard_at(shards, turn * shards.steps)
        return jax.block_until_ready(replicate(shards.load(number), devices))

    def ask(turn: int) -> None:
        if turn not in placed:
            placed[turn] = worker.submit(place, turn)

    def arrays(step: int) -> Arrays:
        turn = step // shards.steps
        for old in [t for t in placed if t not in (turn, turn + 1)]:
            del placed[old]
        ask(turn)
        current = placed[turn].result()
        ask(turn + 1)
        return current

    def until(step: int) -> float:
        return (step // shards.steps + 1) * shards.steps

    def close() -> None:
        worker.shutdown(wait=True, cancel_futures=True)
        placed.clear()

    return Feed(arrays, until, close)
