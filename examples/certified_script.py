"""``plain_script.py`` with certified training: the loop over epochs became one call.

    python examples/certified_script.py

Takes about sixty seconds.
"""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import gls_es
from gls_es.data import load_digits

torch.manual_seed(0)
digits = load_digits()
train_loader = DataLoader(TensorDataset(*digits.train.batch()), batch_size=64, shuffle=True)
test_loader = DataLoader(TensorDataset(*digits.test.batch()), batch_size=64)
model = nn.Sequential(nn.Flatten(), nn.Linear(64, 40), nn.ReLU(), nn.Linear(40, 10))

model = gls_es.train(model, train_loader, eps=0.05, searcher="rgs", budget="1m").module

correct = sum(int((model(images).argmax(1) == labels).sum()) for images, labels in test_loader)
print(f"accuracy: {correct / len(digits.test):.1%}")
print(gls_es.certify(model, test_loader, 0.05))
