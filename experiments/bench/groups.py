"""The groups of the suites: which contenders stand beside one another."""

from collections.abc import Callable
from typing import Any, NamedTuple

from experiments.bench.contenders import Entry, loop, ours
from experiments.bench.parts import PARTS

Known = dict[str, dict[str, Any]]  # the results of the groups before, by name

_GRAPHS = "--xla_gpu_enable_command_buffer=+WHILE,+CONDITIONAL"
_RUNS = 64  # of a population that fills an accelerator
CHUNKS = (("a chunk of 1 step", 1), ("a chunk of 11 steps", 11))


class Group(NamedTuple):
    """Contenders that are measured in turn, the first of them what the others are compared to."""

    name: str
    title: str
    entries: Callable[[Known], dict[str, Entry]]
    rounds: int = 5
    seconds: float = 0.4  # of a turn; a call on a CPU begins with memory that is new to it
    share: float = 60.0  # of a suite's time, beside the shares of the groups after it
    starts: int = 1  # of its processes


def fastest_form(known: Known, group: str, prefix: str = "ours, ", default: str = "auto") -> str:
    """The form of convolution of the fastest contender of a group that names one."""
    results = known.get(group, {})
    times = {
        name[len(prefix) :]: result["median_s"]
        for name, result in results.items()
        if name.startswith(prefix) and "median_s" in result
    }
    return min(times, key=lambda form: times[form]) if times else default


def _peers(*, on_gpu: bool) -> dict[str, Entry]:
    entries = {
        "PyTorch eager, NCHW": Entry("torch"),
        "PyTorch eager, channels_last": Entry("torch", {"channels_last": True}),
        "torch.compile, NCHW": Entry("torch", {"compiled": True}),
        "torch.compile, channels_last": Entry("torch", {"compiled": True, "channels_last": True}),
        "Flax, jitted step": Entry("flax"),
        "Flax, scan": Entry("flax", {"steps_a_call": 10}),
    }
    if on_gpu:
        entries["PyTorch, the step one CUDA graph"] = Entry(
            "torch", {"graph": True, "channels_last": True}
        )
    return entries


def _rates_cpu(_: Known) -> dict[str, Entry]:
    return {"rates": Entry("rates", {"size": 2048, "megabytes": 256})}


def _rates_gpu(_: Known) -> dict[str, Entry]:
    return {"rates": Entry("rates", {"size": 8192, "megabytes": 4096})}


def _one_run_cpu(_: Known) -> dict[str, Entry]:
    # Four steps of such a scan take ten seconds: it has a group of its own.
    peers = _peers(on_gpu=False)
    del peers["Flax, scan"]
    forms = ("split_matmul", "matmul", "space_to_depth")
    return {**{f"ours, {form}": ours({"form": form}) for form in forms}, **peers}


def _scan_cpu(_: Known) -> dict[str, Entry]:
    return {
        "ours, split_matmul": ours({"form": "split_matmul"}),
        "Flax, scan": Entry("flax", {"steps_a_call": 4}),
    }


def _one_run_gpu(_: Known) -> dict[str, Entry]:
    forms = ("matmul", "split_matmul", "kernels", "space_to_depth", "lax")
    return {
        **{f"ours, {form}": ours({"form": form}) for form in forms},
        **_peers(on_gpu=True),
    }


def _population_gpu(_: Known) -> dict[str, Entry]:
    entries = {}
    for precision in ("float32", "bf16"):
        for form in ("matmul", "split_matmul", "kernels", "space_to_depth", "lax"):
            if (precision, form) != ("bf16", "lax"):
                options = {"form": form, "dataset": "dsprites", "runs": _RUNS}
                entries[f"{precision}, {form}"] = ours(
                    {**options, "precision": precision}, runs=_RUNS
                )
    return entries


def _one_run_levers(known: Known) -> dict[str, Entry]:
    form = {"form": fastest_form(known, "one_run")}
    vectorized = {**form, "vectorized": True}
    return {
        "loop": loop(form),
        "a selection instead of a branch": loop(vectorized),
        "4 steps in the loop's body": loop({**form, "unroll": 4}),
        "selection, 4 steps": loop({**vectorized, "unroll": 4}),
        "command buffers +WHILE +CONDITIONAL": loop(form, xla_flags=_GRAPHS),
        "selection, command buffers +WHILE": loop(vectorized, xla_flags=_GRAPHS),
        "no command buffers": loop(form, xla_flags="--xla_gpu_enable_command_buffer="),
        "deterministic": loop(form, xla_flags="--xla_gpu_deterministic_ops=true"),
        "no Triton products": loop(form, xla_flags="--xla_gpu_enable_triton_gemm=false"),
        "bf16": loop({**form, "precision": "bf16"}),
        "float32 products": loop({**form, "matmul_precision": "highest"}),
        "rbg random numbers": loop({**form, "prng": "rbg"}),
    }


def _population_levers(known: Known) -> dict[str, Entry]:
    form = fastest_form(known, "population", "float32, ")
    half = fastest_form(known, "population", "bf16, ")
    options = {"form": form, "dataset": "dsprites", "runs": _RUNS}

    def variant(flags: str = "", **further: Any) -> Entry:
        return loop({**options, **further}, xla_flags=flags, runs=_RUNS)

    return {
        "loop": variant(),
        "V = 8": ours({**options, "vectorized_runs": 8}, runs=_RUNS),
        "V = 16": ours({**options, "vectorized_runs": 16}, runs=_RUNS),
        "V = 32": ours({**options, "vectorized_runs": 32}, runs=_RUNS),
        "deterministic": variant("--xla_gpu_deterministic_ops=true"),
        "bf16, deterministic": variant(
            "--xla_gpu_deterministic_ops=true", form=half, precision="bf16"
        ),
        "command buffers +WHILE": variant(_GRAPHS),
        "4 steps in the loop's body": variant(unroll=4),
        "no Triton products": variant("--xla_gpu_enable_triton_gemm=false"),
        "float32 products": variant(matmul_precision="highest"),
        "rbg random numbers": variant(prng="rbg"),
    }


def _parts(known: Known, *, runs: int) -> dict[str, Entry]:
    form = fastest_form(known, "population", "float32, ") if runs > 1 else fastest_form(
        known, "one_run"
    )  # fmt: skip
    options = {"form": form, "dataset": "dsprites", "runs": runs}
    whole = loop({**options, "vectorized": runs > 1}, runs=runs)
    parts = {p: Entry("part", {**options, "part": p}, runs=runs) for p in PARTS}
    chunks = {name: Entry("chunk", {**options, "steps": n}, runs=runs) for name, n in CHUNKS}
    return {"whole step": whole, **parts, **chunks}


def _scaling(known: Known, counts: tuple[int, ...], *, vectorized: bool) -> dict[str, Entry]:
    form = fastest_form(known, "population", "float32, ", fastest_form(known, "one_run"))
    options = {"form": form, "dataset": "dsprites"}
    return {
        f"{runs} runs": ours(
            {**options, "runs": runs, "vectorized_runs": runs if vectorized else 1}, runs=runs
        )
        for runs in counts
    }


GPU = (
    Group("rates", "Rates of this machine", _rates_gpu, share=20),
    Group("one_run", "One run", _one_run_gpu, share=70),
    Group("population", "64 runs on dSprites", _population_gpu),
    Group("one_run_levers", "One run, levers", _one_run_levers, share=80),
    Group("population_levers", "64 runs on dSprites, levers", _population_levers, 4, share=80),
    Group(
        "parts_64",
        "Parts of a step of 64 runs",
        lambda known: _parts(known, runs=_RUNS),
        4,
        share=40,
    ),
    Group(
        "parts_1", "Parts of a step of one run", lambda known: _parts(known, runs=1), 4, share=40
    ),
    Group(
        "scaling",
        "Population scaling, V = R",
        lambda known: _scaling(known, (1, 2, 4, 8, 16, 32, 64, 128), vectorized=True),
        3,
    ),
    Group(
        "scaling_in_turn",
        "Population scaling, V = 1",
        lambda known: _scaling(known, (1, 4, 16, 64), vectorized=False),
        3,
        share=40,
    ),
)
CPU = (
    Group("rates", "Rates of this machine", _rates_cpu, share=15),
    Group("one_run", "One run", _one_run_cpu, 9, 1.0, share=200, starts=3),
    Group("parts_1", "Parts of a step", lambda known: _parts(known, runs=1), 4, 1.2, share=80),
    Group(
        "scaling_in_turn",
        "Population scaling, V = 1",
        lambda known: _scaling(known, (1, 2, 4, 8, 16), vectorized=False),
        2,
        2.0,
    ),
    Group(
        "scaling",
        "Population scaling, V = R",
        lambda known: _scaling(known, (1, 2, 4, 8, 16), vectorized=True),
        2,
        2.0,
    ),
    Group("scan", "One run, beside Flax in a scan", _scan_cpu, 3, 3.0, share=110),
)
SUITES = {"cpu": CPU, "gpu": GPU}
