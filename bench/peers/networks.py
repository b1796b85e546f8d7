"""The networks that pare builds, in PyTorch, their parameters under the same names.

    build(name, options) -> Module
    forward(module, weights, x) -> output, with weights of pare

A name such as "stem.bn.weight" is a batch normalization inside a convolution: ConvNorm.
"""

import torch
from torch import nn
from torch.nn import functional as F


class ConvNorm(nn.Conv2d):
    """A convolution without bias, then batch normalization."""

    def __init__(self, channels, out, kernel=3, stride=1, groups=1):
        super().__init__(channels, out, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(out)

    def forward(self, x):
        return self.bn(super().forward(x))


class BasicBlock(nn.Module):
    def __init__(self, channels, out, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.stride = stride
        self.before = (out - channels) // 2
        self.after = out - channels - self.before

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)), inplace=True)))
        if self.stride > 1:
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.before, self.after))
        return F.relu(y + x, inplace=True)


class CifarResnet(nn.Module):
    def __init__(self, depth, classes=10, **_):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        channels = 16
        for stage in range(3):
            blocks = []
            for block in range((depth - 2) // 6):
                out = 16 << stage
                blocks.append(BasicBlock(channels, out, 2 if stage > 0 and block == 0 else 1))
                channels = out
            setattr(self, f"layer{stage + 1}", nn.Sequential(*blocks))
        self.fc = nn.Linear(channels, classes)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)), inplace=True)
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(x.mean((2, 3)))


class InvertedResidual(nn.Module):
    def __init__(self, channels, out, stride, expansion):
        super().__init__()
        inner = channels * expansion
        if expansion > 1:
            self.expand = ConvNorm(channels, inner, 1)
        self.depthwise = ConvNorm(inner, inner, 3, stride, inner)
        self.project = ConvNorm(inner, out, 1)
        self.expands = expansion > 1
        self.adds = stride == 1 and channels == out

    def forward(self, x):
        y = F.relu6(self.expand(x), inplace=True) if self.expands else x
        y = self.project(F.relu6(self.depthwise(y), inplace=True))
        return x + y if self.adds else y


class MobileNetV2(nn.Module):
    stages = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]

    def __init__(self, size=96, classes=1000, **_):
        super().__init__()
        small = size <= 64
        self.stem = ConvNorm(3, 32, 3, 1 if small else 2)
        channels = 32
        for i, (expansion, out, repeats, first) in enumerate(self.stages):
            blocks = []
            for block in range(repeats):
                stride = 1 if block > 0 or (small and i == 1) else first
                blocks.append(InvertedResidual(channels, out, stride, expansion))
                channels = out
            setattr(self, f"stage{i + 1}", nn.Sequential(*blocks))
        self.head = ConvNorm(channels, 1280, 1)
        self.fc = nn.Linear(1280, classes)

    def forward(self, x):
        x = F.relu6(self.stem(x), inplace=True)
        for i in range(len(self.stages)):
            x = getattr(self, f"stage{i + 1}")(x)
        return self.fc(F.relu6(self.head(x), inplace=True).mean((2, 3)))


class Attention(nn.Module):
    def __init__(self, dim, heads, causal):
        super().__init__()
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)
        self.heads = heads
        self.causal = causal

    def forward(self, x):
        batch, length, dim = x.shape
        q, k, v = self.qkv(x).view(batch, length, 3, self.heads, dim // self.heads).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        return self.out(y.transpose(1, 2).reshape(batch, length, dim))


class Block(nn.Module):
    def __init__(self, dim, heads, causal):
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attention = Attention(dim, heads, causal)
        self.norm2 = nn.LayerNorm(dim)
        self.up = nn.Linear(dim, 4 * dim)
        self.down = nn.Linear(4 * dim, dim)

    def forward(self, x):
        x = x + self.attention(self.norm1(x))
        return x + self.down(F.gelu(self.up(self.norm2(x)), approximate="tanh"))


def add_blocks(module, dim, heads, layers, causal):
    for layer in range(layers):
        setattr(module, f"block{layer}", Block(dim, heads, causal))
    module.norm = nn.LayerNorm(dim)
    module.layers = layers


def run_blocks(module, x):
    for layer in range(module.layers):
        x = getattr(module, f"block{layer}")(x)
    return module.norm(x)


class Gpt(nn.Module):
    def __init__(self, vocabulary=65, length=128, dim=128, heads=4, layers=4):
        super().__init__()
        self.tokens = nn.Parameter(torch.randn(vocabulary, dim) * 0.02)
        self.positions = nn.Parameter(torch.randn(length, dim) * 0.02)
        add_blocks(self, dim, heads, layers, causal=True)

    def forward(self, ids):
        return F.linear(run_blocks(self, F.embedding(ids, self.tokens) + self.positions), self.tokens)


class Vit(nn.Module):
    def __init__(self, size=32, patch=4, dim=192, heads=3, layers=6, classes=10, inputChannels=3):
        super().__init__()
        self.patch = nn.Conv2d(inputChannels, dim, patch, patch)
        self.positions = nn.Parameter(torch.randn(1, (size // patch) ** 2, dim) * 0.02)
        add_blocks(self, dim, heads, layers, causal=False)
        self.fc = nn.Linear(dim, classes)

    def forward(self, x):
        x = self.patch(x).flatten(2).transpose(1, 2) + self.positions
        return self.fc(run_blocks(self, x).mean(1))


networks = {
    "resnet20": lambda **options: CifarResnet(20, **options),
    "mobilenet-v2": MobileNetV2,
    "gpt": Gpt,
    "vit": Vit,
}


def build(name, options):
    return networks[name](**options)


def transposed(name, parameter):
    """Whether pare keeps this matrix as [in, out]: those of the transformer blocks."""
    return name.startswith("block") and name.endswith(".weight") and parameter.dim() == 2


def forward(module, weights, x):
    """What the module gives for x with weights of pare, by name, in place of its own."""
    state = {
        name: weights[name].T if transposed(name, parameter) else weights[name]
        for name, parameter in module.named_parameters()
    }
    return torch.func.functional_call(module, state, (x,))
