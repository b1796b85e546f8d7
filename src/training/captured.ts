import type { Graph } from "../graph/graph.ts";
import { observeValues } from "../platform/observe.ts";
import type { Runtime, Tensors } from "../platform/runtime.ts";
import { float32, type Tensor, toFloat32 } from "../tensor/tensor.ts";

/** Values that a network had on some samples, in memory. */
export interface CapturedSamples {
  readonly count: number;
  /** The values of some samples, one behind the other along the first axis, by name. */
  stack(indices: readonly number[]): Tensors;
  /** The samples from one index up to before another. */
  part(from: number, to: number): CapturedSamples;
}

/** Where a captured value comes from, and what it is called in the samples. */
export interface Source {
  readonly graph: Graph;
  /** Names in the samples by names in the graph. */
  readonly values: ReadonlyMap<string, string>;
}

/**
 * Runs graphs over samples and keeps float values of each. Samples whose values have other shapes than those of the first
 * are left out.
 *
 * @param feeds one entry a sample; iterated again for each source
 * @param options.limit samples kept at most: all their values are in memory at once
 * @throws PareError where a graph has no value of that name, or there are no samples
 */
export async function captureSamples(
  sources: readonly Source[],
  runtime: Runtime,
  feeds: AsyncIterable<Tensors> | Iterable<Tensors>,
  options: { readonly limit: number; readonly signal: AbortSignal },
): Promise<CapturedSamples> {
  const samples: Map<string, Tensor>[] = [];
  const some = upTo(feeds, options.limit);
  for (const { graph, values } of sources) {
    const keep = (name: string, value: Tensor, index: number): void => {
      samples[index] ??= new Map();
      samples[index].set(values.get(name)!, float32(value.shape, toFloat32(value).slice()));
    };
    await observeValues(graph, runtime, [...values.keys()], some, keep, { signal: options.signal });
  }
  const shapesOf = (sample: ReadonlyMap<string, Tensor>): string =>
    [...sample.values()].map(({ shape }) => shape.join()).join(" ");
  const usual = shapesOf(samples[0]!);
  return captured(samples.filter((sample) => shapesOf(sample) === usual));
}

/** The first of some feeds. */
function upTo(feeds: AsyncIterable<Tensors> | Iterable<Tensors>, limit: number): AsyncIterable<Tensors> {
  return {
    async *[Symbol.asyncIterator]() {
      let taken = 0;
      for await (const feed of feeds) {
        yield feed;
        if (++taken >= limit) return;
      }
    },
  };
}

function captured(samples: readonly ReadonlyMap<string, Tensor>[]): CapturedSamples {
  return {
    count: samples.length,
    stack: (indices) =>
      Object.fromEntries(
        [...samples[0]!.keys()].map((name) => [name, stacked(indices.map((i) => samples[i]!.get(name)!))]),
      ),
    part: (from, to) => captured(samples.slice(from, to)),
  };
}

function stacked(parts: readonly Tensor[]): Tensor {
  const { shape, size } = parts[0]!;
  if (parts.length === 1) return parts[0]!;
  const all = new Float32Array(size * parts.length);
  for (const [i, part] of parts.entries()) all.set(toFloat32(part), i * size);
  return float32([(shape[0] ?? 1) * parts.length, ...shape.slice(1)], all);
}
