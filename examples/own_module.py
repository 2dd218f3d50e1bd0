"""A plain PyTorch script turned into certified training: the loop over batches became one call.

    python examples/own_module.py

A module, a DataLoader to train on and one to test on, as people have them. ``gls_es.train`` takes the first two and the
time there is; ``gls_es.certify`` takes the trained module and the last. Takes about forty seconds.
"""

from __future__ import annotations

import tempfile

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import gls_es
from gls_es.data import load_digits


def main(seconds: float = 30.0, eps: float = 0.05) -> gls_es.CertificationReport:
    """Train and certify; the report on the test images."""
    torch.manual_seed(0)
    digits = load_digits()
    train_loader = DataLoader(TensorDataset(*digits.train.batch()), batch_size=64, shuffle=True)
    test_loader = DataLoader(TensorDataset(*digits.test.batch()), batch_size=64)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 40), nn.ReLU(), nn.Linear(40, 10))

    with tempfile.TemporaryDirectory() as runs:
        trained = gls_es.train(model, train_loader, eps=eps, searcher="rgs", budget=seconds, out=f"{runs}/own")
    print(trained)
    report = gls_es.certify(trained.module, test_loader, eps)
    print(f"certified: {report.certified_accuracy:.1%} of {report.n} test images")
    return report


if __name__ == "__main__":
    main()
