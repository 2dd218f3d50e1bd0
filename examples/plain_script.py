"""Ordinary training with PyTorch, as people have it; ``certified_script.py`` is the same with four lines changed.

    python examples/plain_script.py

Takes about five seconds.
"""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from gls_es.data import load_digits

torch.manual_seed(0)
digits = load_digits()
train_loader = DataLoader(TensorDataset(*digits.train.batch()), batch_size=64, shuffle=True)
test_loader = DataLoader(TensorDataset(*digits.test.batch()), batch_size=64)
model = nn.Sequential(nn.Flatten(), nn.Linear(64, 40), nn.ReLU(), nn.Linear(40, 10))
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

for _epoch in range(20):
    for images, labels in train_loader:
        loss = nn.functional.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

correct = sum(int((model(images).argmax(1) == labels).sum()) for images, labels in test_loader)
print(f"accuracy: {correct / len(digits.test):.1%}")
