"""Pictures of coloured blobs on noise, the training of a small network on them in seconds, and networks for maps and vectors."""

import numpy as np
import torch
from torch import Tensor, nn

SIDE = 16


def draw(count: int, seed: int, blob: int = 7, brighter: int = 100) -> tuple[np.ndarray, np.ndarray]:
    """uint8 (N, 16, 16, 3) noise with a blob of the class's colour (red, green, blue, grey), and labels."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 4
    images = rng.integers(0, 120, (count, SIDE, SIDE, 3))
    for image, label in zip(images, labels, strict=True):
        row, column = rng.integers(0, 6, 2)
        channels = slice(None) if label == 3 else slice(label, label + 1)
        image[row : row + blob, column : column + blob, channels] += brighter
    return images.clip(0, 255).astype(np.uint8), labels


def fit(model: nn.Module, images: Tensor, labels: Tensor, optimizer: torch.optim.Optimizer, steps: int) -> None:
    """Train on 64 images a step, chosen at random."""
    model.train()
    for _ in range(steps):
        chosen = torch.randint(len(images), (64,))
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images[chosen]), labels[chosen]).backward()
        optimizer.step()
    model.eval()


class Stages(nn.Module):
    """Network of three stages, each of half the previous size."""

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.one, self.two, self.three = (nn.Conv2d(a, b, 3, 2, 1) for a, b in ((3, 4), (4, 6), (6, 8)))
        self.fc = nn.Linear(8, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.three(self.two(self.one(x)).relu()).mean((2, 3)))


class Body(nn.Module):
    """Small network with different forms of output."""

    def __init__(self, output=lambda logits, hidden: logits, classes: int = 4) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.1))
        self.head = nn.Linear(16, classes)
        self.output = output

    def forward(self, x):
        hidden = self.body(x)
        return self.output(self.head(hidden), hidden)


def body(bias: float = 0.0, **kwargs) -> Body:
    torch.manual_seed(3)
    model = Body(**kwargs)
    model.head.bias.data += bias
    return model
