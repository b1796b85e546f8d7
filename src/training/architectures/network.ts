import type { Writer } from "../../autodiff/writer.ts";
import { type Draft, edit } from "../../graph/edit.ts";
import { float, type Graph, makeGraph, type PlainAttribute, type Value } from "../../graph/graph.ts";
import type { Random } from "../../random.ts";
import { float32, sizeOf, type Tensor } from "../../tensor/tensor.ts";

/** Layers to build networks of, with fresh weights. Values are names; each layer returns the name of its output. */
export interface Network {
  readonly draft: Draft;
  op(
    op: string,
    inputs: readonly string[],
    attributes?: Readonly<Record<string, PlainAttribute>>,
    name?: string,
  ): string;
  /** As `op`, with several outputs. */
  ops: Writer["ops"];
  /** A weight with independent normal elements. */
  normal(name: string, shape: readonly number[], deviation: number): string;
  /** A weight with all elements alike. */
  filled(name: string, shape: readonly number[], value: number): string;
  constant(name: string, value: Tensor): string;
  /** Convolution without bias, He-initialized (He et al. 2015); pads to keep the size at stride 1. */
  conv(name: string, x: string, from: number, to: number, options?: ConvOptions): string;
  batchNorm(name: string, x: string, channels: number): string;
  /** x Wᵀ + b over [n, from]; W He-initialized for `gain` 2, LeCun-initialized for 1. */
  linear(name: string, x: string, from: number, to: number, gain?: number): string;
  relu(x: string): string;
}

/** Geometry of a convolution: one number for all sides. */
export interface ConvOptions {
  readonly kernel?: number | readonly [height: number, width: number];
  readonly stride?: number | readonly [height: number, width: number];
  /** [top, left, bottom, right]; half the kernel if absent. */
  readonly pads?: readonly [number, number, number, number];
  readonly group?: number;
  readonly bias?: boolean;
}

/**
 * A graph from layers.
 *
 * @param body writes the layers and returns the name of the last value, which becomes the output
 */
export function network(
  name: string,
  inputs: readonly Value[],
  output: Value,
  random: Random,
  body: (net: Network) => string,
): Graph {
  const empty = makeGraph({ name, nodes: [], inputs, outputs: [output] });
  return edit(empty, (draft) => {
    const last = body(layers(draft, random));
    draft.emit("Identity", [last], {}, [output.name]);
  });
}

function pair(value: number | readonly [number, number]): readonly [number, number] {
  return typeof value === "number" ? [value, value] : value;
}

function layers(draft: Draft, random: Random): Network {
  const op: Network["op"] = (kind, inputs, attributes = {}, name) => {
    const output = draft.fresh(name ?? kind.toLowerCase());
    return draft.emit(kind, inputs, attributes, [output]);
  };
  const normal: Network["normal"] = (name, shape, deviation) => {
    const stream = random.fork(name);
    return draft.constant(
      name,
      float32(
        shape,
        Float32Array.from({ length: sizeOf(shape) }, () => stream.normal() * deviation),
      ),
    );
  };
  const filled: Network["filled"] = (name, shape, value) =>
    draft.constant(name, float32(shape, new Float32Array(sizeOf(shape)).fill(value)));
  return {
    draft,
    op,
    ops(kind, inputs, attributes, count) {
      const outputs = Array.from({ length: count }, () => draft.fresh(kind.toLowerCase()));
      draft.emit(kind, inputs, attributes, outputs);
      return outputs;
    },
    normal,
    filled,
    constant: (name, value) => draft.constant(name, value),
    conv(name, x, from, to, { kernel = 3, stride = 1, pads, group = 1, bias = false } = {}) {
      const [kh, kw] = pair(kernel);
      const fan = (from / group) * kh * kw;
      const w = normal(`${name}.weight`, [to, from / group, kh, kw], Math.sqrt(2 / fan));
      const [top, left] = [Math.floor(kh / 2), Math.floor(kw / 2)];
      const b = bias ? [filled(`${name}.bias`, [to], 0)] : [];
      const attributes = {
        kernel_shape: [kh, kw],
        strides: [...pair(stride)],
        pads: [...(pads ?? [top, left, top, left])],
        group,
      };
      return op("Conv", [x, w, ...b], attributes, name);
    },
    batchNorm(name, x, channels) {
      const vector = (part: string, value: number): string => filled(`${name}.${part}`, [channels], value);
      const parts = [vector("weight", 1), vector("bias", 0), vector("mean", 0), vector("var", 1)];
      return op("BatchNormalization", [x, ...parts], { epsilon: float(1e-5) }, name);
    },
    linear(name, x, from, to, gain = 1) {
      const w = normal(`${name}.weight`, [to, from], Math.sqrt(gain / from));
      return op("Gemm", [x, w, filled(`${name}.bias`, [to], 0)], { transB: 1 }, name);
    },
    relu: (x) => op("Relu", [x]),
  };
}
