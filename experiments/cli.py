"""What the drivers share: flags, one line for every refusal, signals and exit codes."""

import _thread
import contextlib
import gc
import io
import itertools
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Sequence
from types import FrameType
from typing import NoReturn

import jax
from absl import app, flags, logging

from betavae_jax.checks import InputError
from betavae_jax.memory import ran_out_of_memory
from betavae_jax.runs.directory import CONFIG, FLAGS
from experiments.path_flags import define_path

WORKDIR = define_path("workdir", None, "The run directory; where one is made, under runs/.")
DETERMINISTIC = flags.DEFINE_boolean(
    "deterministic", True, "On a GPU: the same bits at every call, at some cost in speed."
)
INEXACT = flags.DEFINE_boolean(
    "allow_inexact_resume", False, "Go on although versions, hardware or data have changed."
)

_UNSET = -1  # of JAX's number of CPU devices
_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_SECONDS_A_TRY = 0.02  # to end by an exception
_SECONDS_TO_CLEAN = 5.0  # after a signal, of temporary files and processes of our own

EXIT_TROUBLE = 1
EXIT_BAD_INPUT = 2
EXIT_TERMINATED = 75  # come back: the same command goes on
EXIT_INTERRUPTED = 130
EXIT_UNHEARD = 141  # whom we print to has gone, such as `head`


def run(main: Callable[[], int]) -> NoReturn:
    """Runs a driver and exits with what it returns.

    A flag or a setting that is refused, and memory that runs out, end in one line and exit code 2,
    trouble with files in one line and 1, a reader of what we print that has gone in 141; SIGTERM
    ends in 75 and Ctrl-C in 130, within seconds wherever nobody listens (`fit` does, and saves
    first); anything else is a defect and keeps its
    traceback.

    Args:
      main: The driver; its flags are parsed when it is called.
    """

    def guarded(argv: Sequence[str]) -> None:
        _open_closed_streams()
        for number in _SIGNALS:
            signal.signal(number, _end)
        _use_every_core()
        if not flags.FLAGS["verbosity"].present:
            logging.set_verbosity(logging.WARNING)  # Orbax tells a page at every save
        try:
            if len(argv) > 1:
                raise InputError(f"expected flags, --name=value; got {argv[1]!r}")
            code = main()
            sys.stdout.flush()
        except InputError as error:
            _stop(EXIT_BAD_INPUT, str(error))
        except OSError as error:
            _stop_in_trouble(error)
        except jax.errors.JaxRuntimeError as error:
            if not ran_out_of_memory(error):
                raise
            _stop(EXIT_BAD_INPUT, _say_exhausted(error))
        sys.exit(code)

    # --help tells the flags of the file that was started: one that calls a driver has the driver's.
    for flag in flags.FLAGS.get_key_flags_for_module(main.__module__):
        flags.FLAGS.register_key_flag_for_module(sys.argv[0], flag)
    app.run(guarded, flags_parser=_parse_flags)
    raise SystemExit(0)  # app.run does not return; this tells the type checker


def stopped_by(number: int, step: int) -> int:
    """Says where a signal stopped training; returns the exit code for it."""
    print(f"stopped at step {step}, run again to resume")
    return _code_of(number)


def exclude_nondeterministic_operations() -> None:
    """Asks XLA for the same bits at every call on a GPU, unless `--nodeterministic`.

    To be called before JAX starts.
    """
    if not DETERMINISTIC.value:
        return
    asked, given = "--xla_gpu_deterministic_ops=true", os.environ.get("XLA_FLAGS", "")
    if not given.endswith(asked):  # once: these flags name the programs that are kept on disk
        os.environ["XLA_FLAGS"] = f"{given} {asked}".strip()


def _open_closed_streams() -> None:
    """Gives the standard streams that a daemon has closed nothing to read and nowhere to write.

    A file opened later would take their place, and what is printed would be written to it.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)  # as such a stream is
    os.close(descriptor)
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)


def _use_every_core() -> None:
    """Makes a device of each core that is ours, so that runs stand beside one another.

    Two runs on a core each end sooner than two in turn on both; a population of one still has
    every core. Nothing changes where `XLA_FLAGS` or `JAX_NUM_CPU_DEVICES` say otherwise.
    """
    asked = "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
    if asked or jax.config.values["jax_num_cpu_devices"] != _UNSET:
        return
    jax.config.update("jax_num_cpu_devices", count_cores())


def count_cores() -> int:
    """The cores that this process may use: those of its task, where a node is shared."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _parse_flags(argv: Sequence[str]) -> list[str]:
    if isinstance(sys.stdout, io.TextIOWrapper):  # before anything is printed
        sys.stdout.reconfigure(errors="replace")  # where the locale has no β, there is a ?
    try:
        rest: list[str] = flags.FLAGS(_with_workdirs(argv))
    except flags.Error as error:  # absl would print every flag and exit with 1
        _stop(EXIT_BAD_INPUT, str(error))
    except SystemExit:  # --help and its like have told what was asked, which absl ends with 1
        sys.exit(0)
    return rest


def _with_workdirs(argv: Sequence[str]) -> list[str]:
    """The arguments; after the flags of a run, the directory that they stand in.

    A run that was moved or copied goes on where it is, not where it was made; a `--workdir` that
    comes later goes before.
    """
    told: list[str] = []
    for before, argument in itertools.pairwise(["", *argv]):
        told.append(argument)
        joined = f"{before}={argument}" if before.endswith("-flagfile") else argument
        if named := re.fullmatch(r"--?flagfile=(.+)", joined):
            workdir, file = os.path.split(os.path.expanduser(named[1].strip()))
            if file == FLAGS and os.path.isfile(os.path.join(workdir, CONFIG)):
                told.append(f"--workdir={workdir or os.curdir}")
    return told


def _code_of(number: int) -> int:
    return EXIT_TERMINATED if number == signal.SIGTERM else EXIT_INTERRUPTED


def _end(number: int, frame: FrameType | None) -> None:
    """Ends the process at a signal, whatever it is doing: the files of a run are whole always.

    An exception has temporary files and processes of our own cleaned up. Where it is lost all the
    same, or a thread keeps the process from ending, it ends without after a few seconds, as at a
    second signal. It begins when the interpreter is back from native code, such as a compilation.
    """
    code = _code_of(number)
    for each in _SIGNALS:
        signal.signal(each, lambda *_: os._exit(code))
    _thread.start_new_thread(_end_later, (code,))  # takes no lock that what we interrupt may hold
    with contextlib.suppress(OSError, RuntimeError, ValueError):  # it may be printing just now
        os.write(2, b"betavae_jax: stopped; run again to resume\n")
        sys.stdout.flush()
    signal.signal(signal.SIGALRM, lambda _number, frame: _raise(code, frame))
    _raise(code, frame)


def _end_later(code: int) -> None:
    time.sleep(_SECONDS_TO_CLEAN)
    os._exit(code)


def _raise(code: int, frame: FrameType | None) -> None:
    """Raises SystemExit, as soon as what is interrupted would not drop it."""
    if _drops_exceptions(frame):
        signal.setitimer(signal.ITIMER_REAL, _SECONDS_A_TRY)  # an alarm calls this again
    else:
        raise SystemExit(code)


def _drops_exceptions(frame: FrameType | None) -> bool:
    """Whether a garbage collection or a destructor is running."""
    callbacks = [getattr(callback, "__code__", None) for callback in gc.callbacks]
    while frame is not None:
        if frame.f_code in callbacks or frame.f_code.co_name == "__del__":
            return True
        frame = frame.f_back
    return False


def _say_exhausted(error: Exception) -> str:
    said, helps = str(error).partition("\n")[0], "; ".join(getattr(error, "__notes__", ()))
    return f"expected memory to hold what is computed; got {said}{helps and f' ({helps})'}"


def _stop_in_trouble(error: OSError) -> NoReturn:
    """Ends in one line; in none where whom we print to has gone."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # else it fails once more at exit
    if isinstance(error, BrokenPipeError):
        sys.exit(EXIT_UNHEARD)
    _stop(EXIT_TROUBLE, str(error))


def _stop(code: int, message: str) -> NoReturn:
    print(f"betavae_jax: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(code)
