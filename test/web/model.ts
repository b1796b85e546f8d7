import { type Graph, makeGraph, makeNode } from "../../src/graph/graph.ts";
import { random as seeded } from "../../src/random.ts";
import { float32, int64, type Tensor } from "../../src/tensor/tensor.ts";
import type { WireSamples } from "./samples.ts";

/** A small convolutional classifier for 16x16 images, weights from a seed. */
export function smallNetwork(seed = 1): Graph {
  const random = seeded(seed);
  const normal = (deviation: number, ...shape: number[]): Tensor =>
    float32(
      shape,
      Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () => deviation * random.normal()),
    );
  const weights = new Map([
    ["conv1.weight", normal(0.33, 8, 1, 3, 3)],
    ["conv1.bias", normal(0.1, 8)],
    ["bn.scale", normal(1, 8)],
    ["bn.bias", normal(0.1, 8)],
    ["bn.mean", normal(0.1, 8)],
    ["bn.variance", float32([8], new Float32Array(8).fill(0.5))],
    ["conv2.weight", normal(0.12, 16, 8, 3, 3)],
    ["conv2.bias", normal(0.1, 16)],
    ["shape", int64([0, -1])],
    ["fc.weight", normal(0.06, 256, 10)],
    ["fc.bias", normal(0.1, 10)],
  ]);
  const conv = { kernel_shape: [3, 3], pads: [1, 1, 1, 1], strides: [2, 2] };
  return makeGraph({
    name: "small",
    nodes: [
      makeNode("Conv", ["image", "conv1.weight", "conv1.bias"], ["a"], conv, "conv1"),
      makeNode("BatchNormalization", ["a", "bn.scale", "bn.bias", "bn.mean", "bn.variance"], ["n"], {}, "bn"),
      makeNode("Relu", ["n"], ["b"], {}, "relu1"),
      makeNode("Conv", ["b", "conv2.weight", "conv2.bias"], ["c"], conv, "conv2"),
      makeNode("Relu", ["c"], ["d"], {}, "relu2"),
      makeNode("Reshape", ["d", "shape"], ["e"], {}, "flatten"),
      makeNode("Gemm", ["e", "fc.weight", "fc.bias"], ["logits"], {}, "fc"),
    ],
    weights,
    inputs: [{ name: "image", type: { kind: "tensor", dtype: "float32", shape: ["batch", 1, 16, 16] } }],
    outputs: [{ name: "logits", type: { kind: "tensor", dtype: "float32", shape: ["batch", 10] } }],
  });
}

/** Images of seeded noise for it. */
export function noiseImages(count: number, seed = 2): WireSamples {
  const random = seeded(seed);
  const pixels = Float32Array.from({ length: count * 256 }, () => random.normal());
  return { input: "image", shape: [1, 16, 16], bytes: new Uint8Array(pixels.buffer) };
}
