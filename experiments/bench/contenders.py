"""What can be measured: each entry makes a function that takes `count` steps."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

NUM_LATENTS = 10


class Contender(NamedTuple):
    """A contender that is ready: compiled, warmed up by its first call."""

    advance: Callable[[int], None]  # takes so many steps and waits for them
    facts: Mapping[str, Any] = {}  # what it knows of itself: bytes, FLOPs, seconds to compile
    granularity: int = 1  # it takes multiples of so many steps


def _ours(**options: Any) -> Contender:
    from experiments.bench.programs import make_product

    return make_product(**options)


def _loop(**options: Any) -> Contender:
    from experiments.bench.programs import make_loop

    return make_loop(**options)


def _part(**options: Any) -> Contender:
    from experiments.bench.parts import make_part

    return make_part(**options)


def _chunk(**options: Any) -> Contender:
    from experiments.bench.programs import make_chunk

    return make_chunk(**options)


def _rates(**options: Any) -> Contender:
    from experiments.bench.floors import measure_rates

    return Contender(lambda _: None, measure_rates(**options))


def _flax(*, steps_a_call: int = 1, batch_size: int = 64) -> Contender:
    from experiments.peers import flax_vae

    advance = flax_vae.make_step(batch_size, NUM_LATENTS, steps_a_call=steps_a_call)
    return Contender(advance, {}, steps_a_call)


def _torch(*, batch_size: int = 64, **options: Any) -> Contender:
    from experiments.peers.torch_vae import make_step

    return Contender(make_step(batch_size, NUM_LATENTS, **options))


MAKERS: dict[str, Callable[..., Contender]] = {
    "ours": _ours,
    "loop": _loop,
    "part": _part,
    "chunk": _chunk,
    "rates": _rates,
    "flax": _flax,
    "torch": _torch,
}


class Entry(NamedTuple):
    """A contender of a group: its maker, the maker's options, and its process's environment."""

    maker: str
    options: Mapping[str, Any] = {}
    xla_flags: str = ""
    environment: Mapping[str, str] = {}
    runs: int = 1  # that a step of it advances


ours = functools.partial(Entry, "ours")
loop = functools.partial(Entry, "loop")
