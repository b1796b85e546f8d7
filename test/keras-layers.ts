import { afterAll, beforeAll, expect } from "vitest";
import { readKeras } from "../src/formats/keras/index.ts";
import { memorySource } from "../src/formats/source.ts";
import type { Graph } from "../src/graph/graph.ts";
import { assertValid } from "../src/graph/validate.ts";
import { runtime } from "../src/platform/node.ts";
import type { Runtime } from "../src/platform/runtime.ts";
import { type Tensor, toFloat32 } from "../src/tensor/tensor.ts";
import { h5Model, sequential, type TestLayer } from "./keras.ts";

export let engine: Runtime;
export const opened: { release(): Promise<void> }[] = [];
beforeAll(async () => {
  engine = await runtime({ threads: 1 });
});
afterAll(async () => {
  for (const session of opened) await session.release();
});

export async function run(graph: Graph, feeds: Readonly<Record<string, Tensor>>): Promise<readonly Tensor[]> {
  assertValid(graph);
  const session = await engine.open(graph);
  opened.push(session);
  const outputs = await session.run(feeds);
  return graph.outputs.map(({ name }) => outputs[name]!);
}

/** A chain of layers, written as HDF5, read and run. */
export async function chain(layers: readonly TestLayer[], x: Tensor): Promise<{ graph: Graph; y: Tensor }> {
  const bytes = await h5Model(sequential(x.shape.slice(1), layers), layers);
  const graph = await readKeras(memorySource(bytes));
  const [y] = await run(graph, { image: x });
  return { graph, y: y! };
}

export function expectClose(y: Tensor, shape: readonly number[], expected: ArrayLike<number>): void {
  expect(y.shape).toEqual(shape);
  const got = toFloat32(y);
  const scale = Math.max(...Array.from(expected, Math.abs));
  const worst = got.reduce((most, v, i) => Math.max(most, Math.abs(v - expected[i]!)), 0);
  expect(worst / scale).toBeLessThan(1e-5);
}

export const layer = (
  class_name: string,
  config: Readonly<Record<string, unknown>> = {},
  weights: Readonly<Record<string, Tensor>> = {},
): TestLayer => ({ class_name, config: { name: class_name.toLowerCase(), ...config }, weights });

export const ops = (graph: Graph): string[] => graph.nodes.map(({ op }) => op);

/** Convolution of [n, h, w, c] with [kh, kw, c, o], TensorFlow's "same" padding: what is left over goes to the end. */
export function conv(
  x: Tensor,
  kernel: Tensor,
  stride: number,
  same: boolean,
): { shape: number[]; data: Float64Array } {
  const [n, h, w, channels] = x.shape as [number, number, number, number];
  const [kh, kw, , out] = kernel.shape as [number, number, number, number];
  const size = (length: number, k: number) => Math.ceil((same ? length : length - k + 1) / stride);
  const [oh, ow] = [size(h, kh), size(w, kw)];
  const start = (length: number, k: number, o: number) => (same ? Math.max(0, (o - 1) * stride + k - length) >> 1 : 0);
  const [top, left] = [start(h, kh, oh), start(w, kw, ow)];
  const [a, b] = [toFloat32(x), toFloat32(kernel)];
  const data = new Float64Array(n * oh * ow * out);
  for (let at = 0; at < data.length; at++) {
    const o = at % out;
    const column = Math.floor(at / out) % ow;
    const row = Math.floor(at / (out * ow)) % oh;
    const sample = Math.floor(at / (out * ow * oh));
    for (let i = 0; i < kh; i++) {
      for (let j = 0; j < kw; j++) {
        const [y, z] = [row * stride + i - top, column * stride + j - left];
        if (y < 0 || z < 0 || y >= h || z >= w) continue;
        for (let c = 0; c < channels; c++) {
          data[at]! += a[((sample * h + y) * w + z) * channels + c]! * b[((i * kw + j) * channels + c) * out + o]!;
        }
      }
    }
  }
  return { shape: [n, oh, ow, out], data };
}
