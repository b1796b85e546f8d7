import { sizeOf } from "../../tensor/tensor.ts";
import type { Layer } from "./layers.ts";
import type { PruneWeightsOptions } from "./options.ts";
import { blockScores, type Pattern, thresholdSearch } from "./patterns.ts";

/** How many zeros there shall be. */
export interface Goal {
  /** Share of the weights of all layers that have no share of their own. */
  readonly sparsity: number;
  /** Shares of layers that have their own, by the weight's name. */
  readonly own: ReadonlyMap<string, number>;
}

/** What the number of zeros of each layer is found from. */
export interface DensityInputs {
  readonly layers: readonly Layer[];
  readonly density: PruneWeightsOptions["density"];
  readonly goal: Goal;
  readonly pattern: Pattern;
  /** The scores of a layer's matrix; made anew each time, and dropped. */
  readonly scores: (layer: Layer) => Float32Array;
}

/** How many blocks of each layer go. Yields between layers, so that the event loop may turn. */
export function* blocksToPrune(inputs: DensityInputs): Generator<void, ReadonlyMap<Layer, number>> {
  const { layers, density, goal, pattern } = inputs;
  const block = pattern.kind === "blocks" ? pattern.rows * pattern.columns : pattern.of;
  const blocks = (layer: Layer): number => (layer.rows * layer.columns) / block;
  const counts = new Map<Layer, number>();
  if (pattern.kind === "n:m") {
    for (const layer of layers) counts.set(layer, blocks(layer));
    return counts;
  }
  for (const layer of layers) {
    const share = goal.own.get(layer.target.name);
    if (share !== undefined) counts.set(layer, Math.round(share * blocks(layer)));
  }
  const free = layers.filter((layer) => !goal.own.has(layer.target.name));
  if (density === "global" || density === "lamp") {
    for (const [layer, count] of yield* byThreshold(free, pattern, inputs)) counts.set(layer, count);
    return counts;
  }
  const kept = density === "erdos-renyi" ? erdosRenyi(free, goal.sparsity) : free.map(() => 1 - goal.sparsity);
  for (const [i, layer] of free.entries()) counts.set(layer, Math.round((1 - kept[i]!) * blocks(layer)));
  return counts;
}

/**
 * Densities in proportion to (inputs + outputs + sides of the kernel) / (their product), none above 1, that keep
 * 1 - sparsity of all weights (Mocanu et al. 2018; with kernels Evci et al. 2020).
 */
export function erdosRenyi(layers: readonly Layer[], sparsity: number): number[] {
  const sizes = layers.map(({ rows, columns }) => rows * columns);
  const raw = layers.map(({ target, use, rows, channels }) => {
    const kernel = use.kind === "conv" || use.kind === "convTranspose" ? target.weight.shape.slice(2) : [];
    return (channels + rows + kernel.reduce((a, b) => a + b, 0)) / (channels * rows * sizeOf(kernel));
  });
  const total = sizes.reduce((a, b) => a + b, 0);
  const dense = new Set<number>();
  for (;;) {
    let budget = (1 - sparsity) * total;
    let mass = 0;
    for (const [i, size] of sizes.entries()) {
      if (dense.has(i)) budget -= size;
      else mass += raw[i]! * size;
    }
    const factor = mass > 0 ? Math.max(0, budget) / mass : 0;
    const over = raw.flatMap((value, i) => (!dense.has(i) && value * factor > 1 ? [i] : []));
    if (over.length === 0) return raw.map((value, i) => (dense.has(i) ? 1 : value * factor));
    for (const i of over) dense.add(i);
  }
}

/** The blocks of each layer that one threshold over all of them takes. */
function* byThreshold(
  layers: readonly Layer[],
  pattern: Pattern & { kind: "blocks" },
  { density, goal, scores }: DensityInputs,
): Generator<void, Map<Layer, number>> {
  const unitsOf = (layer: Layer): Float32Array => {
    const units = blockScores(scores(layer), layer, pattern);
    return density === "lamp" ? adaptive(units) : units;
  };
  const total = layers.reduce((sum, { rows, columns }) => sum + (rows * columns) / (pattern.rows * pattern.columns), 0);
  const count = Math.round(goal.sparsity * total);
  const counts = new Map<Layer, number>(layers.map((layer) => [layer, 0]));
  if (count === 0) return counts;
  const search = thresholdSearch(count);
  for (let pass = 0; pass < 2; pass++) {
    for (const layer of layers) {
      yield;
      search.add(unitsOf(layer));
    }
    search.next();
  }
  let { value, ties } = search.result();
  for (const layer of layers) {
    yield;
    let taken = 0;
    for (const score of unitsOf(layer)) if (score < value || (score === value && ties-- > 0)) taken++;
    counts.set(layer, taken);
  }
  return counts;
}

/**
 * Layer-adaptive scores (LAMP, Lee et al. 2021): a square over the sum of the squares that are not smaller. In ascending
 * order, since it only matters how many of a layer fall below a threshold.
 */
export function adaptive(scores: Float32Array): Float32Array {
  const sorted = scores.slice().sort();
  let rest = 0;
  for (let i = sorted.length - 1; i >= 0; i--) {
    const square = sorted[i]! ** 2;
    rest += square;
    sorted[i] = rest > 0 ? square / rest : 0;
  }
  return sorted;
}
