import type { Graph } from "../graph/graph.ts";
import type { Runtime, Tensors } from "../platform/runtime.ts";
import type { Random } from "../random.ts";
import { split } from "../tensor/statistics.ts";
import { toFloat32 } from "../tensor/tensor.ts";
import { shapesOf } from "../training/weight-gradients.ts";
import { directionsOf, type OutputMeasure } from "./directions.ts";
import { beforeSquashing, type Reference } from "./output-error.ts";
import { type Backward, backwardOf, withDirections, withOwnReads } from "./projected-backward.ts";

/** What changes of a model do to its outputs, by their second derivatives. */
export interface SecondOrder {
  /** Of each change of weights. */
  readonly damages: readonly number[];
  /** Of rounding what a node reads, by the node's label; absent where it reads no activation. */
  readonly inputs: ReadonlyMap<string, InputCurvature>;
}

/** Sums of second derivatives h_j by the elements that a node reads, zeros left out: integers hold them exactly. */
export interface InputCurvature {
  /** Σ h_j R², R from the least to the largest element over all samples, and zero. */
  readonly fixed: number;
  /** Σ h_j R², R of each sample's own. */
  readonly own: number;
}

/** What becomes of a weight. */
export interface WeightDifference {
  readonly name: string;
  /** What is added, in the weight's order. */
  readonly added: Float32Array;
  /** The axis of the layer's outputs. */
  readonly axis: number;
  readonly shape: readonly number[];
}

/** What {@link secondOrder} looks at. */
export interface SecondOrderOptions {
  readonly by: OutputMeasure;
  /** Each on its own: a layer's weights and its bias. */
  readonly changes: readonly (readonly WeightDifference[])[];
  /** Labels of the nodes whose inputs count. */
  readonly nodes: ReadonlySet<string>;
  /** Backward passes for each of the feeds. */
  readonly draws: number;
  readonly random: Random;
  readonly signal: AbortSignal;
  progress(done: number, total: number): void;
}

/**
 * Estimates what changing weights by d does to the outputs z, ½ dᵀ F d, where F = Jᵀ H J is the Gauss-Newton matrix of what is
 * measured of z, H its second derivatives by z: half the mean of (uᵀ J d)² over directions u with E[u uᵀ] = H. One
 * backward pass gives a direction for all changes, sample by sample. For class probabilities F is the Fisher information
 * of the model's own predictions, which needs no labels, and ½ dᵀ F d their divergence (Martens 2020).
 *
 * What is added to the weights of one output is taken as a whole, since roundings there are made to go together (scales
 * are fitted, biases corrected): the sum goes over outputs, not over weights as with the diagonal of F, which would
 * count two to four times as much. What is added for different outputs is taken as unrelated.
 *
 * @param wanted what the graph gives
 * @returns NaN for a change of a weight that the model is differentiated without
 * @throws PareError where an operator on the way has no gradient
 */
export async function secondOrder(
  graph: Graph,
  wanted: Reference,
  runtime: Runtime,
  options: SecondOrderOptions,
): Promise<SecondOrder> {
  const { by, changes, draws, random, signal } = options;
  const draw = directionsOf(wanted, by);
  const [judged, reads] = withOwnReads(beforeSquashing(graph), options.nodes);
  const weights = [...new Set(changes.flat().map(({ name }) => name))];
  const sums = collector(changes);
  let backward: Backward | undefined;
  try {
    for (const [i, feed] of wanted.feeds.entries()) {
      signal.throwIfAborted();
      options.progress(i, wanted.feeds.length);
      const drawn = Array.from({ length: draws }, () => draw(i, random));
      const feeds = drawn.map((directions) => withDirections(feed, directions));
      // the backward pass is written for one shape
      if (backward?.shapes !== shapesOf(feed)) {
        await backward?.session.release();
        backward = await backwardOf(judged, feed, feeds[0]!, weights, [...reads.keys()], runtime);
      }
      const idle = backward.weights.size + backward.reads.size === 0;
      for (const each of feeds) sums.add(backward, idle ? {} : await backward.session.run(each));
    }
  } finally {
    await backward?.session.release();
  }
  return sums.means(draws, reads);
}

/** Adds up what backward passes give. */
function collector(changes: SecondOrderOptions["changes"]): {
  add(backward: Backward, values: Tensors): void;
  means(draws: number, nodes: ReadonlyMap<string, string>): SecondOrder;
} {
  const squares = changes.map(() => 0);
  const reads = new Map<string, { squares: number; own: number; least: number; largest: number }>();
  return {
    add(backward, values) {
      const slopes = new Map([...backward.weights].map(([name, slope]) => [name, toFloat32(values[slope]!)]));
      for (const [at, change] of changes.entries()) squares[at]! += squaredChange(change, slopes);
      for (const [name, names] of backward.reads) {
        const [sum, low, high] = [names.squares, names.least, names.largest].map(
          (each) => toFloat32(values[each]!)[0]!,
        );
        const [least, largest] = [Math.min(0, low!), Math.max(0, high!)];
        const known = reads.get(name) ?? { squares: 0, own: 0, least: 0, largest: 0 };
        reads.set(name, {
          squares: known.squares + sum!,
          own: known.own + sum! * (largest - least) ** 2,
          least: Math.min(known.least, least),
          largest: Math.max(known.largest, largest),
        });
      }
    },
    means(draws, nodes) {
      const inputs = new Map<string, InputCurvature>();
      for (const [name, { squares: sum, own, least, largest }] of reads) {
        const node = nodes.get(name)!;
        const known = inputs.get(node) ?? { fixed: 0, own: 0 };
        const fixed = sum * (largest - least) ** 2;
        inputs.set(node, { fixed: known.fixed + fixed / draws, own: known.own + own / draws });
      }
      return { damages: squares.map((sum) => sum / (2 * draws)), inputs };
    },
  };
}

/** Σ over outputs of (Σ g d)² over the weights of the output, g the slopes. */
function squaredChange(change: readonly WeightDifference[], slopes: ReadonlyMap<string, Float32Array>): number {
  /** By the number of outputs: weights and bias of a layer have the same. */
  const sums = new Map<number, Float64Array>();
  for (const { name, added, axis, shape } of change) {
    const slope = slopes.get(name);
    if (!slope) return Number.NaN;
    const { outer, channels, inner } = split(shape, axis, name);
    const own = sums.get(channels) ?? new Float64Array(channels);
    sums.set(channels, own);
    for (let o = 0, i = 0; o < outer; o++) {
      for (let c = 0; c < channels; c++) for (const end = i + inner; i < end; i++) own[c]! += slope[i]! * added[i]!;
    }
  }
  return [...sums.values()].flatMap((own) => [...own]).reduce((total, sum) => total + sum ** 2, 0);
}
