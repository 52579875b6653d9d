"""The memory of a CPU: what there is, what a program takes, and what is refused."""

import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from betavae_jax import memory
from betavae_jax.memory import (
    TooLargeError,
    available_bytes,
    check_memory,
    ran_out_of_memory,
)

MEMINFO = "MemTotal:       2000 kB\nMemAvailable:   1000 kB\nSwapFree:          0 kB\nHuge:   7\n"
STAT_1 = "cache 9\ntotal_active_file 50\ntotal_inactive_file 25\n"
STAT_2 = "anon 9\nactive_file 40\ninactive_file 25\nslab_reclaimable 10\nslab 19\n"
SWAP = {"proc/meminfo": MEMINFO.replace("     0 kB", "    10 kB")}


def write(root, files):
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


def group(folder, limit, used, *, version, swap=None):
    names = {1: ("memory.limit_in_bytes", "memory.usage_in_bytes"),
             2: ("memory.max", "memory.current")}[version]  # fmt: skip
    folder = f"sys/fs/cgroup/{folder}"
    stat = {f"{folder}/memory.stat": {1: STAT_1, 2: STAT_2}[version]}
    said = dict(zip(names, (limit, used), strict=True))
    if swap:
        said |= {"memory.swap.max": swap[0], "memory.swap.current": swap[1]}
    return {f"{folder}/{name}": f"{value}\n" for name, value in said.items()} | stat


SAID = {
    "a machine alone": ({}, 1_024_000),
    "swap": (SWAP, 1_034_240),
    "a group with some swap": (
        {**SWAP, "proc/self/cgroup": "0::/a\n",
         **group("a", 1000, 400, version=2, swap=(300, 100))},
        875,
    ),
    "a group with all swap": (
        {**SWAP, "proc/self/cgroup": "0::/a\n",
         **group("a", 1000, 400, version=2, swap=("max", 100))},
        10_915,
    ),
    "a group without swap, that holds another": (
        {**SWAP, "proc/self/cgroup": "0::/a/b\n",
         **group("a/b", 1000, 400, version=2, swap=("max", 0)),
         **group("a", "max", 400, version=2, swap=(0, 0))},
        675,
    ),
    "a group that does not speak of swap": (
        {**SWAP, "proc/self/cgroup": "0::/a\n", **group("a", 1000, 400, version=2)},
        675,
    ),
    "swap beside a group of the first version": (
        {**SWAP, "proc/self/cgroup": "4:memory:/a\n", **group("memory/a", 1000, 300, version=1),
         **group("memory", 2**63 - 4096, 9, version=1)},
        775,
    ),
    "swap where the first version sets no limit": (
        {**SWAP, "proc/self/cgroup": "4:memory:/\n",
         **group("memory", 2**63 - 4096, 9, version=1)},
        1_034_240,
    ),
    "a group": (
        {"proc/self/cgroup": "0::/a/b\n", **group("a/b", 1000, 400, version=2)},
        675,  # what is cached goes back
    ),
    "a group that holds another": (
        {"proc/self/cgroup": "0::/a/b\n", **group("a/b", "max", 9, version=2),
         **group("a", 1000, 500, version=2)},
        575,
    ),
    "a container that is shown its own group alone": (
        {"proc/self/cgroup": "0::/\n", **group(".", 1000, 400, version=2)},
        675,
    ),
    "a group of the first version": (
        {"proc/self/cgroup": "5:cpu,cpuacct:/x\n4:memory:/a\n0::/\n",
         **group("memory/a", 1000, 300, version=1), **group("memory", 2**63 - 4096, 9, version=1)},
        775,
    ),
    "a container of the first version": (
        {"proc/self/cgroup": "4:memory:/docker/0123\n",
         **group("memory", 1000, 300, version=1)},
        775,
    ),
    "a group that is not of memory": (
        {"proc/self/cgroup": "4:cpu:/a\n", **group("memory/a", 1000, 300, version=1)},
        1_024_000,
    ),
    "a group that is full": (
        {"proc/self/cgroup": "0::/a\n", **group("a", 1000, 2000, version=2)},
        0,
    ),
    "a group that is cached alone": (
        {"proc/self/cgroup": "0::/a\n", **group("a", 1000, 60, version=2)},
        1000,
    ),
    "no limit": ({"proc/self/cgroup": "0::/a\n", **group("a", "max", 400, version=2)}, 1_024_000),
    "a limit without its use": (
        {"proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/memory.max": "1000"},
        1_024_000,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SAID)
def test_what_a_process_may_still_take(name, tmp_path):
    files, bytes_left = SAID[name]
    root = write(tmp_path, {"proc/meminfo": MEMINFO, **files})
    assert available_bytes(root) == bytes_left


def test_a_system_that_does_not_say_refuses_nothing(outer, tmp_path, monkeypatch):
    assert available_bytes(tmp_path) is None
    monkeypatch.setattr(memory, "available_bytes", lambda: None)
    check_memory(*outer, jax.devices()[:1])


def test_a_group_is_enough(tmp_path):
    root = write(tmp_path, {"proc/self/cgroup": "0::/\n", **group(".", 1000, 400, version=2)})
    assert available_bytes(root) == 675


def test_this_machine_says_what_it_has():
    if sys.platform != "linux":
        pytest.skip("says it elsewhere")
    assert available_bytes() > 1e6


@pytest.fixture
def outer():
    """A function whose result is 4 MB, and whose argument is 4 KB."""
    return jax.jit(lambda x: jnp.outer(jnp.sin(x), x)), (jnp.ones(1_000),)


def left(monkeypatch, *bytes_left):
    """Simulates a machine that has so much memory, each time it is asked."""
    answers = [*bytes_left]
    monkeypatch.setattr(
        memory, "available_bytes", lambda: answers.pop(0) if len(answers) > 1 else answers[0]
    )
    monkeypatch.setattr(memory, "_SECONDS_TO_SETTLE", (0.0, 0.0))


def test_a_program_that_does_not_fit_is_refused_in_a_line(outer, monkeypatch):
    left(monkeypatch, 3_000_000)
    with pytest.raises(TooLargeError) as refused:
        check_memory(*outer, jax.devices()[:1])
    assert str(refused.value) == (
        "expected 0.004 GB of memory, which training takes on 1 CPU device; got 0.003 GB "
        "(a smaller batch_size; BETAVAE_CHECK_MEMORY=0 tries all the same)"
    )
    check_memory(*outer, [types.SimpleNamespace(platform="gpu")])  # it has a memory of its own
    monkeypatch.setenv("BETAVAE_CHECK_MEMORY", "0")
    check_memory(*outer, jax.devices()[:1])


def test_what_each_device_takes_counts(monkeypatch):
    on_each = jax.pmap(lambda x: jnp.outer(jnp.sin(x), x))  # 4 MB
    left(monkeypatch, 8_100_000)
    check_memory(on_each, (jnp.ones((2, 1_000)),), jax.devices())
    left(monkeypatch, 7_900_000)
    with pytest.raises(TooLargeError, match=r"expected 0\.008 GB .* on 2 CPU devices"):
        check_memory(on_each, (jnp.ones((2, 1_000)),), jax.devices())


def test_what_is_still_computed_is_waited_for(outer, monkeypatch):
    done = []

    def ready(arguments):
        done.append(arguments)
        return arguments

    def bytes_left():
        assert done == [outer[1]]
        return 5_000_000

    monkeypatch.setattr(jax, "block_until_ready", ready)
    monkeypatch.setattr(memory, "available_bytes", bytes_left)
    check_memory(*outer, jax.devices()[:1])
    assert done


@pytest.mark.parametrize(
    ("said", "out"),
    [
        ("RESOURCE_EXHAUSTED: Out of memory allocating 1 bytes.", True),
        ("RESOURCE_EXHAUSTED: Shared memory size limit exceeded: requested 294912", False),
        ("INTERNAL: out of luck", False),
    ],
)
def test_a_kernel_that_a_card_refuses_is_not_out_of_memory(said, out):
    assert ran_out_of_memory(jax.errors.JaxRuntimeError(said)) == out


def test_the_devices_share_one_memory_and_fewer_are_advised_where_they_fit(outer, monkeypatch):
    left(monkeypatch, 6_000_000)
    check_memory(*outer, jax.devices()[:1])
    with pytest.raises(TooLargeError, match=r"on 2 CPU devices; .*; JAX_NUM_CPU_DEVICES=1 trains"):
        check_memory(*outer, jax.devices()[:2])


@pytest.mark.parametrize(
    ("number", "said"),
    [(0, "0 GB"), (3_141_592, "0.00314 GB"), (22_864_000_000, "22.9 GB"),
     (26_908_300_000_000, "26,900 GB")],
)  # fmt: skip
def test_bytes_are_said_in_three_digits(number, said):
    assert memory._gigabytes(number) == said


def test_what_goes_back_late_is_waited_for(outer, monkeypatch):
    left(monkeypatch, 3_000_000, 5_000_000)
    check_memory(*outer, jax.devices()[:1])


def test_what_is_donated_is_not_counted_twice(monkeypatch):
    state = jnp.ones((1_000, 1_000))
    step = jax.jit(lambda x, y: x + y, donate_argnums=0)
    left(monkeypatch, 1_000_000)
    check_memory(step, (state, jnp.float32(1)), jax.devices()[:1])
    assert step(state, jnp.float32(1))[0, 0] == 2


def test_the_check_compiles_what_the_call_then_runs(outer, caplog):
    function, arguments = outer
    with jax.log_compiles(), caplog.at_level("WARNING", "jax"):
        check_memory(function, arguments, jax.devices()[:1])
        result = function(*arguments)
    compiled = [r.getMessage() for r in caplog.records if "XLA compilation" in r.getMessage()]
    assert len(compiled) == 1
    np.testing.assert_allclose(result[0], np.full(1_000, np.sin(1.0)), rtol=1e-6)
