"""Images of a problem go to a file's network as it reads them: channels last are moved, never cut up anew."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from gls_es.cli.subject import Subject
from gls_es.errors import DataError


def _shaped(images: torch.Tensor, wanted: tuple[int, ...]) -> torch.Tensor:
    about = SimpleNamespace(source=SimpleNamespace(network=SimpleNamespace(input_shape=wanted)), problem_name="some")
    shaped: torch.Tensor = Subject.shaped(about, images, torch.zeros(len(images)))[0]  # type: ignore[arg-type]
    assert tuple(shaped.shape[1:]) == wanted
    return shaped


def test_every_way_that_networks_read_images() -> None:
    images = torch.arange(2 * 3 * 4 * 5.0).reshape(2, 3, 4, 5)
    assert torch.equal(_shaped(images, (3, 4, 5)), images)
    last = _shaped(images, (4, 5, 3))
    assert torch.equal(last, images.permute(0, 2, 3, 1))
    assert last.is_contiguous()
    assert torch.equal(_shaped(images, (60,)), images.flatten(1))
    assert torch.equal(_shaped(images, (1, 60)).flatten(1), images.flatten(1))
    grey = images[:, :1]
    assert torch.equal(_shaped(grey, (4, 5)).flatten(1), grey.flatten(1))
    assert torch.equal(_shaped(grey, (4, 5, 1)).flatten(1), grey.flatten(1))


@pytest.mark.parametrize("wanted", [(3, 5, 4), (5, 4, 3), (12, 5), (59,), (2, 30)])
def test_shapes_that_would_scramble_images_are_refused(wanted: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match="reads inputs of shape"):
        _shaped(torch.rand(2, 3, 4, 5), wanted)
