import { type Graph, makeGraph, makeNode, type Node } from "../../src/graph/graph.ts";
import type { Random } from "../../src/random.ts";
import { float32, type Tensor } from "../../src/tensor/tensor.ts";
import { side } from "./render.ts";

/** Output channels and kernel size of each convolution, and the window of the pooling (stride 2) that ends its block. */
const layers = [
  { channels: 32, kernel: 5, pool: 2 },
  { channels: 64, kernel: 3, pool: 2 },
  { channels: 160, kernel: 3, pool: 3 },
];
const classes = 10;

/** A small convolutional network for the digits, [N, 1, 28, 28] to logits [N, 10], with fresh weights (He et al. 2015). */
export function digitsNetwork(random: Random): Graph {
  const weights = new Map<string, Tensor>();
  const nodes: Node[] = [];
  const normal = (name: string, shape: readonly number[], fan: number): void => {
    const stream = random.fork(name);
    const size = shape.reduce((a, b) => a * b, 1);
    const drawn = Float32Array.from({ length: size }, () => stream.normal() * Math.sqrt(2 / fan));
    weights.set(name, float32(shape, drawn));
  };
  const filled = (name: string, size: number, value: number): void => {
    weights.set(name, float32([size], new Float32Array(size).fill(value)));
  };
  let [from, channels, width] = ["image", 1, side];
  for (const [i, { channels: to, kernel, pool }] of layers.entries()) {
    const [conv, norm, relu] = [`conv${i}`, `norm${i}`, `relu${i}`];
    normal(`${conv}.weight`, [to, channels, kernel, kernel], channels * kernel ** 2);
    filled(`${conv}.bias`, to, 0);
    for (const [part, value] of [
      ["scale", 1],
      ["shift", 0],
      ["mean", 0],
      ["var", 1],
    ] as const)
      filled(`${norm}.${part}`, to, value);
    const same = { kernel_shape: [kernel, kernel], pads: Array<number>(4).fill((kernel - 1) / 2) };
    const statistics = ["scale", "shift", "mean", "var"].map((part) => `${norm}.${part}`);
    const window = { kernel_shape: [pool, pool], strides: [2, 2] };
    const last = i === layers.length - 1;
    nodes.push(
      makeNode("Conv", [from, `${conv}.weight`, `${conv}.bias`], [conv], same, conv),
      makeNode("BatchNormalization", [conv, ...statistics], [norm], {}, norm),
      makeNode("Relu", [norm], [relu], {}, relu),
      makeNode(last ? "AveragePool" : "MaxPool", [relu], [`pool${i}`], window, `pool${i}`),
    );
    [from, channels, width] = [`pool${i}`, to, Math.floor((width - pool) / 2) + 1];
  }
  const features = channels * width ** 2;
  normal("fc.weight", [classes, features], 2 * features);
  filled("fc.bias", classes, 0);
  nodes.push(
    makeNode("Flatten", [from], ["flat"], { axis: 1 }, "flatten"),
    makeNode("Dropout", ["flat"], ["features"], {}, "dropout"),
    makeNode("Gemm", ["features", "fc.weight", "fc.bias"], ["scores"], { transB: 1 }, "fc"),
    makeNode("Identity", ["scores"], ["logits"], {}, "output"),
  );
  return makeGraph({
    name: "digits",
    nodes,
    weights,
    inputs: [{ name: "image", type: { kind: "tensor", dtype: "float32", shape: ["N", 1, side, side] } }],
    outputs: [{ name: "logits", type: { kind: "tensor", dtype: "float32", shape: ["N", classes] } }],
    opsets: { "": 17 },
    irVersion: 8,
    metadata: { task: "classification" },
  });
}
