"""How tasks are followed, with a stand-in for Ray: its tasks end as they are told, in no time."""

import collections
import signal
import types

import pytest

from betavae_jax.checks import InputError
from betavae_jax.study.grid import make_study
from betavae_jax.study.ledger import PackState
from betavae_jax.study.plan import cut
from experiments import ray_executor
from experiments.packs import PackEnd
from experiments.ray_tasks import Refused, Share, watch
from experiments.study_bar import StudyBar

STUDY = make_study({"sweep": [{"objective": "vae"}],
                    "settings": {"seed": [0, 1, 2], "num_steps": 40}})  # fmt: skip
PACKS = cut(STUDY, 1)
DONE, BUSY, STOPPED = PackEnd("finished", 40, 0), PackEnd("busy", 0, 0), PackEnd("stopped", 7, 15)


class TaskError(Exception):
    """As Ray raises for an error within a task."""


class LostError(Exception):
    """As Ray raises for a task whose node is gone."""


class Cluster:
    """The stand-in, with a clock that moves where somebody waits."""

    exceptions = types.SimpleNamespace(RayTaskError=TaskError, RayError=LostError)

    def __init__(self, **ends):
        """`ends`: by pack ("p0"), what its tasks return or raise in turn; none runs for ever."""
        self.ends = {int(name[1:]): list(end) for name, end in ends.items()}
        self.now = 0.0
        self.submitted = collections.defaultdict(list)  # when, by pack
        self.returns = {}
        self.cancelled = []
        self.waited_for_all = []
        self.states = {}  # by pack, for the ledger
        self.looked = []
        self.workers = 1
        self.at = {}  # what happens, by time
        self.lost = range(0)  # the seconds in which there is no node with a GPU

    def nodes(self):
        alive = self.now not in self.lost
        node = {"Alive": alive, "Resources": {"CPU": 8, "GPU": 1}}
        return [{"Alive": True, "Resources": {"CPU": 4}}, node]

    def submit(self, number):
        ref = f"{number}.{len(self.submitted[number])}"
        self.submitted[number].append(self.now)
        if self.ends[number]:
            self.returns[ref] = self.ends[number].pop(0)
        return ref

    def wait(self, refs, num_returns=1, timeout=None):
        if num_returns > 1 or timeout > 1:
            self.waited_for_all.append((refs, timeout))
            return refs, []
        ready = [ref for ref in refs if ref in self.returns][:num_returns]
        if not ready:
            self.sleep(timeout)
        return ready, [ref for ref in refs if ref not in ready]

    def get(self, ref):
        if isinstance(self.returns[ref], Exception):
            raise self.returns[ref]
        return self.returns[ref]

    def cancel(self, ref):
        self.cancelled.append(ref)

    def sleep(self, seconds):
        self.now += seconds
        for when in [when for when in self.at if when <= self.now]:
            self.at.pop(when)()

    def look(self, numbers):
        self.looked.append(sorted(numbers))
        return [PackState(PACKS[k], *self.states.get(k, ("finished", 40)), []) for k in numbers]


class Bar:
    """Notes what is shown."""

    def __init__(self):
        """Nothing has been shown."""
        self.shown = []
        self.workers = None

    def __getattr__(self, name):
        return lambda *arguments: self.shown.append((name, *arguments))


@pytest.fixture
def drive(monkeypatch):
    def call(cluster, bar=None, signals=()):
        clock = types.SimpleNamespace(monotonic=lambda: cluster.now, sleep=cluster.sleep)
        monkeypatch.setattr(ray_executor, "time", clock)
        to_do = [PackState(PACKS[number], "absent", 0, []) for number in cluster.ends]
        bar = bar or Bar()
        watching = watch(cluster, Share(1, 1), bar.tell)
        work = ray_executor.Work(cluster.submit, cluster.look, lambda _: cluster.workers, watching)
        return ray_executor._drive(cluster, to_do, bar, work, signals)

    return call


@pytest.mark.parametrize("other", [BUSY, STOPPED], ids=["in use", "its process was stopped"])
def test_a_pack_in_use_is_tried_again_later(drive, other):
    cluster, bar = Cluster(p0=[other, other, DONE], p1=[DONE]), Bar()
    assert drive(cluster, bar) == PackEnd("finished", 0, 0)
    assert cluster.submitted == {0: [0.0, 1.0, 3.0], 1: [0.0]}
    assert sorted(bar.shown) == [("end", 0), ("end", 1)]
    assert not cluster.cancelled


def test_a_pack_in_use_for_two_minutes_is_given_up(drive):
    cluster, bar = Cluster(p0=[BUSY] * 20, p1=[DONE]), Bar()
    cluster.states[0] = ("begun", 10)
    assert drive(cluster, bar) == PackEnd("busy", 0, 0)
    assert cluster.submitted[0] == [0.0, 1.0, 3.0, 7.0, 15.0, 31.0, 63.0, 127.0]
    assert bar.shown == [("end", 1)]


def test_what_another_process_finished_meanwhile_is_finished(drive):
    assert drive(Cluster(p0=[BUSY] * 20)).status == "finished"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_interrupts_what_runs_and_waits_until_it_has_saved(drive, number):
    cluster, signals = Cluster(p0=[], p1=[DONE], p2=[]), []
    cluster.states |= {0: ("begun", 30), 2: ("begun", 20)}
    cluster.at[5.0] = lambda: signals.append(number)
    assert drive(cluster, signals=signals) == PackEnd("stopped", 20, number)
    assert cluster.now == 5.0
    assert cluster.cancelled == ["0.0", "2.0"]
    assert cluster.waited_for_all == [(["0.0", "2.0"], ray_executor._SECONDS_TO_SAVE)]


def test_a_signal_before_the_first_checkpoint(drive):
    cluster = Cluster(p0=[])
    cluster.states[0] = ("absent", 0)
    assert drive(cluster, signals=[signal.SIGTERM]) == PackEnd("stopped", 0, signal.SIGTERM)
    assert cluster.cancelled == ["0.0"]


ENDS = [
    (LostError("The node died.\nmore"), OSError, r"pack 1 was lost 11 times; The node died\.$"),
    (Refused("expected one kind; got two", True), InputError, "expected one kind; got two"),
    (Refused("the disk is full", False), OSError, "the disk is full"),
    (TaskError("a defect"), TaskError, "a defect"),
]


@pytest.mark.parametrize(("end", "error", "message"), ENDS)
def test_an_error_of_one_task_interrupts_the_others(drive, end, error, message):
    cluster = Cluster(p0=[], p1=[end], p2=[])
    with pytest.raises(error, match=message):
        drive(cluster)
    assert cluster.cancelled == ["0.0", "2.0"]


def test_only_packs_that_run_are_read_and_the_bar_moves_to_their_checkpoints(drive):
    cluster, bar, signals = Cluster(p0=[], p1=[DONE]), Bar(), []
    cluster.at |= {
        2.5: lambda: cluster.states.update({0: ("begun", 10)}),
        6.5: lambda: cluster.states.update({0: ("begun", 20)}),
        12.0: lambda: signals.append(signal.SIGINT),
    }
    drive(cluster, bar, signals)
    assert cluster.looked[:-1] == [[0]] * 3
    assert bar.shown == [("end", 1), ("begin", 0), ("at", 0, 10), ("at", 0, 20)]


def test_a_lost_node_is_told_once_and_waited_for(drive):
    cluster, bar = Cluster(p0=[]), Bar()
    cluster.lost = range(10, 60)
    cluster.at[70.0] = lambda: cluster.returns.update({"0.0": DONE})
    cluster.states[0] = ("absent", 0)
    drive(cluster, bar)
    assert [shown for shown in bar.shown if shown[0] == "tell"] == [
        ("tell", "waiting for a node of the Ray cluster with 1 GPU and a CPU; "
                 "got nodes of 0 GPUs, 4 CPUs"),
        ("tell", "a node of the Ray cluster has 1 GPU and a CPU again: going on"),
    ]  # fmt: skip
    assert cluster.submitted == {0: [0.0]}  # Ray starts it again


def test_planning_waits_for_a_lost_node_in_words(tmp_path, monkeypatch, capsys):
    cluster = Cluster(p0=[])
    cluster.lost = range(5, 9)
    cluster.at[12.0] = lambda: cluster.returns.update(plan="planned")
    task = types.SimpleNamespace(remote=lambda *_: "plan")
    monkeypatch.setattr(ray_executor, "make_task", lambda *_: task)
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    assert ray_executor._plan(cluster, tmp_path, STUDY) == "planned"
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("waiting for a node of the Ray cluster with 1 GPU and a CPU; ")
    assert second.endswith("again: going on")


def test_nodes_that_come_later_shorten_the_time_left(drive):
    cluster, signals = Cluster(p0=[], p1=[], p2=[]), []
    states = [PackState(pack, "absent", 0, []) for pack in PACKS]
    bar = StudyBar(STUDY, states, workers=1, show=False)
    cluster.at |= {
        1.0: lambda: setattr(cluster, "workers", 3),
        9.0: lambda: signals.append(signal.SIGINT),
    }
    drive(cluster, bar, signals)
    texts = []
    bar._paces["vae"] = bar._pace(PACKS[0])._replace(seconds=1.0, steps=1.0)
    bar._bar.set_postfix_str = lambda text, **_: texts.append(text)
    bar._say()
    bar.close()
    assert texts == ["0:00:40 left"]  # 120 steps of a second, on three nodes at a time
