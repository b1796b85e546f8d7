import { feedsOf } from "../../data/feeds.ts";
import { type Graph, intAttribute } from "../../graph/graph.ts";
import { observeValues } from "../../platform/observe.ts";
import { type Tensor, toFloat32 } from "../../tensor/tensor.ts";
import { calibrationBatches } from "../calibration-batches.ts";
import type { Context } from "../technique.ts";
import type { WeightTarget } from "./targets.ts";

/** Mean squares of one value over its channel axis. */
interface Channels {
  readonly axis: "last" | "second" | "first";
  sums: Float64Array | undefined;
  count: number;
}

/**
 * The mean square of the activations that each position of a weight's summed axis is multiplied with, by weight name:
 * the expected squared error of an output is the sum of these times the squared errors of the weights where inputs are
 * uncorrelated. Empty where there is no data. Weights of recurrent layers and lookups have none.
 */
export async function inputImportance(
  graph: Graph,
  targets: readonly WeightTarget[],
  samples: number,
  context: Context,
): Promise<ReadonlyMap<string, Float32Array>> {
  const importance = new Map<string, Float32Array>();
  if (!context.data) return importance;
  const observed = new Map<string, Channels>();
  const activations = targets.map((target) => ({ target, inputs: activationsOf(target) }));
  for (const { inputs } of activations) {
    for (const { name, axis } of inputs) observed.set(`${axis} ${name}`, { axis, sums: undefined, count: 0 });
  }
  const names = [...new Set(activations.flatMap(({ inputs }) => inputs.map(({ name }) => name)))];
  const known = names.filter((name) => !graph.weights.has(name));
  if (known.length === 0) return importance;
  const visit = (name: string, value: Tensor): void => {
    for (const axis of ["last", "second", "first"] as const) {
      const channels = observed.get(`${axis} ${name}`);
      if (channels) accumulate(channels, value);
    }
  };
  const stream = feedsOf(calibrationBatches(graph, context, samples, 1, "quantize-weights"));
  await observeValues(graph, context.runtime, known, stream, visit, { signal: context.signal });
  for (const { target, inputs } of activations) {
    const parts = inputs.map(({ name, axis }) => observed.get(`${axis} ${name}`)!);
    const combined = combine(parts, target.layout.shape[target.layout.axis]!);
    if (combined) importance.set(target.name, combined);
  }
  return importance;
}

function activationsOf({ uses }: WeightTarget): { name: string; axis: Channels["axis"] }[] {
  return uses.flatMap(({ node, kind }): { name: string; axis: Channels["axis"] }[] => {
    const name = node.inputs[0]!;
    if (kind === "matmul") return [{ name, axis: "last" }];
    if (kind === "gemm") return [{ name, axis: intAttribute(node, "transA", 0) ? "first" : "last" }];
    // one importance an input channel; groups see different channels with the same rows of the kernel
    if (kind === "conv" && intAttribute(node, "group", 1) === 1) return [{ name, axis: "second" }];
    return [];
  });
}

function accumulate(channels: Channels, value: Tensor): void {
  const { shape } = value;
  const axis = channels.axis === "last" ? shape.length - 1 : channels.axis === "second" ? 1 : 0;
  const size = shape[axis] ?? 0;
  const inner = shape.slice(axis + 1).reduce((a, b) => a * b, 1);
  const data = toFloat32(value);
  channels.sums ??= new Float64Array(size);
  const { sums } = channels;
  if (sums.length !== size || size === 0) return;
  for (let at = 0, c = 0; at < data.length; at += inner, c = c + 1 === size ? 0 : c + 1) {
    let sum = 0;
    for (let i = at; i < at + inner; i++) sum += data[i]! * data[i]!;
    sums[c]! += sum;
  }
  channels.count += data.length / size;
}

/** Mean squares over all readers, spread over the taps of a kernel, with a floor that keeps dead channels in check. */
function combine(parts: readonly Channels[], length: number): Float32Array | undefined {
  const known = parts.filter(({ sums, count }) => sums && count > 0);
  const channels = known[0]?.sums?.length ?? 0;
  if (channels === 0 || length % channels !== 0 || known.some(({ sums }) => sums!.length !== channels))
    return undefined;
  const mean = new Float64Array(channels);
  for (const { sums, count } of known) for (let c = 0; c < channels; c++) mean[c]! += sums![c]! / count;
  const total = mean.reduce((a, b) => a + b, 0) / channels;
  if (!(total > 0 && total < Number.POSITIVE_INFINITY)) return undefined;
  const taps = length / channels;
  return Float32Array.from({ length }, (_, k) => mean[Math.floor(k / taps)]! / total + 1e-3);
}
