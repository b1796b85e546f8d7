"""Gradients by PyTorch's autograd, in float32 and in float64.

    python gradients.py CASE OPTIONS FROM.npz TO.npz

CASE names a network of networks.py or a layer below, OPTIONS is JSON. FROM holds input, labels and weight/NAME; TO gets
loss and NAME, the gradient of weight NAME, each below float32/ and float64/. The loss is the cross-entropy for labels
that are integers, else the mean squared error.
"""

import json
import sys

import numpy
import torch
from torch import nn
from torch.nn import functional as F

import networks


def reordered(gates, order):
    """Blocks of rows in another order."""
    blocks = gates.chunk(len(order))
    return torch.cat([blocks[i] for i in order])


def recurrent(kind, order, w, x):
    """A bidirectional recurrent layer with weights as ONNX keeps them: [directions, gates * hidden, ...]."""
    hidden = w["r"].shape[2]
    module = kind(x.shape[2], hidden, bidirectional=True).to(x.dtype)
    state = {}
    for direction, suffix in enumerate(["", "_reverse"]):
        bias_ih, bias_hh = w["b"][direction].chunk(2)
        parts = {
            "weight_ih": w["w"][direction],
            "weight_hh": w["r"][direction],
            "bias_ih": bias_ih,
            "bias_hh": bias_hh,
        }
        for name, part in parts.items():
            state[f"{name}_l0{suffix}"] = reordered(part, order)
    y, _ = torch.func.functional_call(module, state, (x,))
    return y.unflatten(2, (2, hidden)).transpose(1, 2)


def attention(w, x, heads):
    q, k, v = ((x @ w[name]).unflatten(2, (heads, -1)).transpose(1, 2) for name in ["wq", "wk", "wv"])
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2) @ w["wo"]


layers = {
    "LSTM": lambda w, x: recurrent(nn.LSTM, (0, 2, 3, 1), w, x),  # ONNX: i o f c, PyTorch: i f c o
    "GRU": lambda w, x: recurrent(nn.GRU, (1, 0, 2), w, x),  # ONNX: z r h, PyTorch: r z h
    "Conv1d": lambda w, x: F.conv1d(x, w["w"], w["b"], stride=2, padding=2),
    "Conv2d, grouped": lambda w, x: F.conv2d(x, w["w"], w["b"], stride=2, padding=1, groups=4),
    "Conv2d, depthwise": lambda w, x: F.conv2d(x, w["w"], w["b"], padding=1, groups=8),
    "Conv2d, dilated": lambda w, x: F.conv2d(x, w["w"], w["b"], padding=2, dilation=2),
    "Conv3d": lambda w, x: F.conv3d(x, w["w"], w["b"], stride=2, padding=1),
    "ConvTranspose2d": lambda w, x: F.conv_transpose2d(x, w["w"], w["b"], stride=2, padding=1, output_padding=1, groups=2),
    "GroupNorm": lambda w, x: F.conv2d(F.group_norm(x, 4, w["scale"], w["bias"], 1e-5), w["w"], w["b"], padding=1),
    "LayerNorm": lambda w, x: F.layer_norm(x, (32,), w["scale"], w["bias"], 1e-5) @ w["w"],
    "Attention": lambda w, x: attention(w, x, 4),
}


def output_of(case, options, weights, x):
    if case in layers:
        return layers[case](weights, x)
    module = networks.build(case, options).to(next(iter(weights.values())).dtype)
    return networks.forward(module.train(), weights, x)


def gradients(case, options, arrays, dtype):
    def of_type(array):
        value = torch.from_numpy(array)
        return value.to(dtype) if value.is_floating_point() else value

    weights = {
        name.removeprefix("weight/"): of_type(array).requires_grad_()
        for name, array in arrays.items()
        if name.startswith("weight/") and array.dtype == numpy.float32
    }
    labels = of_type(arrays["labels"])
    y = output_of(case, options, weights, of_type(arrays["input"]))
    if labels.is_floating_point():
        loss = F.mse_loss(y, labels)
    else:
        loss = F.cross_entropy(y.flatten(0, -2), labels.flatten())
    loss.backward()
    found = {name: weight.grad.numpy() for name, weight in weights.items() if weight.grad is not None}
    return {"loss": loss.detach().numpy(), **found}


def main():
    case, options, source, target = sys.argv[1:]
    with numpy.load(source) as archive:
        arrays = dict(archive)
    found = {}
    for name, dtype in [("float32", torch.float32), ("float64", torch.float64)]:
        for key, value in gradients(case, json.loads(options), arrays, dtype).items():
            found[f"{name}/{key}"] = value
    numpy.savez(target, **found)


main()
