import { z } from "zod";
import { float, type Graph } from "../../graph/graph.ts";
import type { Random } from "../../random.ts";
import { float32, int64 } from "../../tensor/tensor.ts";
import { imageInput, imageOptions, logits } from "./image.ts";
import { type Network, network } from "./network.ts";

interface Size {
  readonly dim: number;
  readonly heads: number;
  readonly layers: number;
  readonly length: number;
  readonly causal: boolean;
}

function layerNorm(net: Network, name: string, x: string, dim: number): string {
  const scale = net.filled(`${name}.weight`, [dim], 1);
  return net.op("LayerNormalization", [x, scale, net.filled(`${name}.bias`, [dim], 0)], {
    axis: -1,
    epsilon: float(1e-5),
  });
}

/** x W + b over the last axis, deviation 0.02 as GPT-2 has it. */
function dense(net: Network, name: string, x: string, from: number, to: number, deviation = 0.02): string {
  const product = net.op("MatMul", [x, net.normal(`${name}.weight`, [from, to], deviation)]);
  return net.op("Add", [product, net.filled(`${name}.bias`, [to], 0)], {}, name);
}

/** Multi-head attention over [batch, length, dim], queries, keys and values by one product. */
function attention(net: Network, name: string, x: string, { dim, heads, length, causal, layers }: Size): string {
  const packed = net.op("Reshape", [
    dense(net, `${name}.qkv`, x, dim, 3 * dim),
    net.constant("shape", int64([0, 0, 3, heads, dim / heads])),
  ]);
  const moved = net.op("Transpose", [packed], { perm: [2, 0, 3, 1, 4] });
  const [query, key, value] = net
    .ops("Split", [moved], { axis: 0, num_outputs: 3 }, 3)
    .map((part) => net.op("Squeeze", [part, net.constant("first", int64([0]))])) as [string, string, string];
  const scale = net.constant("scale", float32([], [1 / Math.sqrt(dim / heads)]));
  const keys = net.op("Transpose", [key], { perm: [0, 1, 3, 2] });
  let scores = net.op("MatMul", [net.op("Mul", [query, scale]), keys]);
  if (causal) {
    const mask = Float32Array.from({ length: length * length }, (_, i) =>
      i % length > Math.floor(i / length) ? -1e9 : 0,
    );
    scores = net.op("Add", [scores, net.constant("mask", float32([length, length], mask))]);
  }
  const mixed = net.op("MatMul", [net.op("Softmax", [scores], { axis: -1 }), value]);
  const merged = net.op("Reshape", [
    net.op("Transpose", [mixed], { perm: [0, 2, 1, 3] }),
    net.constant("merged", int64([0, 0, dim])),
  ]);
  return dense(net, `${name}.out`, merged, dim, dim, 0.02 / Math.sqrt(2 * layers));
}

/** Pre-norm transformer blocks, feed-forward four times as wide, and a last norm. */
function blocks(net: Network, input: string, size: Size): string {
  const { dim, layers } = size;
  let x = input;
  for (let layer = 0; layer < layers; layer++) {
    const name = `block${layer}`;
    x = net.op("Add", [x, attention(net, `${name}.attention`, layerNorm(net, `${name}.norm1`, x, dim), size)]);
    const inner = dense(net, `${name}.up`, layerNorm(net, `${name}.norm2`, x, dim), dim, 4 * dim);
    const hidden = net.op("Gelu", [inner], { approximate: "tanh" });
    x = net.op("Add", [x, dense(net, `${name}.down`, hidden, 4 * dim, dim, 0.02 / Math.sqrt(2 * layers))]);
  }
  return layerNorm(net, "norm", x, dim);
}

/** Options of the vision transformer. */
export const vitOptions = imageOptions.omit({ width: true }).extend({
  patch: z.number().int().positive().default(4).describe("side of a patch, in pixels"),
  dim: z.number().int().positive().default(192).describe("width of the residual stream"),
  heads: z.number().int().positive().default(3).describe("attention heads"),
  layers: z.number().int().positive().default(6).describe("transformer blocks"),
});

/** A vision transformer over square patches, the mean of the tokens classified (Dosovitskiy et al. 2021). */
export function vit(options: z.output<typeof vitOptions>, random: Random): Graph {
  const { inputChannels, size, patch, dim, heads, layers, classes } = options;
  const length = (size / patch) ** 2;
  return network("vit", [imageInput({ ...options, width: 1 })], logits(options), random, (net) => {
    const patches = net.conv("patch", "image", inputChannels, dim, {
      kernel: patch,
      stride: patch,
      pads: [0, 0, 0, 0],
      bias: true,
    });
    const tokens = net.op("Transpose", [net.op("Reshape", [patches, net.constant("flat", int64([0, dim, -1]))])], {
      perm: [0, 2, 1],
    });
    const placed = net.op("Add", [tokens, net.normal("positions", [1, length, dim], 0.02)]);
    const encoded = blocks(net, placed, { dim, heads, layers, length, causal: false });
    const pooled = net.op("ReduceMean", [encoded, net.constant("axis", int64([1]))], { keepdims: 0 });
    return net.linear("fc", pooled, dim, classes);
  });
}

/** Options of the language model. */
export const gptOptions = z.object({
  vocabulary: z.number().int().positive().default(65).describe("number of tokens"),
  length: z.number().int().positive().default(128).describe("tokens of context"),
  dim: z.number().int().positive().default(128).describe("width of the residual stream"),
  heads: z.number().int().positive().default(4).describe("attention heads"),
  layers: z.number().int().positive().default(4).describe("transformer blocks"),
});

/** A decoder-only language model as GPT-2, its head tied to the embedding (Radford et al. 2019). */
export function gpt(options: z.output<typeof gptOptions>, random: Random): Graph {
  const { vocabulary, length, dim, heads, layers } = options;
  const ids = { name: "input_ids", type: { kind: "tensor", dtype: "int64", shape: ["batch", length] } } as const;
  const output = {
    name: "logits",
    type: { kind: "tensor", dtype: "float32", shape: ["batch", length, vocabulary] },
  } as const;
  return network("gpt", [ids], output, random, (net) => {
    const table = net.normal("tokens", [vocabulary, dim], 0.02);
    const embedded = net.op("Gather", [table, "input_ids"], { axis: 0 });
    const placed = net.op("Add", [embedded, net.normal("positions", [length, dim], 0.02)]);
    const encoded = blocks(net, placed, { dim, heads, layers, length, causal: true });
    return net.op("MatMul", [encoded, net.op("Transpose", [table], { perm: [1, 0] })]);
  });
}
