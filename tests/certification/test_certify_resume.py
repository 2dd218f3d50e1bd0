"""``certify`` with a file of records: resumed to the same verdicts, refused for another run."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from certification_nets import (
    QUICK,
    linear_problem,
    random_linear,
)

from gls_es.certification import certify, read_records, stages
from gls_es.errors import DataError


def _without_times(path: Path) -> list[dict[str, object]]:
    lines = [json.loads(line) for line in path.read_bytes().splitlines()]
    return [{key: value for key, value in line.items() if key not in ("seconds", "times")} for line in lines]


def test_a_cut_file_of_records_resumes_to_the_same_verdicts(tmp_path: Path) -> None:
    net, images, labels = linear_problem()
    whole = tmp_path / "whole.jsonl"
    report = certify(net, images, labels, 0.05, batch_size=8, attack=QUICK, records=whole)
    header, verdicts = read_records(whole)
    assert header["eps"] == 0.05
    assert header["network"] == report.network
    assert [v.to_json() for v in verdicts] == [v.to_json() for v in report.verdicts]
    content = whole.read_bytes()
    for cut in np.linspace(0, len(content), 12).astype(int).tolist():
        path = tmp_path / "cut.jsonl"
        path.write_bytes(content[:cut])
        resumed = certify(net, images, labels, 0.05, batch_size=8, attack=QUICK, records=path)
        assert _without_times(path) == _without_times(whole)
        assert resumed.counts == report.counts
        assert [v.sha256 for v in resumed.verdicts] == [v.sha256 for v in report.verdicts]


def test_recorded_images_are_not_computed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    net, images, labels = linear_problem()
    path = tmp_path / "r.jsonl"
    first = certify(net, images, labels, 0.05, attack=QUICK, records=path)
    content = path.read_bytes()
    monkeypatch.setattr(stages, "find_counterexamples", None)
    second = certify(net, images, labels, 0.05, attack=QUICK, records=path)
    assert path.read_bytes() == content
    assert second.to_json(verdicts=True) == first.to_json(verdicts=True)


def test_records_of_another_run_are_refused(tmp_path: Path) -> None:
    net, images, labels = linear_problem()
    path = tmp_path / "r.jsonl"
    certify(net, images, labels, 0.05, attack=QUICK, records=path)
    content = path.read_bytes()
    other_net, other_images = random_linear(9, pixels=16, classes=4), images.flip(0)
    for arguments, what in [
        ((net, images, labels, 0.06), "eps"),
        ((other_net, images, labels, 0.05), "network"),
        ((net, other_images, labels, 0.05), "it is about other images"),
        ((net, images, labels.flip(0), 0.05), "it is about other images"),
    ]:
        with pytest.raises(DataError, match=f"another run \\({what}"):
            certify(*arguments, attack=QUICK, records=path)
    for options in ({"seed": 1}, {"clip": False}, {"execution": "float64"}, {"stages": ("ibp",)}):
        with pytest.raises(DataError, match="another run"):
            certify(net, images, labels, 0.05, records=path, **{"attack": QUICK, **options})
    assert path.read_bytes() == content


KILLED = """
import os, signal, sys, torch
from gls_es.certification import bab, certify
torch.manual_seed(0)
layers = [torch.nn.Linear(2, 20), torch.nn.ReLU(), torch.nn.Linear(20, 20), torch.nn.ReLU(), torch.nn.Linear(20, 3)]
net = torch.nn.Sequential(*layers)
with torch.no_grad():
    for layer in layers[::2]:
        layer.weight.mul_(2.5)
images = torch.rand(24, 2)
labels = net(images).argmax(dim=1)
left = int(sys.argv[2])
climb = bab.ascend
def ascend(*arguments):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return climb(*arguments)
bab.ascend = ascend
report = certify(net, images, labels, 0.2, batch_size=6, max_domains=60, records=sys.argv[1], stages=("crown", "bab"))
print(report.stages["bab"].decided, report.counts)
"""


@pytest.mark.slow
def test_a_process_killed_while_it_splits_resumes_to_the_same_records(tmp_path: Path) -> None:
    killed, whole = tmp_path / "killed.jsonl", tmp_path / "whole.jsonl"
    root = str(Path(__file__).resolve().parents[2])
    printed = []
    for path, stop in [(whole, 0), *((killed, stop) for stop in (1, 4, 3, 6, 2, 5, 0))]:
        command = [sys.executable, "-c", KILLED, str(path), str(stop)]
        finished = subprocess.run(command, cwd=root, capture_output=True, timeout=120)
        if finished.returncode == 0:
            printed.append(finished.stdout)
        else:
            assert finished.returncode == -signal.SIGKILL, finished.stderr
            done = [v.index for v in read_records(killed)[1]]
            assert done == list(range(len(done)))
    assert _without_times(killed) == _without_times(whole)
    assert len(set(printed)) == 1
    assert int(printed[0].split()[0]) > 0  # there were splits to be killed in
    assert {v.verdict for v in read_records(whole)[1]} >= {"certified", "falsified"}


AT_RANDOM = """
import json, os, random, signal, sys, time
from pathlib import Path
import torch
from gls_es.certification import certify, read_records
torch.set_num_threads(1)
torch.manual_seed(0)
layers = [torch.nn.Linear(2, 20), torch.nn.ReLU(), torch.nn.Linear(20, 20), torch.nn.ReLU(), torch.nn.Linear(20, 3)]
net = torch.nn.Sequential(*layers)
with torch.no_grad():
    for layer in layers[::2]:
        layer.weight.mul_(2.5)
images = torch.rand(24, 2)
labels = net(images).argmax(dim=1)

def summary(path):
    report = certify(net, images, labels, 0.2, batch_size=4, max_domains=40, records=path, stages=("crown", "bab"))
    table = report.to_json()
    del table["seconds"]
    for stage in table["stages"].values():
        del stage["seconds"]
    return table

folder, rng = Path(sys.argv[1]), random.Random(0)
summary(folder / "first.jsonl")  # loads what is loaded when needed
began = time.monotonic()
whole = summary(folder / "whole.jsonl")
longest = (time.monotonic() - began) / 3
kills, runs, known, inside, unfinished = 0, [], 0, 0, True
while kills < 20 or unfinished:
    path = folder / f"killed-{len(runs)}.jsonl"
    child = os.fork()
    if child == 0:
        summary(path)
        os._exit(0)
    if kills < 20:
        time.sleep(rng.uniform(0.0, longest))
        os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    if status == signal.SIGKILL:
        kills, unfinished = kills + 1, True
        begun = path.exists() and chr(10) in path.read_text()  # else its header is not whole
        found = [v.index for v in read_records(path)[1]] if begun else []
        assert found[:known] == list(range(known)), "work was lost that had been recorded"
        known, inside = len(found), inside + (0 < len(found) < len(images))
        continue
    assert status == 0
    assert summary(path) == whole  # read back: every image is recorded
    runs.append(path.name)
    known, unfinished = 0, False
print(json.dumps({"kills": kills, "inside": inside, "runs": runs, "bab": whole["stages"]["bab"]}))
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_kills_at_twenty_random_moments_change_nothing(tmp_path: Path) -> None:
    root = str(Path(__file__).resolve().parents[2])
    command = [sys.executable, "-W", "ignore", "-c", AT_RANDOM, str(tmp_path)]
    finished = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=300)
    assert finished.returncode == 0, finished.stderr
    found = json.loads(finished.stdout)
    assert found["kills"] == 20
    assert found["inside"] > 0  # some kills met a file that was partly written
    assert found["bab"]["decided"] > 0
    assert len(found["runs"]) > 0
    for name in found["runs"]:
        assert _without_times(tmp_path / name) == _without_times(tmp_path / "whole.jsonl")


FINISHED_BATCHES = """
import os, signal, sys, torch
from gls_es.certification import certify
torch.manual_seed(0)
net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
images = torch.rand(12, 4)
labels = net(images).argmax(dim=1)
def progress(done, total, counts):
    if done == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
certify(net, images, labels, 0.1, batch_size=3, max_domains=50, records=sys.argv[1], progress=progress)
"""


def test_a_killed_process_leaves_what_it_decided(tmp_path: Path) -> None:
    killed, whole = tmp_path / "killed.jsonl", tmp_path / "whole.jsonl"
    root = str(Path(__file__).resolve().parents[2])
    for path, stop, status in [(killed, 6, -signal.SIGKILL), (killed, 0, 0), (whole, 0, 0)]:
        command = [sys.executable, "-c", FINISHED_BATCHES, str(path), str(stop)]
        finished = subprocess.run(command, cwd=root, capture_output=True, timeout=120)
        assert finished.returncode == status, finished.stderr
        if stop:
            assert [v.index for v in read_records(path)[1]] == list(range(6))
    assert _without_times(killed) == _without_times(whole)
