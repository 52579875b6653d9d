"""The files for clusters: scripts run with stand-ins for SLURM, the manifest read."""

import os
import pathlib
import shutil
import signal
import subprocess
import time

import pytest

CLUSTER = pathlib.Path(__file__).resolve().parents[2] / "experiments" / "cluster"
SCRIPTS = sorted(CLUSTER.glob("*.sbatch"))


@pytest.fixture
def cluster(tmp_path):
    """Runs a script with stand-ins: `call(script, body of python, *flags)` starts it."""

    def write(name, text):
        path = tmp_path / name
        path.write_text(f"#!/usr/bin/env bash\n{text}\n")
        path.chmod(0o755)
        return path

    write("scontrol", f'echo "$@" >> {tmp_path}/scontrol.txt')
    write("srun", f'echo "$@" >> {tmp_path}/srun.txt')

    def call(script, body, *flags, **variables):
        python = write("python", f'echo "$@" >> {tmp_path}/python.txt\n{body}')
        env = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHON": str(python), **variables}
        return subprocess.Popen(["bash", str(CLUSTER / script), *flags], env=env)

    return call


def lines(path):
    return path.read_text().splitlines() if path.exists() else []


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda p: p.name)
def test_a_script_is_bash(script):
    subprocess.run(["bash", "-n", str(script)], check=True)
    if shutil.which("shellcheck"):
        subprocess.run(["shellcheck", str(script)], check=True)
    text = script.read_text()
    assert "#SBATCH --requeue\n" in text
    assert "#SBATCH --signal=B:TERM@120\n" in text


ARRAY = {
    "SLURM_JOB_ID": "12",
    "SLURM_ARRAY_JOB_ID": "10",
    "SLURM_ARRAY_TASK_ID": "3",
    "SLURM_ARRAY_TASK_MIN": "1",
    "SLURM_ARRAY_TASK_MAX": "4",
    "SLURM_ARRAY_TASK_COUNT": "4",
}


@pytest.mark.parametrize(
    ("code", "expected", "requeued"), [(0, 0, []), (2, 2, []), (75, 0, ["requeue 10_3"])]
)
def test_a_task_of_an_array(code, expected, requeued, cluster, tmp_path):
    job = cluster("slurm.sbatch", f"exit {code}", "--workdir=a b", **ARRAY)
    assert job.wait(timeout=10) == expected
    assert lines(tmp_path / "python.txt") == ["-m experiments.sweep --shard=2/4 --workdir=a b"]
    assert lines(tmp_path / "scontrol.txt") == requeued


def test_some_tasks_of_an_array_again_are_the_shards_they_were(cluster, tmp_path):
    for number in (2, 5):  # --array=2,5
        some = {"SLURM_ARRAY_TASK_ID": str(number), "SLURM_ARRAY_TASK_MIN": "2",
                "SLURM_ARRAY_TASK_MAX": "5", "SLURM_ARRAY_TASK_COUNT": "2"}  # fmt: skip
        job = cluster("slurm.sbatch", "exit 0", NUM_SHARDS="8", **{**ARRAY, **some})
        assert job.wait(timeout=10) == 0
        assert cluster("slurm.sbatch", "exit 0", **{**ARRAY, **some}).wait(timeout=10) == 2
    started = lines(tmp_path / "python.txt")
    assert [line.split("--shard=")[1].strip() for line in started] == ["2/8", "5/8"]


def test_a_job_that_is_no_array_is_the_only_shard(cluster, tmp_path):
    assert cluster("slurm.sbatch", "exit 75", SLURM_JOB_ID="12").wait(timeout=10) == 0
    assert lines(tmp_path / "python.txt") == ["-m experiments.sweep --shard=0/1"]
    assert lines(tmp_path / "scontrol.txt") == ["requeue 12"]


def test_a_signal_goes_to_the_sweep_and_its_exit_code_counts(cluster, tmp_path):
    body = f"trap 'sleep 0.5; exit 75' TERM; touch {tmp_path}/up; while :; do sleep 0.1; done"
    job = cluster("slurm.sbatch", body, **ARRAY)
    end = time.monotonic() + 10
    while not (tmp_path / "up").exists():
        assert time.monotonic() < end
        time.sleep(0.05)
    job.send_signal(signal.SIGTERM)
    assert job.wait(timeout=10) == 0
    assert lines(tmp_path / "scontrol.txt") == ["requeue 10_3"]


def test_a_ray_cluster_over_the_nodes_of_a_job(cluster, tmp_path):
    body = 'case "$*" in *experiments.sweep*) exit 75;; esac'
    variables = {"SLURM_JOB_ID": "12", "SLURM_JOB_NUM_NODES": "3", "SLURM_CPUS_PER_TASK": "8"}
    job = cluster("slurm_ray.sbatch", body, "--workdir=w", **variables)
    assert job.wait(timeout=10) == 0
    start, sweep = lines(tmp_path / "python.txt")
    assert "start --head" in start
    assert "--num-cpus=8" in start
    address = sweep.split("--ray_address=")[1].split()[0]
    assert address.endswith(":20012")
    assert sweep.endswith("--workdir=w")
    end = time.monotonic() + 5
    while not lines(tmp_path / "srun.txt") and time.monotonic() < end:
        time.sleep(0.05)
    (workers,) = lines(tmp_path / "srun.txt")
    assert "--nodes=2 --ntasks=2" in workers
    assert f"--address={address} --block" in workers
    assert lines(tmp_path / "scontrol.txt") == ["requeue 12"]


def test_the_manifest_of_kubernetes():
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
    text = (CLUSTER / "kubernetes-job.yaml").read_text()
    job = yaml.safe_load(text)
    selecting = yaml.safe_load(text.replace("# nodeSelector:", "nodeSelector:"))
    (label,) = selecting["spec"]["template"]["spec"].pop("nodeSelector")
    assert label == "node.kubernetes.io/instance-type"
    assert selecting == job
    assert (job["apiVersion"], job["kind"]) == ("batch/v1", "Job")
    spec = job["spec"]
    assert spec["completionMode"] == "Indexed"
    pod = spec["template"]["spec"]
    assert pod["restartPolicy"] == "Never"  # a failure policy asks for it
    (container,) = pod["containers"]
    env = {item["name"]: item["value"] for item in container["env"]}
    assert spec["completions"] == spec["parallelism"] == int(env["NUM_SHARDS"])
    assert env["JAX_NUM_CPU_DEVICES"] == container["resources"]["limits"]["cpu"]
    assert '--shard="$JOB_COMPLETION_INDEX/$NUM_SHARDS"' in container["args"][0]
    assert container["args"][0].startswith("exec ")
    rules = spec["podFailurePolicy"]["rules"]
    by_code = {
        rule["onExitCodes"]["values"][0]: (rule["action"], rule["onExitCodes"]["containerName"])
        for rule in rules
        if "onExitCodes" in rule
    }
    assert by_code == {2: ("FailJob", "sweep"), 75: ("Ignore", "sweep")}
    mounts = {mount["name"] for mount in container["volumeMounts"]}
    assert mounts == {volume["name"] for volume in pod["volumes"]}
