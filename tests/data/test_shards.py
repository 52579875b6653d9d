"""Parts of a large set: what they hold, their order, and the feed that turns them over."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from betavae_jax.checks import InputError
from betavae_jax.data.blobs import load_blobs
from betavae_jax.data.resident import Part, make_splits
from betavae_jax.data.shards import make_shards, shard_at, size_in_bytes
from betavae_jax.feed import resident, taking_turns

KEY = jax.random.key(0)
N = 23


def numbered(n=N):
    """Images that hold their own number."""
    images = np.broadcast_to(np.arange(n, dtype=np.uint8)[:, None, None, None], (n, 8, 8, 1))
    return make_splits(Part("here", images.copy(), np.zeros((n, 0), np.int32)), None, None).train


def numbers(data, arrays):
    count = arrays.images.shape[0]
    x = np.asarray(data.gather(arrays, jnp.arange(count), KEY))
    return np.round(x[:, 0, 0, 0] * 255).astype(int).tolist()


def test_a_set_that_fits_is_whole():
    data = numbered()
    assert make_shards(data, size_in_bytes(data.arrays), 4) == ()


def test_parts_hold_every_example_and_two_fit():
    data = numbered()
    budget = 16 * 64  # two parts of eight images
    shards = make_shards(data, budget, 4)
    parts = [shards.load(k) for k in range(shards.num_parts)]
    assert shards.num_parts == 3
    assert {size_in_bytes(part) for part in parts} == {size_in_bytes(shards.data.arrays)}
    assert 2 * size_in_bytes(parts[0]) <= budget
    held = list(itertools.chain.from_iterable(numbers(data, part) for part in parts))
    assert set(held) == set(range(N))
    assert len(held) == 24  # 3 × 8: one example serves twice
    assert shards.data.num_examples == N
    assert shards.steps == 2
    # Dealt at random: no part is a block of neighbours.
    assert all(np.ptp(numbers(data, part)) > 8 for part in parts)


def test_parts_are_even_and_serve_a_batch_that_is_not_full_too():
    shards = make_shards(numbered(), 20 * 64, 3)  # two parts of ten would fit
    assert (shards.num_parts, len(shards.load(2).images), shards.steps) == (3, 8, 3)


def test_draws_stay_within_a_part():
    shards = make_shards(numbered(), 16 * 64, 4)
    index = shards.data.draw(shards.data.arrays, KEY, (1, 500), shards.data.num_examples)
    assert set(np.unique(index)) == set(range(8))


def test_each_pass_takes_every_part_once_in_its_own_order():
    shards = make_shards(numbered(), 8 * 64, 4)
    steps, parts = shards.steps, shards.num_parts
    turns = [shard_at(shards, turn * steps) for turn in range(20 * parts)]
    passes = np.asarray(turns).reshape(20, parts)
    assert all(sorted(p) == list(range(parts)) for p in passes)
    assert len({tuple(p) for p in passes}) > 1
    assert [shard_at(shards, s) for s in range(steps)] == [turns[0]] * steps


def test_the_feed_gives_the_part_of_the_step_alone():
    shards = make_shards(numbered(), 16 * 64, 4)
    devices = tuple(jax.devices()[:2])
    feed = taking_turns(shards, devices)
    try:
        for step in [0, 1, 2, 3, 11, 4, 0]:
            arrays = feed.arrays(step)
            expected = shards.load(shard_at(shards, step))
            np.testing.assert_array_equal(arrays.images, expected.images)
            assert arrays.images.sharding.device_set == set(devices)
            assert feed.until(step) == (step // shards.steps + 1) * shards.steps
    finally:
        feed.close()


def test_the_next_part_is_placed_ahead():
    loaded = []
    shards = make_shards(numbered(), 16 * 64, 4)
    feed = taking_turns(
        shards._replace(load=lambda k: loaded.append(k) or shards.load(k)), (jax.devices()[0],)
    )
    feed.arrays(0)
    feed.close()  # waits for what has begun
    assert loaded[0] == shard_at(shards, 0)
    assert len(loaded) <= 2


def test_a_failed_load_reaches_the_caller():
    shards = make_shards(numbered(), 16 * 64, 4)

    def fail(number):
        raise OSError("the disk is gone")

    feed = taking_turns(shards._replace(load=fail), (jax.devices()[0],))
    with pytest.raises(OSError, match="the disk is gone"):
        feed.arrays(0)
    feed.close()


def test_resident_arrays_serve_for_ever():
    feed = resident({"x": 1})
    assert feed.arrays(5) == {"x": 1}
    assert feed.until(5) == float("inf")


def test_refusals():
    with pytest.raises(InputError, match="two parts of 32"):
        make_shards(numbered(), 16 * 64, 32)
    with pytest.raises(InputError, match="cannot be cut"):
        make_shards(load_blobs().train, 8, 1)
