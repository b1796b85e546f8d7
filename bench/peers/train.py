"""Time training steps in PyTorch: forward, backward and update.

    python train.py CONFIG      CONFIG as JSON, see below

Reads JSON lines on stdin and answers each on stdout: {"steps": n} with {"ms": [...]}, one time a step. The first line
printed is {"ready": ...} after the warm-up, or {"error": ...}.

    arch, options   the network, as networks.py knows it
    batch           samples a step
    variant         "eager", "channels_last" or "compile"
    threads, warmup numbers
    training        optimizer ("sgd" or "adamw"), rate, momentum, nesterov, decay
"""

import json
import sys
import time

import torch
from torch.nn import functional as F

import networks


def parameter_groups(module, decay):
    """Matrices and kernels decay, biases and norms do not."""
    parameters = list(module.parameters())
    return [
        {"params": [p for p in parameters if p.dim() > 1], "weight_decay": decay},
        {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0},
    ]


def optimizer_of(module, training):
    groups = parameter_groups(module, training["decay"])
    if training["optimizer"] == "adamw":
        return torch.optim.AdamW(groups, lr=training["rate"])
    return torch.optim.SGD(groups, lr=training["rate"], momentum=training["momentum"], nesterov=training["nesterov"])


def sample(config):
    """One batch of noise with random labels."""
    batch, options = config["batch"], config["options"]
    if config["arch"] == "gpt":
        shape = (batch, options["length"])
        return torch.randint(options["vocabulary"], shape), torch.randint(options["vocabulary"], shape)
    return torch.randn(batch, 3, options["size"], options["size"]), torch.randint(options["classes"], (batch,))


def make_step(config):
    torch.manual_seed(0)
    module = networks.build(config["arch"], config["options"]).train()
    inputs, labels = sample(config)
    if config["variant"] == "channels_last":
        module = module.to(memory_format=torch.channels_last)
        inputs = inputs.contiguous(memory_format=torch.channels_last)
    optimizer = optimizer_of(module, config["training"])

    def loss_of(inputs, labels):
        return F.cross_entropy(module(inputs).flatten(0, -2), labels.flatten())

    if config["variant"] == "compile":
        loss_of = torch.compile(loss_of)

    def step():
        optimizer.zero_grad(set_to_none=True)
        loss = loss_of(inputs, labels)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def timed(step, count):
    times = []
    for _ in range(count):
        start = time.perf_counter()
        step()
        times.append((time.perf_counter() - start) * 1000)
    return times


def say(message):
    print(json.dumps(message), flush=True)


def main():
    config = json.loads(sys.argv[1])
    torch.set_num_threads(config["threads"])
    step = make_step(config)
    timed(step, config["warmup"])
    say({"ready": f"PyTorch {torch.__version__}"})
    for line in sys.stdin:
        say({"ms": timed(step, json.loads(line)["steps"])})


try:
    main()
except Exception as error:  # the bench records what the peer says
    say({"error": f"{type(error).__name__}: {error}"})
