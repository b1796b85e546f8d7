"""The groups that Torch-Pruning finds in a network: what it would cut together.

    python couplings.py NAME [OPTIONS]      # OPTIONS as JSON, for the networks of networks.py

prints one JSON line: {"version": ..., "groups": [units, ...]}. The classifier is left out, as its documentation asks.
"""

import json
import sys
import warnings

import torch
import torch_pruning
from torch import nn
from torch.nn import functional as F

from networks import build


class Bottleneck(nn.Module):
    def __init__(self, channels, width, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 1, bias=False)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn1, self.bn2, self.bn3 = nn.BatchNorm2d(width), nn.BatchNorm2d(width), nn.BatchNorm2d(4 * width)
        self.projects = stride > 1 or channels != 4 * width
        if self.projects:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels, 4 * width, 1, stride, bias=False), nn.BatchNorm2d(4 * width)
            )

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn3(self.conv3(F.relu(self.bn2(self.conv2(y)))))
        return F.relu(y + (self.shortcut(x) if self.projects else x))


class ResNet50(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64)
        blocks, channels = [], 64
        for stage, count in enumerate([3, 4, 6, 3]):
            for block in range(count):
                blocks.append(Bottleneck(channels, 64 << stage, 2 if block == 0 and stage > 0 else 1))
                channels = 256 << stage
        self.blocks = nn.Sequential(*blocks)
        self.fc = nn.Linear(2048, 1000)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        return self.fc(torch.flatten(F.adaptive_avg_pool2d(self.blocks(x), 1), 1))


class DenseLayer(nn.Module):
    def __init__(self, channels, growth):
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(channels), nn.Conv2d(channels, 4 * growth, 1, bias=False)
        self.bn2, self.conv2 = nn.BatchNorm2d(4 * growth), nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False)

    def forward(self, x):
        y = self.conv2(F.relu(self.bn2(self.conv1(F.relu(self.bn1(x))))))
        return torch.cat([x, y], 1)


class DenseNet(nn.Module):
    """Blocks of 4 layers that each add 12 channels, halved by a 1x1 convolution and a pool in between."""

    def __init__(self, growth=12, layers=4, blocks=3):
        super().__init__()
        channels = 2 * growth
        self.stem = nn.Conv2d(3, channels, 3, padding=1, bias=False)
        parts = []
        for block in range(blocks):
            for _ in range(layers):
                parts.append(DenseLayer(channels, growth))
                channels += growth
            if block < blocks - 1:
                parts += [nn.BatchNorm2d(channels), nn.ReLU(), nn.Conv2d(channels, channels // 2, 1, bias=False)]
                parts.append(nn.AvgPool2d(2))
                channels //= 2
        self.parts = nn.Sequential(*parts)
        self.bn, self.fc = nn.BatchNorm2d(channels), nn.Linear(channels, 10)

    def forward(self, x):
        x = F.relu(self.bn(self.parts(self.stem(x))))
        return self.fc(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1))


own = {"resnet50": ResNet50, "densenet": DenseNet}

if __name__ == "__main__":
    warnings.simplefilter("ignore")
    name, options = sys.argv[1], json.loads(sys.argv[2]) if len(sys.argv) > 2 else {}
    model = (own[name]() if name in own else build(name, options)).eval()
    size = options.get("size", 32)
    graph = torch_pruning.DependencyGraph()
    graph.build_dependency(model, example_inputs=torch.randn(1, 3, size, size))
    groups = graph.get_all_groups(ignored_layers=[model.fc], root_module_types=[nn.Conv2d, nn.Linear])
    units = sorted(len(group[0].idxs) for group in groups)
    print(json.dumps({"version": torch_pruning.__version__, "groups": units}))
