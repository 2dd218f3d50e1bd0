"""Measuring: the order of the rounds, operations, live bytes. Nothing here looks at how long anything took."""

from __future__ import annotations

import pytest
import torch

from gls_es.benchmark import measure

CPU = torch.device("cpu")


def test_works_take_turns_and_every_other_round_runs_backwards() -> None:
    called: list[str] = []
    works = {name: (lambda name=name: called.append(name)) for name in "bca"}
    timings = measure.interleaved(works, 3, device=CPU)
    assert "".join(called) == "bca" + "bca" + "acb" + "bca"
    assert all(len(t.wall) == len(t.cpu) == 3 for t in timings.values())
    assert list(timings) == ["b", "c", "a"]


def test_timing_in_plain_values() -> None:
    timing = measure.Timing((3.0, 1.0, 2.0), (0.5, 0.1, 0.3))
    assert timing.to_json() == {"seconds": 2.0, "best_seconds": 1.0, "spread": 1.0, "cpu_seconds": 0.3}


def test_the_quickest_is_chosen_by_its_best_round(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([9.0, 9.0, 5.0, 1.0, 4.0, 3.0])  # one untimed call of each, then two rounds: x y, y x
    monkeypatch.setattr(measure, "_seconds", lambda work, device: (next(clock), 0.0))
    assert measure.quickest({"x": int, "y": int}, device=CPU, rounds=2) == "y"


def test_threads_are_put_back() -> None:
    before = torch.get_num_threads()

    def fail() -> None:
        with measure.threads(before + 1):
            assert torch.get_num_threads() == before + 1
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert torch.get_num_threads() == before


def test_operations_of_products_and_convolutions() -> None:
    a, b = torch.ones(3, 5), torch.ones(5, 7)
    x, w = torch.ones(2, 3, 6, 6), torch.ones(4, 3, 3, 3)
    assert measure.cost(lambda: a @ b, device=CPU).flops == 2 * 3 * 5 * 7
    assert measure.cost(lambda: torch.conv2d(x, w), device=CPU).flops == 2 * (2 * 4 * 4 * 4) * (3 * 3 * 3)
    assert measure.cost(lambda: a + 1, device=CPU).flops == 0


def test_the_peak_is_of_what_lives_at_once() -> None:
    size = 1000
    x = torch.ones(size, dtype=torch.float64)

    def work() -> None:
        y = x * 2  # 1 alive
        z = y.reshape(10, -1) + 1  # 2; the view costs nothing
        del y
        z.mul_(3)  # in place
        w = z * x.reshape(10, -1)  # 2; x was there before
        del z
        x.add_(w.flatten())  # nothing new

    assert measure.cost(work, device=CPU).peak_bytes == 2 * 8 * size


def test_live_bytes_end_at_what_is_kept() -> None:
    kept = []
    with measure.LiveBytes() as memory:
        kept.append(torch.zeros(100, dtype=torch.float32))
        torch.zeros(300, dtype=torch.float32)
        kept.append(kept[0][10:20])
    assert memory.live == 400
    assert memory.peak == 1600
    kept.clear()
    assert memory.live == 0


def test_saved_tensors_of_a_graph_count() -> None:
    p = torch.ones(50, 50, requires_grad=True)

    def work() -> torch.Tensor:
        return torch.autograd.grad(p.exp().exp().sum(), p)[0]

    with torch.no_grad():
        alone = measure.cost(lambda: p.exp().exp().sum(), device=CPU).peak_bytes
    assert measure.cost(work, device=CPU).peak_bytes > alone >= 2 * 4 * 2500


def test_matmul_peak_and_machine() -> None:
    assert measure.matmul_peak(CPU, 1, size=16, rounds=1) > 0
    assert measure.matmul_rate(CPU, 1, size=16, seconds=0.0) > 0
    found = measure.machine(CPU)
    assert found["cores"] >= 1
    assert found["torch"] == torch.__version__
    import platform

    assert platform.node() not in found.values()
