"""TF32 is off while bounds are computed on CUDA, and afterwards as before."""

import pytest
import torch

from gls_es.bounds.precision import full_precision

MATMUL, CONV = torch.backends.cuda.matmul, torch.backends.cudnn.conv


def test_tf32_is_off_inside_and_put_back_even_after_an_error() -> None:
    before = MATMUL.fp32_precision, CONV.fp32_precision
    assert before[1] == "tf32"  # PyTorch's default for convolutions: there is something to switch off

    def interrupted() -> None:
        with full_precision(torch.device("cuda")):
            assert (MATMUL.fp32_precision, CONV.fp32_precision) == ("ieee", "ieee")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert before == (MATMUL.fp32_precision, CONV.fp32_precision)


@pytest.mark.parametrize(("device", "tf32"), [("cpu", False), ("cuda", True)])
def test_settings_are_left_alone_elsewhere_and_on_request(device: str, tf32: bool) -> None:
    before = MATMUL.fp32_precision, CONV.fp32_precision
    with full_precision(torch.device(device), tf32=tf32):
        assert before == (MATMUL.fp32_precision, CONV.fp32_precision)
