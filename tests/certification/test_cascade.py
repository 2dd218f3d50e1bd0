"""``certify`` from end to end, on networks whose exact answer is known."""

import json
import sys
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from certification_nets import (
    QUICK,
    exact_linear_margin,
    grid_of_ball,
    in_exact_ball,
    linear_net,
    linear_problem,
    numpy_least_margin,
    numpy_logits,
    random_images,
    relu_net,
)
from torch import nn

from gls_es.certification import batching, certify, stages
from gls_es.network import Network


@pytest.mark.parametrize("eps", [0.0, 8 / 255, 0.1])
@pytest.mark.parametrize("clip", [True, False])
@pytest.mark.parametrize("execution", ["float32", "float64", "real"])
def test_linear_networks_get_the_exact_answer(eps: float, clip: bool, execution: str) -> None:
    net, images, labels = linear_problem()
    report = certify(net, images, labels, eps, clip=clip, execution=execution, attack=QUICK)
    assert report.n == len(images)
    for index, (x, y, verdict) in enumerate(zip(images, labels.tolist(), report.verdicts, strict=True)):
        clean = exact_linear_margin(net, x, y, 0.0)
        exact = exact_linear_margin(net, x, y, eps, clip=clip)
        assert min(abs(clean), abs(exact)) > 1e-5  # far from ties: float32 decides like the rationals
        wanted = "misclassified" if clean < 0 else "falsified" if exact < 0 else "certified"
        assert verdict.verdict == wanted
        assert (verdict.index, verdict.label) == (index, y)
        assert verdict.predicted == numpy_logits(net, x.double().numpy().reshape(1, -1)).argmax()
        assert (verdict.counterexample is not None) == (wanted == "falsified")
        if wanted == "certified":
            assert verdict.stage == "ibp"
            assert 0 < Fraction(verdict.margin) <= exact  # a proven bound, not a rounded one
            assert verdict.margin > float(exact) - 1e-3
        elif wanted == "falsified":
            assert verdict.stage in ("quick-attack", "attack")
            assert exact_linear_margin(net, verdict.counterexample, y, 0.0, clip=clip) <= 0
            assert in_exact_ball(verdict.counterexample, x, eps, clip=clip)
        else:
            assert verdict.stage == "clean"
    assert report.counts["misclassified"] == 4
    assert report.counts["certified"] > 0
    assert report.unknown == 0
    assert (report.counts["falsified"] > 0) == (eps > 0)


def test_verdicts_of_small_relu_networks_agree_with_a_grid() -> None:
    seen = set()
    for seed in range(12):
        net = relu_net(seed, (2, 8, 8, 3))
        images = random_images(seed, 8, 2)
        labels = net(images).argmax(dim=1)
        report = certify(net, images, labels, 0.1, attack=QUICK)
        for x, y, verdict in zip(images, labels.tolist(), report.verdicts, strict=True):
            least = numpy_least_margin(net, grid_of_ball(x, 0.1, steps=61), y).min()
            assert verdict.verdict != "misclassified"
            if verdict.verdict == "certified":
                assert 0 < verdict.margin <= least
            elif verdict.verdict == "falsified":
                assert numpy_least_margin(net, verdict.counterexample.double().numpy()[None], y)[0] <= 0
            else:
                assert verdict.stage is None
                assert verdict.margin <= least
            seen.add((verdict.verdict, verdict.stage))
    assert {("certified", "ibp"), ("falsified", "quick-attack")} <= seen


def test_later_stages_decide_what_earlier_ones_leave_open() -> None:
    net = relu_net(3, (2, 16, 16, 3))
    images = random_images(3, 60, 2)
    labels = net(images).argmax(dim=1)
    names = [name for name in stages.STAGES if "attack" not in name]
    only = {name: certify(net, images, labels, 0.05, stages=(name,)) for name in names}
    full = certify(net, images, labels, 0.05, stages=("attack", *only), attack=QUICK)
    certified = {name: {v.index for v in r.verdicts if v.verdict == "certified"} for name, r in only.items()}
    together = {v.index for v in full.verdicts if v.verdict == "certified"}
    assert set().union(*certified.values()) <= together
    assert len(certified["crown"]) > len(certified["ibp"]) > 0
    counts = full.stages
    left = full.n - counts["clean"].decided
    for name in full.stage_names:
        assert counts[name].seen == left
        left -= counts[name].decided
    assert left == full.unknown


def test_bounds_of_single_margins_add_up_over_stages(monkeypatch: pytest.MonkeyPatch) -> None:
    """One stage proves the first rival, another one the second: together they certify, at the lesser bound."""
    table = {"ibp": [0.2, -1.0], "crown-ibp": [float("nan"), float("inf")], "crown": [-2.0, 0.1]}
    monkeypatch.setattr(
        stages, "screened_margins", lambda *arguments, **_: torch.tensor([table[arguments[4]]], dtype=torch.float64)
    )
    net, x = linear_net(torch.eye(3), torch.zeros(3)), torch.tensor([[1.0, 0.0, 0.0]])
    verdict = certify(net, x, [0], 0.1, stages=("ibp", "crown-ibp", "crown")).verdicts[0]
    assert (verdict.verdict, verdict.stage, verdict.margin) == ("certified", "crown", 0.1)
    verdict = certify(net, x, [0], 0.1, stages=("ibp", "crown-ibp")).verdicts[0]
    assert (verdict.verdict, verdict.stage, verdict.margin) == ("unknown", None, -1.0)


@pytest.mark.parametrize("bound", [[float("nan"), 1.0], [float("inf"), 1.0], [0.0, 1.0], [-0.0, 1.0], [-1e-300, 1.0]])
def test_only_finite_positive_margins_certify(monkeypatch: pytest.MonkeyPatch, bound: list[float]) -> None:
    monkeypatch.setattr(stages, "screened_margins", lambda *_, **__: torch.tensor([bound], dtype=torch.float64))
    net, x = linear_net(torch.eye(3), torch.zeros(3)), torch.tensor([[1.0, 0.0, 0.0]])
    verdicts = certify(net, x, [0], 0.1, stages=("attack", "ibp", "crown-ibp", "crown", "best")).verdicts
    assert verdicts[0].verdict == "unknown"


def test_a_falsified_image_is_never_handed_to_the_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    net, images, labels = linear_problem()
    honest = certify(net, images, labels, 0.1, attack=QUICK)
    monkeypatch.setattr(stages, "screened_margins", lambda *a, **_: torch.ones(len(a[3]), 3, dtype=torch.float64))
    report = certify(net, images, labels, 0.1, attack=QUICK)  # bounds that prove everything
    assert [v.verdict for v in report.verdicts] == [v.verdict for v in honest.verdicts]


def test_an_image_that_the_executor_gets_wrong_in_the_ball_is_not_certified(monkeypatch: pytest.MonkeyPatch) -> None:
    """Float32 fails, float64 does not: no counterexample, but no certificate either, and a warning."""
    net = nn.Sequential(nn.Linear(1, 1), nn.ReLU(), nn.Linear(1, 2))
    with torch.no_grad():
        net[0].weight.fill_(129.0)
        net[0].bias.fill_(2.0**30)
        net[2].weight.copy_(torch.tensor([[-1.0], [0.0]]))
        net[2].bias.copy_(torch.tensor([2.0**30 + 128.0, 30.0]))
    x = torch.tensor([[0.49]])
    assert net(x).argmax() == 0
    monkeypatch.setattr(stages, "screened_margins", lambda *_, **__: torch.ones(1, 1, dtype=torch.float64))
    with pytest.warns(RuntimeWarning, match="seen to misclassify"):
        verdict = certify(net, x, [0], 0.03).verdicts[0]
    assert verdict.verdict == "unknown"


def test_certified_at_a_radius_is_certified_at_every_smaller_one() -> None:
    net = relu_net(5, (9, 16, 16, 4))
    images = random_images(4, 40, 9)
    labels = net(images).argmax(dim=1)
    before: set[int] | None = None
    sizes = []
    for eps in (0.1, 0.05, 0.02, 0.01, 0.003, 0.0):
        report = certify(net, images, labels, eps, attack=QUICK)
        certified = {v.index for v in report.verdicts if v.verdict == "certified"}
        assert before is None or before <= certified
        before = certified
        sizes.append(len(certified))
        assert report.certified_accuracy <= report.adversarial_accuracy <= report.natural_accuracy
    assert sizes[0] < sizes[-1] == 40


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 3e38])
def test_non_finite_weights_are_never_certified(value: float) -> None:
    for row in range(2):
        weight = torch.eye(2).repeat(1, 4)
        weight[row] = value
        net = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
        with torch.no_grad():
            net[2].weight.copy_(weight)
        report = certify(net, random_images(0, 6, 8), [0, 1] * 3, 0.1, attack=QUICK)
        if value == 3e38:
            assert not any(v.verdict == "certified" and not v.margin > 0 for v in report.verdicts)
        else:
            assert report.certified_accuracy == 0
        json.dumps(report.to_json(verdicts=True), allow_nan=False)


def test_nan_logits_predict_nothing() -> None:
    net = linear_net([[float("nan")], [0.0]], [0.0, 0.0])
    verdict = certify(net, torch.tensor([[0.5]]), [1], 0.1).verdicts[0]
    assert (verdict.verdict, verdict.predicted, verdict.margin) == ("misclassified", -1, None)


def test_a_tie_with_the_label_is_misclassified() -> None:
    net = linear_net([[1.0], [1.0]], [0.0, 0.0])
    for label in (0, 1):
        verdict = certify(net, torch.tensor([[0.5]]), [label], 0.0).verdicts[0]
        assert (verdict.verdict, verdict.predicted, verdict.margin) == ("misclassified", 1 - label, 0.0)


def test_without_attack_nothing_is_falsified_and_without_stages_all_stays_open() -> None:
    net, images, labels = linear_problem()
    report = certify(net, images, labels, 0.1, stages=("ibp",))
    assert report.counts["falsified"] == 0
    assert report.unknown > 0
    assert report.adversarial_accuracy == report.natural_accuracy
    report = certify(net, images, labels, 0.1, stages=())
    assert report.unknown == 36
    assert list(report.stages) == ["clean"]


def test_network_module_and_checkpoint_give_the_same_verdicts(monkeypatch: pytest.MonkeyPatch) -> None:
    net, images, labels = linear_problem()
    network = Network(net, (1, 4, 4))
    trained = SimpleNamespace(network=network, digest="ab" * 32)
    training = SimpleNamespace(load_trained={"c.pt": trained, Path("c.pt"): trained}.__getitem__)
    monkeypatch.setitem(sys.modules, "gls_es.training", training)
    sources = (net, network, trained, "c.pt", Path("c.pt"))
    reports = [certify(source, images, labels, 0.05, attack=QUICK) for source in sources]
    lists = [[(v.verdict, v.margin, v.sha256) for v in report.verdicts] for report in reports]
    assert all(other == lists[0] for other in lists)
    assert [r.checkpoint for r in reports] == [None, None, *["ab" * 32] * 3]
    assert len({r.network for r in reports}) == 1


def test_verdicts_do_not_depend_on_the_batch_size() -> None:
    net, images, labels = linear_problem()
    whole = certify(net, images, labels, 0.05, batch_size=40, attack=QUICK)
    for size in (1, 7, 1000):
        other = certify(net, images, labels, 0.05, batch_size=size, attack=QUICK)
        assert [v.verdict for v in other.verdicts] == [v.verdict for v in whole.verdicts]


def test_progress_is_told_after_every_batch() -> None:
    net, images, labels = linear_problem()
    calls = []
    report = certify(net, images, labels, 0.05, batch_size=15, attack=QUICK, progress=lambda *call: calls.append(call))
    assert [call[:2] for call in calls] == [(15, 40), (30, 40), (40, 40)]
    assert calls[-1][2] == report.counts


def test_a_double_precision_network_is_certified_as_the_float32_executor_holds_it() -> None:
    """The weight 1/2 - 2^-40 rounds to 1/2 in float32: a tie there, though not in float64."""
    net = linear_net([[0.0], [0.0]], [0.5, 0.0]).double()
    with torch.no_grad():
        net[1].weight[1] = 0.5 - 2.0**-40
    x = torch.tensor([[1.0]])
    assert net(x.double()).argmax() == 0
    assert certify(net, x, [0], 0.0, execution="float64").verdicts[0].verdict == "certified"
    assert certify(net, x, [0], 0.0).verdicts[0].verdict == "misclassified"


def test_exact_arithmetic_may_be_certified_where_float32_may_not() -> None:
    net = linear_net([[1.0, 2.0**25, -(2.0**25)], [0.0, 0.0, 0.0]], [-0.5, 0.0])
    assert certify(net, torch.ones(1, 3), [0], 0.0, execution="real").verdicts[0].verdict == "certified"
    assert certify(net, torch.ones(1, 3), [0], 0.0).verdicts[0].verdict != "certified"


def test_default_batch_size_follows_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    net, images, labels = linear_problem()
    sizes = []
    for budget, names in ((1, stages.STAGES), (10_000, stages.STAGES), (2**30, stages.STAGES), (2**30, ("attack",))):
        monkeypatch.setattr(batching, "MEMORY_BUDGET", budget)
        calls: list[tuple[int, int, dict[str, int]]] = []
        certify(
            net,
            images,
            labels,
            0.05,
            stages=names,
            attack=QUICK,
            progress=lambda *call, calls=calls: calls.append(call),
        )
        sizes.append(calls[0][0])
    assert sizes[0] == 1 < sizes[1] < sizes[2] == batching.MOST_SPLIT < sizes[3] == 40


class _Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.second = nn.Conv2d(4, 4, 3, padding=1)
        self.last = nn.Linear(64, 3)
        self.relu = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first = self.relu(self.norm(self.first(x)))
        return self.last((first + self.relu(self.second(first))).flatten(1))


def test_no_sampled_point_of_a_certified_ball_is_misclassified() -> None:
    torch.manual_seed(0)
    net = _Residual()
    net(random_images(9, 50, 1, 4, 4))  # moves the BatchNorm statistics
    net.eval()
    images = random_images(1, 30, 1, 4, 4)
    labels = net(images).argmax(dim=1)
    report = certify(net, images, labels, 0.01, attack=QUICK)
    certified = [v for v in report.verdicts if v.verdict == "certified"]
    assert len(certified) >= 10
    for verdict in certified:
        x, y = images[verdict.index], verdict.label
        uniform = x + 0.01 * (2 * torch.rand(300, *x.shape) - 1)
        corners = x + 0.01 * torch.randn(300, *x.shape).sign()
        logits = net(torch.cat([uniform, corners]).clamp(0, 1)).detach()
        rivals = logits.clone()
        rivals[:, y] = -float("inf")
        assert (logits[:, y] - rivals.amax(dim=1)).min() >= verdict.margin - 1e-5


def test_where_the_executor_overflows_nothing_is_certified(monkeypatch: pytest.MonkeyPatch) -> None:
    net = linear_net([[3e38, 3e38], [-3e38, -3e38]], [0.0, 0.0])
    x = torch.ones(1, 2)
    assert net(x).isinf().all()
    monkeypatch.setattr(stages, "screened_margins", lambda *_, **__: torch.ones(1, 1, dtype=torch.float64))
    assert certify(net, x, [0], 0.0).verdicts[0].verdict == "unknown"
