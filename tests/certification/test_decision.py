"""decide against closed forms of affine networks, dense sampling of small ones, and certify's verdicts."""

import itertools
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import pytest
import torch
from certification_nets import QUICK, numpy_logits, relu_net
from torch import Tensor, nn

from gls_es.basics.property import Boundary, Case, Property, Row
from gls_es.bounds.query import Query
from gls_es.certification import certify, decide, halving, renewal
from gls_es.certification.renewal import Bounds
from gls_es.certification.splitting import FromUnitCube
from gls_es.certification.violation import Violations
from gls_es.errors import ConfigError, DataError


def _box(lower: Sequence[float], upper: Sequence[float]) -> Boundary:
    return Boundary(tuple(map(Fraction, lower)), tuple(map(Fraction, upper)))


def _rows(*rows: tuple[Sequence[float], float]) -> tuple[Row, ...]:
    return tuple(Row(tuple(Fraction(float(value)) for value in c), Fraction(d)) for c, d in rows)


def _affine(seed: int) -> tuple[nn.Linear, np.ndarray, np.ndarray]:
    layer = nn.Linear(4, 3)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(3, 4, generator=generator))
        layer.bias.copy_(torch.randn(3, generator=generator))
    return layer, layer.weight.detach().double().numpy(), layer.bias.detach().double().numpy()


@pytest.mark.parametrize("seed", range(20))
def test_one_row_of_an_affine_network_has_a_closed_form(seed: int) -> None:
    """min over the box of c·(W x + b) - d, a thousandth above and below zero."""
    layer, weight, bias = _affine(seed)
    rng = np.random.default_rng(seed)
    lower = rng.uniform(-1, 0, 4).astype(np.float32)
    upper = lower + rng.uniform(0, 1, 4).astype(np.float32)
    c = rng.integers(-3, 4, 3).astype(float)
    slope = c @ weight
    least = float(c @ bias + np.where(slope > 0, slope * lower, slope * upper).sum())
    box = _box(lower.tolist(), upper.tolist())
    for gap, wanted in ((1e-3, "sat"), (-1e-3, "unsat")):
        prop = Property(4, 3, (Case(box, _rows((c, least + gap))),))
        decision = decide(layer, (4,), prop)
        assert decision.result == wanted
        if wanted == "sat":
            assert decision.inputs is not None
            x = np.array([float(value) for value in decision.inputs])
            assert ((lower <= x) & (x <= upper)).all()
            assert float(c @ (weight @ x + bias)) <= least + gap + 1e-5


def _sampled(net: nn.Module, prop: Property, n: int = 60) -> bool:
    """Whether a grid finds a violation with some room to spare."""
    for case in prop.cases:
        axes = [np.linspace(float(a), float(b), n) for a, b in zip(case.box.lower, case.box.upper, strict=True)]
        outputs = numpy_logits(net, np.stack(np.meshgrid(*axes), axis=-1).reshape(-1, len(axes)))
        fulfilled = np.ones(len(outputs), dtype=bool)
        for row in case.rows:
            fulfilled &= outputs @ np.array([float(c) for c in row.coefficients]) <= float(row.offset)
        if fulfilled.any():
            return True
    return False


@pytest.mark.parametrize("seed", range(30))
def test_conjunctions_and_alternatives_agree_with_a_grid(seed: int) -> None:
    """Two inputs, cases of one to three rows on one or two boxes: what a grid finds is sat, and all is decided."""
    net = relu_net(seed, (2, 8, 8, 3))
    rng = np.random.default_rng(seed)
    cases = []
    for _ in range(rng.integers(1, 3)):
        low = rng.uniform(-1, 0, 2).round(3)
        box = _box(low.tolist(), (low + rng.uniform(0.2, 1, 2).round(3)).tolist())
        for _ in range(rng.integers(1, 3)):
            rows = [
                (rng.integers(-2, 3, 3), round(float(rng.uniform(-2.5, 0.5)), 2)) for _ in range(rng.integers(1, 4))
            ]
            cases.append(Case(box, _rows(*rows)))
    prop = Property(2, 3, tuple(cases))
    decision = decide(net, (2,), prop, timeout=20)
    assert decision.result in ("sat", "unsat")
    if _sampled(net, prop):
        assert decision.result == "sat"
    if decision.result == "sat":
        assert decision.inputs is not None
        outputs = numpy_logits(net, np.array([[float(value) for value in decision.inputs]]))[0]
        inside = [case for case in cases if all(map(_between, case.box.lower, decision.inputs, case.box.upper))]
        assert any(
            all(outputs @ np.array([float(c) for c in row.coefficients]) <= float(row.offset) + 1e-4 for row in c.rows)
            for c in inside
        )


def _between(low: Fraction, value: Fraction, high: Fraction) -> bool:
    return low <= value <= high


def test_both_results_occur_among_those_seeds() -> None:
    """Power control of the test above: its properties are not all alike."""
    nets = [relu_net(seed, (2, 8, 8, 3)) for seed in range(6)]
    results = set()
    for net, offset in itertools.product(nets, (-2.0, 0.0)):
        case = Case(_box([-1, -1], [1, 1]), _rows(([1, 0, 0], offset), ([0, 1, 0], offset)))
        results.add((decide(net, (2,), Property(2, 3, (case,)), timeout=20).result, offset))
    assert {("sat", 0.0), ("unsat", -2.0)} <= results


@pytest.mark.parametrize("eps", [0.02, 0.08, 0.2])
def test_robustness_is_decided_as_by_certify(eps: float) -> None:
    net = relu_net(7, (25, 20, 4))
    images = torch.rand(10, 5, 5, generator=torch.Generator().manual_seed(0))
    labels = net(images).argmax(1)
    report = certify(net, images, labels, eps, attack=QUICK, clip=False)
    same = {"certified": "unsat", "falsified": "sat"}
    for image, label, verdict in zip(images, labels.tolist(), report.verdicts, strict=True):
        pixels = [Fraction(value) for value in image.flatten().tolist()]
        box = Boundary(tuple(p - Fraction(eps) for p in pixels), tuple(p + Fraction(eps) for p in pixels))
        others = [[float(k == label) - float(k == j) for k in range(4)] for j in range(4) if j != label]
        prop = Property(25, 4, tuple(Case(box, _rows((c, 0.0))) for c in others))
        result = decide(net, (5, 5), prop, timeout=20).result
        if verdict.verdict in same:
            assert result == same[verdict.verdict]


def test_only_the_replaying_executor_makes_sat() -> None:
    layer, _, _ = _affine(1)
    always = Property(4, 3, (Case(_box([0] * 4, [1] * 4), _rows(([0, 0, 0], 1.0))),))
    assert decide(layer, (4,), always).result == "sat"
    nan = decide(layer, (4,), always, replay=lambda x: torch.full((len(x), 3), float("nan")))
    assert nan.result == "unknown"

    def elsewhere(x: Tensor) -> Tensor:
        return torch.ones(len(x), 3)

    never_there = Property(4, 3, (Case(_box([0] * 4, [1] * 4), _rows(([1, 0, 0], 0.5))),))
    assert decide(layer, (4,), never_there, replay=elsewhere).result in ("unknown", "unsat")


def test_an_empty_property_is_unsat() -> None:
    assert decide(_affine(0)[0], (4,), Property(4, 3, ())).result == "unsat"


def test_inputs_that_only_float32_moves_into_reach() -> None:
    """The box is the point 0.1; float32 executes the network a little above it, and that is covered."""
    layer = nn.Linear(1, 2, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0], [0.0]]))
    tenth = Boundary((Fraction(1, 10),), (Fraction(1, 10),))
    above = Fraction(float(torch.tensor(0.1)))
    assert above > Fraction(1, 10)
    prop = Property(1, 2, (Case(tenth, (Row((Fraction(-1), Fraction(0)), -above),)),))
    assert decide(layer, (1,), prop).result == "sat"


def test_a_module_is_left_as_it_was() -> None:
    module = nn.Sequential(nn.Linear(2, 2), nn.Dropout(), nn.Linear(2, 2)).double().train()
    decide(module, (2,), Property(2, 2, (Case(_box([0, 0], [1, 1]), _rows(([1, 0], -99.0))),)))
    assert module.training
    assert next(module.parameters()).dtype == torch.float64


def test_one_output_and_outputs_of_any_shape() -> None:
    module = nn.Sequential(nn.Conv2d(1, 1, 2, bias=False))
    with torch.no_grad():
        module[0].weight.fill_(1.0)
    box = _box([0] * 4, [1] * 4)
    for offset, wanted in ((-0.5, "unsat"), (0.5, "sat")):
        assert decide(module, (1, 2, 2), Property(4, 1, (Case(box, _rows(([1], offset))),))).result == wanted


def test_the_unit_cubes_image_contains_the_box() -> None:
    rng = np.random.default_rng(0)
    lower = torch.from_numpy(rng.uniform(-1, 1, 2000))
    upper = lower + torch.from_numpy(rng.uniform(0, 1, 2000) * (rng.random(2000) > 0.2))
    layer = FromUnitCube.onto(lower, upper)
    for low, width, first, last in zip(
        layer.low.tolist(), layer.width.tolist(), lower.tolist(), upper.tolist(), strict=True
    ):
        assert Fraction(low) <= Fraction(first)
        assert Fraction(low) + Fraction(width) >= Fraction(last)


def test_wrong_arguments() -> None:
    layer = _affine(0)[0]
    prop = Property(4, 3, (Case(_box([0] * 4, [1] * 4), _rows(([1, 0, 0], 0.0))),))
    with pytest.raises(DataError, match="4 inputs and 3 outputs, the network has 5 and 3"):
        decide(nn.Linear(5, 3), (5,), prop)
    with pytest.raises(ConfigError, match="execution"):
        decide(layer, (4,), prop, execution="float16")
    with pytest.raises(ConfigError, match="timeout"):
        decide(layer, (4,), prop, timeout=0.0)


def test_a_deadline_ends_the_search() -> None:
    net = relu_net(3, (12, 60, 60, 60, 3))
    case = Case(_box([-3] * 12, [3] * 12), _rows(([1, -1, 0], -60.0), ([1, 0, -1], -60.0)))
    assert decide(net, (12,), Property(12, 3, (case,)), timeout=0.5).result in ("timeout", "unsat")


def test_a_violation_in_a_corner_is_met_by_halving(monkeypatch: pytest.MonkeyPatch) -> None:
    """Y = X_0 + X_1 on a square, asked for its largest value: only a corner has it, and centres never do."""
    monkeypatch.setattr(Violations, "search", lambda _self: None)
    layer = nn.Linear(2, 1)
    with torch.no_grad():
        layer.weight.fill_(1.0)
        layer.bias.fill_(0.0)
    prop = Property(2, 1, (Case(_box([-1, -1], [1, 1]), _rows(([-1.0], -2.0))),))
    decision = decide(layer, (2,), prop, timeout=20)
    assert (decision.result, decision.stage, decision.outputs) == ("sat", "halving", (2.0,))


def test_a_part_that_cannot_be_divided_is_set_aside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Near a tie that no executor confirms bounds never decide; a violation elsewhere is found all the same."""
    monkeypatch.setattr(Violations, "search", lambda _self: None)
    net = nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 1))
    with torch.no_grad():  # |x| - 1/2, with kinks that bounds meet at once
        net[0].weight.copy_(torch.tensor([[1.0], [-1.0]]))
        net[0].bias.fill_(0.0)
        net[2].weight.fill_(1.0)
        net[2].bias.fill_(-0.5)

    def replay(x: Tensor) -> Tensor:
        """The network, but where it is least it says a little more."""
        with torch.no_grad():
            y: Tensor = net(x)
        return torch.where(x < 0.5, y.clamp(min=-0.4), y)

    least = Row((Fraction(1),), Fraction(-1, 2))
    flat = Property(1, 1, (Case(_box([-1.0], [0.5]), (least,)),))
    assert decide(net, (1,), flat, timeout=60, replay=replay).result == "unknown"
    both = Property(1, 1, (*flat.cases, Case(_box([0.5], [2.0]), _rows(([-1.0], -1.5)))))
    assert decide(net, (1,), both, timeout=60, replay=replay).result == "sat"


class Kink(nn.Module):
    """10 - x₀ / 4 - 100 (relu(x₁ - 1.3) - relu(x₁ - 1.3)), of which no bound of the whole box knows that it is 0."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(2, 3), nn.Linear(3, 1)
        with torch.no_grad():
            self.first.weight.copy_(torch.tensor([[0.0, 1.0], [0.0, 1.0], [1.0, 0.0]]))
            self.first.bias.copy_(torch.tensor([-1.3, -1.3, 5.0]))
            self.second.weight.copy_(torch.tensor([[-100.0, 100.0, -0.25]]))
            self.second.bias.fill_(11.25)

    def forward(self, x: Tensor) -> Tensor:
        outputs: Tensor = self.second(torch.relu(self.first(x)))
        return outputs


@pytest.mark.parametrize("bound", ["affine", "crown"])
def test_boxes_are_cut_where_the_bound_is_loose(bound: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the centre only x₀ has a gradient; to cut it gains nothing. The least value, 9 on [0, 4]², is above 1."""
    monkeypatch.setattr(halving, "MOST_PARTS", 100)
    monkeypatch.setattr(halving.Halving, "_way", lambda self: bound)
    prop = Property(2, 1, (Case(_box([0, 0], [4, 2]), _rows(([1], 1.0))),))
    assert decide(Kink(), (2,), prop).result == "unsat"


@pytest.mark.parametrize("seed", range(6))
def test_each_way_of_bounding_parts_agrees_with_a_grid(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hair below and well above the least value on a fine grid, by either way alone."""
    net = relu_net(seed, (2, 10, 10, 2))
    axis = np.linspace(-1, 1, 400)
    least = numpy_logits(net, np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2))[:, 0].min()
    for bound, (gap, wanted) in itertools.product(("affine", "crown"), ((-0.05, "unsat"), (1e-3, "sat"))):
        monkeypatch.setattr(halving.Halving, "_way", lambda self, bound=bound: bound)
        prop = Property(2, 2, (Case(_box([-1, -1], [1, 1]), _rows(([1, 0], float(least) + gap))),))
        assert decide(net, (2,), prop).result == wanted


@pytest.mark.parametrize("seed", range(4))
def test_halves_that_begin_with_kept_bounds_agree_with_a_grid(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where ``crown`` is dear: the bounds of the box and of every part are kept."""
    monkeypatch.setattr(halving, "_WORTH_KEEPING", -1.0)
    monkeypatch.setattr(halving.Halving, "_way", lambda _: "crown")
    begun: list[float] = []  # how much narrower what a part begins with is than the bounds of the whole box

    def narrowed(query: Query, known: Bounds) -> tuple[Tensor, Bounds]:
        begun.append(sum(float((up - low).sum()) for low, up in known.values()) / len(query.box))
        return renewal.narrowed(query, known)

    monkeypatch.setattr(halving, "narrowed", narrowed)
    net = relu_net(seed + 20, (2, 10, 10, 10, 2))
    axis = np.linspace(-1, 1, 400)
    least = numpy_logits(net, np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2))[:, 0].min()
    for gap, wanted in ((-0.05, "unsat"), (1e-3, "sat")):
        prop = Property(2, 2, (Case(_box([-1, -1], [1, 1]), _rows(([1, 0], float(least) + gap))),))
        assert decide(net, (2,), prop).result == wanted
    assert len(begun) > 2
    assert begun[-1] < begun[0]


def test_a_violation_that_no_gradient_leads_to_is_met_among_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    """f = 1 - 2 relu(1 - 12 |x - p|₁): flat but near p, a two-hundredth of the square; <= 0 nearer than 1/24 only."""
    first, peak = nn.Linear(2, 4), nn.Linear(4, 1)
    with torch.no_grad():
        first.weight.copy_(torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]]))
        first.bias.copy_(torch.tensor([-0.3, 0.3, -0.8, 0.8]))
        peak.weight.fill_(-12.0)
        peak.bias.fill_(1.0)
    last = nn.Linear(1, 1)
    with torch.no_grad():
        last.weight.fill_(-2.0)
        last.bias.fill_(1.0)
    net = nn.Sequential(first, nn.ReLU(), peak, nn.ReLU(), last)
    prop = Property(2, 1, (Case(_box([0, 0], [1, 1]), _rows(([1], 0))),))
    decision = decide(net, (2,), prop)
    assert (decision.result, decision.stage) == ("sat", "attack")
    assert decision.inputs is not None
    x, y = map(float, decision.inputs)
    assert abs(x - 0.3) + abs(y - 0.8) <= 1 / 24 + 1e-6
    monkeypatch.setattr(Violations, "_from_best", lambda *_: None)
    assert decide(net, (2,), prop).stage != "attack"
