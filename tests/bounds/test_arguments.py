"""What the two functions accept, what they refuse, and in which type and place the answer comes."""

import copy

import pytest
import torch

import gls_es
from gls_es import bounds
from gls_es.errors import ConfigError, GlsEsError
from tests.oracles.api import FLOATS, METHODS, TOLERANCE, WITH_REFERENCE, assert_near, network
from tests.oracles.nets import BY_NAME, boxes
from tests.oracles.problems import attained, margins_of, points, problem, stacked

TASK = problem(BY_NAME["mlp"])
CONV = problem(BY_NAME["batch_norm_2d"])


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("method", METHODS)
def test_dtype_device_and_shape_of_the_result(method: str, dtype: torch.dtype) -> None:
    net = network(CONV, dtype)
    box = CONV.lower.to(dtype), CONV.upper.to(dtype)
    params = CONV.params.to(dtype)
    result = bounds.margins(net, *box, CONV.labels, method=method, params=params)
    assert result.dtype == dtype
    assert result.device == box[0].device
    assert result.shape == (2, 2, net.num_classes - 1)
    for lo, hi in bounds.preactivations(net, *box, method=method, params=params):
        assert lo.dtype == hi.dtype == dtype


@pytest.mark.parametrize("method", WITH_REFERENCE)
def test_float64_boxes_on_a_float32_network_are_bounded_in_float64(method: str) -> None:
    """Certification asks this of a network trained in float32: its weights, read exactly, in float64 arithmetic."""
    task = problem(BY_NAME["batch_norm_2d"], 1, 2)
    net = network(task, torch.float32)
    result = bounds.margins(net, task.lower.double(), task.upper.double(), task.labels, method=method)
    assert result.dtype == torch.float64
    assert_near(result.detach(), stacked(method, task)[0], TOLERANCE[torch.float64])


@pytest.mark.parametrize("method", METHODS)
def test_numbers_that_are_negated_late_are_bounded_as_what_they_stand_for(method: str) -> None:
    """Memory holds their negatives, and compiled code reads memory; of lazy zeros there is none at all."""
    net, lower, upper, labels, params = network(TASK, torch.float32), TASK.lower, TASK.upper, TASK.labels, TASK.params
    wanted = bounds.margins(net, lower, upper, labels, method=method, params=params)
    late = [torch._neg_view(-value) for value in (lower, upper, params)]
    assert torch.equal(bounds.margins(net, *late[:2], labels, method=method, params=late[2]), wanted)
    zeros = torch.zeros_like(lower)
    nothing = torch._efficientzerotensor(lower.shape)
    wanted = bounds.margins(net, zeros, zeros, labels, method=method)
    assert torch.equal(bounds.margins(net, nothing, nothing, labels, method=method), wanted)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("method", METHODS)
def test_cuda_gives_the_same_bounds(method: str) -> None:
    net = network(CONV, torch.float64)
    arguments = [CONV.lower.double(), CONV.upper.double(), CONV.labels]
    here = bounds.margins(net, *arguments, method=method, params=CONV.params.double())
    there = bounds.margins(net, *(a.cuda() for a in arguments), method=method, params=CONV.params.double().cuda())
    assert there.is_cuda
    assert_near(there.cpu(), here, 1e-10)


def test_default_method_is_crown() -> None:
    net = network(TASK, torch.float64)
    box = TASK.lower.double(), TASK.upper.double()
    crown = bounds.margins(net, *box, TASK.labels, method="crown")
    torch.testing.assert_close(bounds.margins(net, *box, TASK.labels), crown, rtol=0, atol=0)
    pairs = zip(bounds.preactivations(net, *box), bounds.preactivations(net, *box, method="crown"), strict=True)
    for one, other in pairs:
        torch.testing.assert_close(one, other, rtol=0, atol=0)


@pytest.mark.parametrize("name", ["CROWN", "crwon", "", "alpha-crown", None])
def test_unknown_methods_are_refused_with_the_list(name: str | None) -> None:
    net = network(TASK, torch.float32)
    with pytest.raises(ConfigError) as caught:
        bounds.margins(net, TASK.lower, TASK.upper, TASK.labels, method=name)
    assert all(method in str(caught.value) for method in METHODS)
    with pytest.raises(ConfigError):
        bounds.preactivations(net, TASK.lower, TASK.upper, method=name)


def _with(t: torch.Tensor, value: float) -> torch.Tensor:
    t = t.clone()
    t.view(-1)[3] = value
    return t


L, U, Y = TASK.lower, TASK.upper, TASK.labels
BAD_BOXES = {
    "lower above upper": (U, L),
    "one pixel crossed": (_with(L, 2.0), U),
    "NaN in lower": (_with(L, float("nan")), U),
    "NaN in upper": (L, _with(U, float("nan"))),
    "infinite lower": (_with(L, float("-inf")), U),
    "infinite upper": (L, _with(U, float("inf"))),
    "upper of another batch size": (L, U[:1]),
    "no batch axis": (L[0], U[0]),
    "too many features": (torch.cat([L, L], 1), torch.cat([U, U], 1)),
    "image instead of vector": (L.reshape(2, 1, 2, 3), U.reshape(2, 1, 2, 3)),
    "integers": (torch.zeros(2, 6, dtype=torch.int64), torch.ones(2, 6, dtype=torch.int64)),
    "different precisions": (L.double(), U),
    "half precision": (L.half(), U.half()),
    "NumPy": (L.numpy(), U.numpy()),
    "a list": (L.tolist(), U.tolist()),
    "sparse": (L.to_sparse(), U.to_sparse()),
    "complex": (L.to(torch.complex64), U.to(torch.complex64)),
    "on the meta device": (L.to("meta"), U.to("meta")),
}
BAD_LABELS = {
    "too large": torch.tensor([0, 4]),
    "negative": torch.tensor([-1, 0]),
    "too few": torch.tensor([0]),
    "two axes": torch.tensor([[0], [1]]),
    "floating": torch.tensor([0.0, 1.0]),
    "floats in a list": [0.0, 1.0],
    "no labels": None,
    "on the meta device": torch.zeros(2, dtype=torch.int64, device="meta"),
}
P = TASK.params
BAD_PARAMS = {
    "too short": P[:, :-1],
    "too long": torch.cat([P, P[:, :1]], 1),
    "no member axis": P[0],
    "three axes": P[None],
    "integers": torch.zeros(P.shape, dtype=torch.int64),
    "a list": P.tolist(),
    "sparse": P.to_sparse(),
}


@pytest.mark.parametrize("box", BAD_BOXES.values(), ids=BAD_BOXES)
@pytest.mark.parametrize("method", METHODS)
def test_bad_boxes_are_refused(method: str, box: tuple[torch.Tensor, torch.Tensor]) -> None:
    net = network(TASK, torch.float32)
    with pytest.raises(GlsEsError, match=r"\w"):
        bounds.margins(net, *box, TASK.labels, method=method)
    with pytest.raises(GlsEsError, match=r"\w"):
        bounds.preactivations(net, *box, method=method)


@pytest.mark.parametrize("labels", BAD_LABELS.values(), ids=BAD_LABELS)
def test_bad_labels_are_refused(labels: torch.Tensor) -> None:
    with pytest.raises(GlsEsError, match="label"):
        bounds.margins(network(TASK, torch.float32), TASK.lower, TASK.upper, labels, method="ibp")


@pytest.mark.parametrize("params", BAD_PARAMS.values(), ids=BAD_PARAMS)
def test_bad_parameters_are_refused(params: torch.Tensor) -> None:
    net = network(TASK, torch.float32)
    with pytest.raises(GlsEsError, match="param"):
        bounds.margins(net, TASK.lower, TASK.upper, TASK.labels, method="ibp", params=params)
    with pytest.raises(GlsEsError, match="param"):
        bounds.preactivations(net, TASK.lower, TASK.upper, method="ibp", params=params)


def test_a_wrong_length_is_told_with_both_numbers() -> None:
    net = network(TASK, torch.float32)
    with pytest.raises(GlsEsError) as caught:
        bounds.margins(net, TASK.lower, TASK.upper, TASK.labels, params=TASK.params[:, :-1])
    assert str(net.num_parameters) in str(caught.value)
    assert str(net.num_parameters - 1) in str(caught.value)


@pytest.mark.parametrize("method", METHODS)
def test_boxes_clipped_to_the_unit_cube_are_used_as_given(method: str) -> None:
    """Clipping is the caller's; a clipped box and the same numbers given directly are one box."""
    case = TASK.case
    net = network(TASK, torch.float64)
    lower, upper = (t.double() for t in boxes(case, 2, eps=0.6))
    assert ((lower == 0) | (upper == 1)).any()
    clipped = bounds.margins(net, lower, upper, TASK.labels, method=method).detach()
    x = lower + (upper - lower) * torch.rand((500, *lower.shape), dtype=torch.float64).round()
    with torch.no_grad():
        for i, label in enumerate(TASK.labels.tolist()):
            logits = copy.deepcopy(TASK.module).double()(x[:, i])
            assert (clipped[0, i] <= margins_of(logits, label).amin(0) + 1e-12 * (1 + clipped.abs().max())).all()


@pytest.mark.parametrize("layer", [0, 2, 4])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("method", METHODS)
def test_a_member_with_a_broken_weight_claims_nothing_and_spoils_nobody(method: str, value: float, layer: int) -> None:
    """NaN is not "dead": no comparison with it may pick a branch that turns it into a finite bound."""
    net = network(TASK, torch.float64)
    params = TASK.params.double().repeat(2, 1)
    names = [n for n, _ in TASK.module.named_parameters()]
    sizes = [p.numel() for p in TASK.module.parameters()]
    params[1, sum(sizes[: names.index(f"body.{layer}.weight")])] = value
    box = TASK.lower.double(), TASK.upper.double()
    with torch.no_grad():
        result = bounds.margins(net, *box, TASK.labels, method=method, params=params)
        alone = bounds.margins(net, *box, TASK.labels, method=method, params=params[[0, 2, 3]])
    assert_near(result[[0, 2, 3]], alone, 1e-12)
    broken = result[1]
    if value != value:
        # the last layer's weight belongs to class 0, which every margin of label 0 and one of every other holds
        affected = broken if layer < 4 else torch.stack([broken[i][_row(0, y)] for i, y in enumerate(Y.tolist())])
        assert not (affected.isfinite() & (affected > 0)).any()
        assert not affected.isfinite().any()
    else:
        task = type(TASK)(TASK.case, TASK.module, params.float(), L, U, Y)
        for i, label in enumerate(Y.tolist()):
            sampled = margins_of(attained(task, 1, points(task, 1, i, 20))[0], label)
            claimed = broken[i].isfinite() & (broken[i] > 0)
            assert not (claimed & ~(sampled > 0).all(0)).any()


def _row(j: int, label: int) -> int:
    """The row of class j among the classes other than the label."""
    return j - (j > label)


@pytest.mark.parametrize("method", METHODS)
def test_population_of_none_and_batch_of_none(method: str) -> None:
    """An empty population or batch gives an empty result or a refusal, never a crash of another kind."""
    net = network(TASK, torch.float32)
    for members, images in ((0, 2), (2, 0)):
        try:
            result = bounds.margins(net, L[:images], U[:images], Y[:images], method=method, params=P[:members])
        except GlsEsError:
            continue
        assert result.shape == (members, images, 3)


def test_labels_may_be_a_list() -> None:
    net = network(TASK, torch.float32)
    assert torch.equal(bounds.margins(net, L, U, Y.tolist()), bounds.margins(net, L, U, Y))


def test_bounds_are_not_computed_under_autocast() -> None:
    net = network(TASK, torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16), pytest.raises(ConfigError, match="autocast"):
        bounds.margins(net, L, U, Y)


def test_network_of_another_kind_is_refused() -> None:
    """A plain module instead of a Network is a mistake that people make."""
    with pytest.raises(ConfigError, match=r"gls_es\.Network\(module, input_shape\), not of Linear"):
        bounds.margins(torch.nn.Linear(6, 4), L, U, Y)
    assert isinstance(network(TASK, torch.float32), gls_es.Network)
