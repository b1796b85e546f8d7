import type { Graph } from "../graph/graph.ts";
import type { Runtime, Tensors } from "../platform/runtime.ts";
import { dtypes } from "../tensor/dtype.ts";
import { toFloat32 } from "../tensor/tensor.ts";

/** What a model gave for some feeds, to measure others against. */
export interface Reference {
  readonly feeds: readonly Tensors[];
  readonly outputs: readonly Tensors[];
}

/**
 * Runs a model on some feeds and keeps its floating-point outputs.
 *
 * @throws PareError where the runtime refuses the model or the feeds
 */
export async function reference(graph: Graph, runtime: Runtime, feeds: readonly Tensors[]): Promise<Reference> {
  const session = await runtime.open(graph);
  try {
    const outputs: Tensors[] = [];
    for (const feed of feeds) {
      const all = Object.entries(await session.run(feed));
      outputs.push(Object.fromEntries(all.filter(([, t]) => dtypes[t.dtype].kind === "float")));
    }
    return { feeds, outputs };
  } finally {
    await session.release();
  }
}

/** No ratio is counted as better than this, in decibels: float arithmetic itself is no more exact. */
const ceiling = 100;

/**
 * Signal-to-noise ratio of a changed model's outputs, in decibels: the noise sum (y - y')^2 / sum y^2 of each
 * floating-point output over all feeds, averaged over the outputs, so that the worst one counts most. Higher is better;
 * -Infinity where an output is not finite.
 *
 * @throws PareError where the runtime refuses the model
 */
export async function signalToNoise(graph: Graph, runtime: Runtime, wanted: Reference): Promise<number> {
  const signal = new Map<string, number>();
  const noise = new Map<string, number>();
  const session = await runtime.open(graph);
  try {
    for (const [i, feed] of wanted.feeds.entries()) {
      const expected = wanted.outputs[i]!;
      const got = await session.run(feed, Object.keys(expected));
      for (const [name, y] of Object.entries(expected)) {
        const a = toFloat32(y);
        const b = toFloat32(got[name]!);
        let s = 0;
        let n = 0;
        for (let k = 0; k < a.length; k++) {
          const d = a[k]! - b[k]!;
          s += a[k]! * a[k]!;
          n += d * d;
        }
        signal.set(name, (signal.get(name) ?? 0) + s);
        noise.set(name, (noise.get(name) ?? 0) + n);
      }
    }
  } finally {
    await session.release();
  }
  let sum = 0;
  for (const [name, s] of signal) {
    const n = noise.get(name)!;
    if (!Number.isFinite(n)) return Number.NEGATIVE_INFINITY;
    sum += n / Math.max(s, 1e-30);
  }
  return sum > 0 ? Math.min(ceiling, 10 * Math.log10(signal.size / sum)) : ceiling;
}
