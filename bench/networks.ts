/**
 * Well-known architectures with random weights, to measure what compressing them costs in time and memory:
 * `npx tsx bench/networks.ts FOLDER` writes resnet50.onnx, bert-base.onnx and gpt2.onnx there.
 */
import { mkdirSync, realpathSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { type Draft, edit } from "../src/graph/edit.ts";
import { float, type Graph, makeGraph, type PlainAttribute, type Value } from "../src/graph/graph.ts";
import { save } from "../src/platform/node.ts";
import { float32, int64, lazyTensor, type Tensor } from "../src/tensor/tensor.ts";

/** Approximately normal numbers, a function of position alone, so that any part can be made without the rest. */
export function randomWeight(shape: readonly number[], deviation: number, seed: number, mean = 0): Tensor {
  // sum of the four bytes of a mixed counter: mean 510, variance 4 (256² - 1) / 12
  const scale = deviation / Math.sqrt((4 * 65535) / 12);
  return lazyTensor("float32", shape, (offset, length) => {
    const out = new Float32Array(length / 4);
    const start = offset / 4;
    for (let i = 0; i < out.length; i++) {
      let h = Math.imul(start + i + 1, 0x9e3779b9) ^ Math.imul(seed + 1, 0x85ebca6b);
      h = Math.imul(h ^ (h >>> 16), 0x21f0aaad);
      h = Math.imul(h ^ (h >>> 15), 0x735a2d97);
      h ^= h >>> 15;
      out[i] = mean + scale * ((h & 255) + ((h >>> 8) & 255) + ((h >>> 16) & 255) + (h >>> 24) - 510);
    }
    return new Uint8Array(out.buffer);
  });
}

interface Net {
  readonly draft: Draft;
  weight(stem: string, shape: readonly number[], deviation?: number, mean?: number): string;
  op(op: string, inputs: readonly string[], attributes?: Readonly<Record<string, PlainAttribute>>): string;
}

function build(name: string, inputs: readonly Value[], output: string, body: (net: Net) => string): Graph {
  const empty = makeGraph({
    name,
    nodes: [],
    inputs,
    outputs: [{ name: output, type: { kind: "tensor", dtype: "float32" } }],
    opsets: { "": 17 },
    irVersion: 8,
  });
  let seed = 0;
  return edit(empty, (draft) => {
    const result = body({
      draft,
      weight: (stem, shape, deviation = 0.02, mean = 0) =>
        draft.constant(stem, randomWeight(shape, deviation, seed++, mean)),
      op: (op, ins, attributes = {}) => draft.emit(op, ins, attributes),
    });
    draft.emit("Identity", [result], {}, [output]);
  });
}

/** ResNet-50 (He et al. 2015) for 224x224 images, 25.6 M parameters, BatchNormalization not folded. */
export function resnet50(): Graph {
  const image: Value = { name: "image", type: { kind: "tensor", dtype: "float32", shape: ["batch", 3, 224, 224] } };
  return build("resnet50", [image], "logits", (net) => {
    const { weight, op } = net;
    const conv = (x: string, cin: number, cout: number, k: number, stride: number, gamma: number): string => {
      const w = weight("conv.weight", [cout, cin, k, k], Math.sqrt(2 / (cin * k * k)));
      const pad = (k - 1) / 2;
      const y = op("Conv", [x, w], { kernel_shape: [k, k], strides: [stride, stride], pads: [pad, pad, pad, pad] });
      const vector = (stem: string, mean: number): string => weight(stem, [cout], 0.02, mean);
      const bn = [vector("bn.weight", gamma), vector("bn.bias", 0), vector("bn.mean", 0), vector("bn.var", 1)];
      return op("BatchNormalization", [y, ...bn], { epsilon: float(1e-5) });
    };
    const relu = (x: string): string => op("Relu", [x]);
    let x = relu(conv("image", 3, 64, 7, 2, 1));
    x = op("MaxPool", [x], { kernel_shape: [3, 3], strides: [2, 2], pads: [1, 1, 1, 1] });
    let channels = 64;
    for (const [stage, blocks] of [3, 4, 6, 3].entries()) {
      const width = 64 << stage;
      for (let block = 0; block < blocks; block++) {
        const stride = block === 0 && stage > 0 ? 2 : 1;
        const shortcut = block === 0 ? conv(x, channels, width * 4, 1, stride, 1) : x;
        let y = relu(conv(x, channels, width, 1, 1, 1));
        y = relu(conv(y, width, width, 3, stride, 1));
        y = conv(y, width, width * 4, 1, 1, 0.25);
        channels = width * 4;
        x = relu(op("Add", [y, shortcut]));
      }
    }
    const pooled = op("Flatten", [op("GlobalAveragePool", [x])]);
    return op("Gemm", [pooled, weight("fc.weight", [1000, 2048]), weight("fc.bias", [1000])], { transB: 1 });
  });
}

function layerNorm(net: Net, x: string, width: number): string {
  const scale = net.weight("norm.weight", [width], 0.02, 1);
  return net.op("LayerNormalization", [x, scale, net.weight("norm.bias", [width])], { axis: -1, epsilon: float(1e-5) });
}

function linear(net: Net, x: string, from: number, to: number): string {
  return net.op("Add", [
    net.op("MatMul", [x, net.weight("linear.weight", [from, to])]),
    net.weight("linear.bias", [to]),
  ]);
}

function gelu(net: Net, x: string): string {
  const { draft, op } = net;
  const scalar = (value: number): string => draft.constant("scalar", float32([], [value]));
  const erf = op("Erf", [op("Mul", [x, scalar(Math.SQRT1_2)])]);
  return op("Mul", [op("Mul", [x, op("Add", [erf, scalar(1)])]), scalar(0.5)]);
}

function attention(net: Net, x: string, width: number, heads: number, length: number, causal: boolean): string {
  const { draft, op } = net;
  const split = draft.constant("split", int64([0, 0, heads, width / heads]));
  const head = (perm: readonly number[]): string =>
    op("Transpose", [op("Reshape", [linear(net, x, width, width), split])], { perm });
  const query = head([0, 2, 1, 3]);
  const key = head([0, 2, 3, 1]);
  const value = head([0, 2, 1, 3]);
  const scale = draft.constant("scale", float32([], [1 / Math.sqrt(width / heads)]));
  let scores = op("Mul", [op("MatMul", [query, key]), scale]);
  if (causal) {
    const mask = Float32Array.from({ length: length * length }, (_, i) =>
      i % length > Math.floor(i / length) ? -1e9 : 0,
    );
    scores = op("Add", [scores, draft.constant("mask", float32([1, 1, length, length], mask))]);
  }
  const mixed = op("MatMul", [op("Softmax", [scores], { axis: -1 }), value]);
  const merged = op("Reshape", [
    op("Transpose", [mixed], { perm: [0, 2, 1, 3] }),
    draft.constant("merge", int64([0, 0, width])),
  ]);
  return linear(net, merged, width, width);
}

interface TransformerSize {
  readonly vocabulary: number;
  readonly positions: number;
  readonly length: number;
  readonly preNorm: boolean;
}

function transformer(name: string, size: TransformerSize): Graph {
  const width = 768;
  const ids: Value = { name: "input_ids", type: { kind: "tensor", dtype: "int64", shape: ["batch", size.length] } };
  return build(name, [ids], size.preNorm ? "logits" : "hidden", (net) => {
    const { draft, op, weight } = net;
    const table = weight("tokens", [size.vocabulary, width]);
    const positions = Array.from({ length: size.length }, (_, i) => i);
    const place = op("Gather", [
      weight("positions", [size.positions, width]),
      draft.constant("position_ids", int64(positions)),
    ]);
    let x = op("Add", [op("Gather", [table, "input_ids"]), place]);
    if (!size.preNorm) x = layerNorm(net, x, width);
    for (let layer = 0; layer < 12; layer++) {
      const before = size.preNorm ? layerNorm(net, x, width) : x;
      x = op("Add", [x, attention(net, before, width, 12, size.length, size.preNorm)]);
      if (!size.preNorm) x = layerNorm(net, x, width);
      const inner = size.preNorm ? layerNorm(net, x, width) : x;
      x = op("Add", [x, linear(net, gelu(net, linear(net, inner, width, 4 * width)), 4 * width, width)]);
      if (!size.preNorm) x = layerNorm(net, x, width);
    }
    if (!size.preNorm) return x;
    return op("MatMul", [layerNorm(net, x, width), op("Transpose", [table], { perm: [1, 0] })]);
  });
}

/** BERT-base (Devlin et al. 2018): 12 layers of 768, 109 M parameters, 128 tokens. */
export function bertBase(): Graph {
  return transformer("bert-base", { vocabulary: 30522, positions: 512, length: 128, preNorm: false });
}

/** GPT-2 small (Radford et al. 2019): 12 layers of 768, 124 M parameters, head tied to the embedding, 128 tokens. */
export function gpt2(): Graph {
  return transformer("gpt2", { vocabulary: 50257, positions: 1024, length: 128, preNorm: true });
}

/** The networks by file name. */
export const networks: Readonly<Record<string, () => Graph>> = { resnet50, "bert-base": bertBase, gpt2 };

if (process.argv[1] && realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) {
  const folder = process.argv[2] ?? ".";
  mkdirSync(folder, { recursive: true });
  for (const [name, make] of Object.entries(networks)) await save(make(), join(folder, `${name}.onnx`));
}
