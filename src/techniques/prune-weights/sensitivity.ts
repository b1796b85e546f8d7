import { reference, signalToNoise } from "../../analysis/output-error.ts";
import { feedsOf } from "../../data/feeds.ts";
import type { Graph } from "../../graph/graph.ts";
import type { Tensors } from "../../platform/runtime.ts";
import { withWeights } from "../../training/state.ts";
import { calibrationBatches } from "../calibration-batches.ts";
import type { Context } from "../technique.ts";
import { elementOrder, matrixLabel } from "../weight-matrices/matrix.ts";
import type { Layer } from "./layers.ts";
import { maskedTensor } from "./masked.ts";
import { lowestMask, type Pattern } from "./patterns.ts";
import type { Scorer } from "./scores.ts";

/** What it costs to prune one layer alone. */
export interface SensitivityCurve {
  readonly layer: Layer;
  /** Sparsity, ascending, and the noise it makes in the outputs: sum (y - y')² / sum y², of logits. */
  readonly points: readonly (readonly [sparsity: number, noise: number])[];
}

/** Sparsities that a scan measures; layers are proposed to lose more than the last only once all of them lose that. */
const measured = [0.2, 0.4, 0.6, 0.8, 0.9, 0.97];

/** Samples a batch, where the model leaves that free. */
const usualBatch = 32;

/** Noise that nothing is told of: below it all is rounding. */
const floor = 1e-10;

/** Prunes one layer at a time, more and more, and measures the noise in the model's outputs. */
export async function scanSensitivity(
  graph: Graph,
  layers: readonly Layer[],
  scores: Scorer,
  pattern: Pattern & { kind: "blocks" },
  samples: number,
  context: Context,
): Promise<readonly SensitivityCurve[]> {
  const feeds: Tensors[] = [];
  for await (const feed of feedsOf(calibrationBatches(graph, context, samples, usualBatch, "prune-weights"))) {
    feeds.push(feed);
  }
  const wanted = await reference(graph, context.runtime, feeds);
  const curves: SensitivityCurve[] = [];
  for (const [i, layer] of layers.entries()) {
    context.progress(i, layers.length, "layers");
    const points: [number, number][] = [];
    const order = elementOrder(layer);
    const scored = scores(layer);
    for (const sparsity of measured) {
      context.signal.throwIfAborted();
      const blocks = (layer.rows * layer.columns) / (pattern.rows * pattern.columns);
      const mask = lowestMask(scored, layer, pattern, Math.round(sparsity * blocks));
      const pruned = maskedTensor(layer.target.weight, mask, order);
      const changed = withWeights(graph, new Map([[layer.target.name, pruned]]));
      points.push([sparsity, 10 ** (-(await signalToNoise(changed, context.runtime, wanted)) / 10)]);
    }
    curves.push({ layer, points });
  }
  context.progress(layers.length, layers.length, "layers");
  return curves;
}

/** Steps of sparsity that shares are proposed in. */
const fineness = 0.01;

/**
 * Shares of layers that together make the least noise for a sparsity of all their weights, if noises add up: each step goes
 * to the layer in which it makes the least noise a weight. Between measurements noise is a power of sparsity; below the
 * first it is its cube, as the squares of the smallest of evenly spread numbers add up. Beyond the last one all layers lose
 * the same share of what is left.
 */
export function proposeSparsities(curves: readonly SensitivityCurve[], sparsity: number): ReadonlyMap<Layer, number> {
  const sizeOf = ({ rows, columns }: Layer): number => rows * columns;
  const steps = curves.flatMap(({ layer, points }) => {
    const most = Math.round(points.at(-1)![0] / fineness);
    const noise = Array.from({ length: most + 1 }, (_, i) => noiseAt(points, i * fineness));
    return convexSlopes(noise).map((slope) => ({ layer, cost: slope / sizeOf(layer) }));
  });
  // steps of one layer come in order, for their slopes do not fall
  steps.sort((a, b) => a.cost - b.cost);
  let left = sparsity * curves.reduce((sum, { layer }) => sum + sizeOf(layer), 0);
  const shares = new Map<Layer, number>(curves.map(({ layer }) => [layer, 0]));
  for (const { layer } of steps) {
    if (left <= 0) break;
    const taken = Math.min(left, fineness * sizeOf(layer));
    shares.set(layer, shares.get(layer)! + taken / sizeOf(layer));
    left -= taken;
  }
  const kept = curves.reduce((sum, { layer }) => sum + sizeOf(layer) * (1 - shares.get(layer)!), 0);
  if (left > 1e-9 * kept) for (const [layer, share] of shares) shares.set(layer, share + (1 - share) * (left / kept));
  return shares;
}

function noiseAt(points: SensitivityCurve["points"], sparsity: number): number {
  if (sparsity === 0) return 0;
  const next = Math.max(
    0,
    points.findIndex(([at]) => at >= sparsity - 1e-9),
  );
  const [s1, n1] = points[next]!;
  if (next === 0) return Math.max(n1, floor) * (sparsity / s1) ** 3;
  const [s0, n0] = points[next - 1]!;
  const power = Math.log(Math.max(n1, floor) / Math.max(n0, floor)) / Math.log(s1 / s0);
  return Math.max(n0, floor) * (sparsity / s0) ** power;
}

/** Slopes of the largest convex function below values at 0, 1, 2, ..., from each to the next. */
function convexSlopes(values: readonly number[]): number[] {
  const hull: number[] = [];
  const slope = (a: number, b: number): number => (values[b]! - values[a]!) / (b - a);
  for (let i = 0; i < values.length; i++) {
    while (hull.length > 1 && slope(hull.at(-2)!, hull.at(-1)!) >= slope(hull.at(-1)!, i)) hull.pop();
    hull.push(i);
  }
  return hull.slice(1).flatMap((end, k) => new Array<number>(end - hull[k]!).fill(slope(hull[k]!, end)));
}

/** Shows the curves of a scan, and what it proposes. */
export function showSensitivity(
  curves: readonly SensitivityCurve[],
  proposed: ReadonlyMap<Layer, number>,
  context: Context,
): void {
  for (const { layer, points } of curves) {
    const noises = points.map(([sparsity, noise]) => `${percent(sparsity)}: ${noise.toPrecision(2)}`).join(", ");
    context.log(`${matrixLabel(layer)}: noise at ${noises}; proposed ${percent(proposed.get(layer)!)}`);
  }
  context.show({
    kind: "sensitivity",
    amount: { name: "sparsity", unit: "%" },
    damage: { name: "noise in the outputs" },
    layers: curves.map(({ layer, points }) => ({
      name: matrixLabel(layer),
      curve: points.map(([sparsity, noise]) => [sparsity, Math.min(noise, Number.MAX_VALUE)] as const),
      proposed: proposed.get(layer)!,
    })),
  });
}

function percent(share: number): string {
  return `${(100 * share).toFixed(0)} %`;
}
