"""What ``certify`` accepts, and the one sentence it has for everything else."""

import copy
from fractions import Fraction

import pytest
import torch
from certification_nets import (
    QUICK,
    linear_problem,
    random_images,
    random_linear,
    relu_net,
)
from torch import nn

from gls_es.certification import certify
from gls_es.certification.execution import direct_sums
from gls_es.errors import ConfigError, DataError, GlsEsError, UnsupportedNetworkError
from gls_es.network import Network


def test_double_images_float_lists_and_module_mode_are_handled() -> None:
    net, images, labels = linear_problem()
    net.train()
    report = certify(net, images.double(), labels.tolist(), Fraction(1, 20), attack=QUICK)
    assert net.training
    assert report.eps == 0.05
    wanted = certify(net, images, labels.int(), 0.05, attack=QUICK)
    assert [v.to_json() | {"times": 0, "seconds": 0} for v in report.verdicts] == [
        v.to_json() | {"times": 0, "seconds": 0} for v in wanted.verdicts
    ]


NET = random_linear(0, pixels=4, classes=3)


X = random_images(0, 3, 4)


NAN = X.clone()


NAN[1, 2] = float("nan")


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"net": 3}, ConfigError),
        ({"net": nn.Sequential(nn.Linear(4, 1))}, UnsupportedNetworkError),
        ({"net": Network(NET, (4,)), "images": X[0]}, DataError),
        ({"net": Network(NET, (4,)), "images": X[:, :3]}, DataError),
        ({"images": (X * 255).to(torch.uint8)}, DataError),
        ({"images": X[:0]}, DataError),
        ({"images": NAN}, DataError),
        ({"images": NAN, "clip": False}, DataError),
        ({"images": X + 0.5}, DataError),
        ({"images": -X}, DataError),
        ({"images": X.double() + 1e-12}, DataError),
        ({"images": X.to_sparse()}, DataError),
        ({"images": X.to("meta")}, DataError),
        ({"images": X.to(torch.complex64)}, DataError),
        ({"net": copy.deepcopy(NET).to("meta")}, UnsupportedNetworkError),
        ({"net": nn.Sequential(nn.LazyLinear(3))}, UnsupportedNetworkError),
        ({"labels": torch.tensor([0, 1, 2], device="meta")}, DataError),
        ({"labels": [[0], [1, 2], 0]}, DataError),
        ({"eps": [0.1, 0.2]}, ConfigError),
        ({"eps": torch.tensor(0.1)}, ConfigError),
        ({"timeout": float("nan")}, ConfigError),
        ({"timeout": True}, ConfigError),
        ({"seed": None}, ConfigError),
        ({"records": "a\0b"}, ConfigError),
        ({"progress": 3}, ConfigError),
        ({"device": "meta"}, ConfigError),
        ({"labels": [0, 1]}, DataError),
        ({"labels": [0, 1, 3]}, DataError),
        ({"labels": [0, -1, 2]}, DataError),
        ({"labels": [0.0, 1.0, 2.0]}, DataError),
        ({"labels": torch.tensor([True, False, True])}, DataError),
        ({"labels": "abc"}, DataError),
        ({"labels": None}, DataError),
        ({"eps": -0.1}, ConfigError),
        ({"eps": 8}, ConfigError),
        ({"eps": float("nan")}, ConfigError),
        ({"eps": float("inf")}, ConfigError),
        ({"eps": "8:255"}, ConfigError),
        ({"eps": True}, ConfigError),
        ({"stages": ("ibp", "beta")}, ConfigError),
        ({"timeout": 0}, ConfigError),
        ({"timeout": float("inf")}, ConfigError),
        ({"timeout": "20"}, ConfigError),
        ({"max_domains": 0}, ConfigError),
        ({"max_domains": 2.5}, ConfigError),
        ({"budget": 1000}, ConfigError),
        ({"stages": ("ibp", "ibp")}, ConfigError),
        ({"stages": ("crown", "ibp", "deeppoly")}, ConfigError),
        ({"eps": Fraction(1, 10**500)}, ConfigError),
        ({"stages": "ibp"}, ConfigError),
        ({"stages": 3}, ConfigError),
        ({"stages": [["ibp"]]}, ConfigError),
        ({"execution": "bfloat16"}, ConfigError),
        ({"batch_size": 0}, ConfigError),
        ({"batch_size": 2.0}, ConfigError),
        ({"seed": -1}, ConfigError),
        ({"seed": 0.5}, ConfigError),
        ({"seed": 2**63}, ConfigError),
        ({"eps": torch.full((4,), 0.1).to_sparse()}, ConfigError),
        ({"eps": torch.full((4,), 0.1, dtype=torch.complex64)}, ConfigError),
        ({"eps": [10**400] * 4}, ConfigError),
        ({"eps": [0.1, 0.1, Fraction(1, 10**500), 0.1]}, ConfigError),
        ({"clip": "yes"}, ConfigError),
        ({"attack": {"steps": 3}}, ConfigError),
        ({"records": 3}, ConfigError),
        ({"device": "quantum"}, ConfigError),
        ({"device": 1.5}, ConfigError),
    ],
    ids=lambda value: str(value).replace("\n", "")[:40],
)
def test_bad_arguments_get_one_sentence(change: dict[str, object], error: type[GlsEsError]) -> None:
    arguments = {"net": NET, "images": X, "labels": [0, 1, 2], "eps": 0.1, **change}
    positional = [arguments.pop(name) for name in ("net", "images", "labels", "eps")]
    with pytest.raises(error) as caught:
        certify(*positional, **arguments)
    message = str(caught.value)
    assert 10 < len(message) < 250
    assert "\n" not in message


@pytest.mark.parametrize(
    "images",
    [
        X.clone().requires_grad_(),
        X.t().contiguous().t(),
        (X * 256).round().div(256).half(),
        nn.Parameter(X),
        torch._neg_view(-X),
        torch._efficientzerotensor((3, 4)),
    ],
    ids=["gradients", "another order in memory", "half", "parameter", "negated late", "zeros without memory"],
)
def test_tensors_of_every_kind_are_the_numbers_they_hold(images: torch.Tensor) -> None:
    plain = images.detach().float().contiguous()
    wanted = certify(NET, plain, [0, 1, 2], 0.1, attack=QUICK)
    found = certify(NET, images, [0, 1, 2], 0.1, attack=QUICK)
    assert [(v.verdict, v.margin) for v in found.verdicts] == [(v.verdict, v.margin) for v in wanted.verdicts]


def test_labels_and_radii_that_are_negated_late_are_the_numbers_they_stand_for() -> None:
    labels, radii = torch.tensor([0, 1, 2]), torch.tensor([0.1, 0.0, 0.2, 0.1])
    wanted = certify(NET, X, labels, radii, stages=("ibp",))
    found = certify(NET, X, torch._neg_view(-labels), torch._neg_view(-radii), stages=("ibp",))
    assert [(v.verdict, v.margin) for v in found.verdicts] == [(v.verdict, v.margin) for v in wanted.verdicts]


def test_a_first_layer_in_place_changes_no_images() -> None:
    inner = relu_net(0, (4, 8, 3))
    net = nn.Sequential(nn.ReLU(inplace=True), *inner).eval()
    images = X - 0.5
    before = images.clone()
    labels = inner(images.clamp(min=0)).argmax(1)
    report = certify(net, images, labels, 0.02, clip=False, attack=QUICK)
    assert torch.equal(images, before)
    assert report.counts["misclassified"] == 0


@pytest.mark.parametrize("weight", [float("inf"), float("-inf"), float("nan"), 3e38])
@pytest.mark.parametrize(
    "stages", [("attack", "ibp", "best"), ("alpha",), ("alpha-shared",), ("alpha-layers",), ("bab",)]
)
def test_weights_that_are_no_numbers_certify_nothing(weight: float, stages: tuple[str, ...]) -> None:
    net = relu_net(1, (4, 6, 3))
    net[1].weight.data[0, 0] = weight
    report = certify(net, X, [0, 1, 2], 0.1, stages=stages, attack=QUICK, timeout=5)
    assert report.counts["certified"] == 0


def test_autocast_is_refused() -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16), pytest.raises(ConfigError, match="autocast"):
        certify(NET, X, [0, 1, 2], 0.1)


def test_reduced_precision_settings_are_overridden_and_restored() -> None:
    conv = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3))
    images = random_images(0, 6, 1, 4, 4)
    labels = conv(images).argmax(dim=1)
    wanted = certify(conv, images, labels, 0.01, attack=QUICK)
    torch.set_float32_matmul_precision("medium")
    try:
        found = certify(conv, images, labels, 0.01, attack=QUICK)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")
    assert [v.margin for v in found.verdicts] == [v.margin for v in wanted.verdicts]


def test_direct_sums_switch_reduced_precision_off() -> None:
    products = torch.backends.mkldnn.matmul
    torch.set_float32_matmul_precision("medium")
    try:
        with direct_sums(torch.device("cpu")):
            assert products.fp32_precision == "ieee"
        assert products.fp32_precision != "ieee"
    finally:
        torch.set_float32_matmul_precision("highest")


def test_a_wider_network_is_the_float32_network_for_float32() -> None:
    narrow = certify(NET, X, [0, 1, 2], 0.1, attack=QUICK).network
    wide = copy.deepcopy(NET).double()
    assert certify(wide, X, [0, 1, 2], 0.1, attack=QUICK).network == narrow
    assert certify(wide, X, [0, 1, 2], 0.1, attack=QUICK, execution="float64").network != narrow


def test_a_stage_that_may_have_been_meant() -> None:
    with pytest.raises(ConfigError, match="no stage 'atack': did you mean 'attack'"):
        certify(NET, X, [0, 1, 2], 0.1, stages=("atack", "ibp"))
    with pytest.raises(ConfigError, match="'ibp' is given twice"):
        certify(NET, X, [0, 1, 2], 0.1, stages=("ibp", "ibp"))
