import { sizeOf } from "../../tensor/tensor.ts";
import type { Layer } from "./layers.ts";
import type { PruneWeightsOptions } from "./options.ts";
import { blockScores, type Pattern, thresholdSearch } from "./patterns.ts";

/** What a density is found from. */
export interface DensityInputs {
  readonly layers: readonly Layer[];
  readonly options: PruneWeightsOptions;
  readonly pattern: Pattern;
  /** The scores of a layer's matrix; made anew each time, and dropped. */
  readonly scores: (layer: Layer) => Promise<Float32Array>;
}

/** How many blocks of each layer go. */
export async function blocksToPrune(inputs: DensityInputs): Promise<ReadonlyMap<Layer, number>> {
  const { layers, options, pattern } = inputs;
  const block = pattern.kind === "blocks" ? pattern.rows * pattern.columns : pattern.of;
  const blocks = (layer: Layer): number => (layer.rows * layer.columns) / block;
  const counts = new Map<Layer, number>();
  if (pattern.kind === "n:m") {
    for (const layer of layers) counts.set(layer, blocks(layer));
    return counts;
  }
  for (const layer of layers) {
    if (layer.wanted !== undefined) counts.set(layer, Math.round(layer.wanted * blocks(layer)));
  }
  const free = layers.filter(({ wanted }) => wanted === undefined);
  if (options.density === "global" || options.density === "lamp") {
    for (const [layer, count] of await byThreshold(free, pattern, inputs)) counts.set(layer, count);
    return counts;
  }
  const kept =
    options.density === "uniform" ? free.map(() => 1 - options.sparsity) : erdosRenyi(free, options.sparsity);
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
async function byThreshold(
  layers: readonly Layer[],
  pattern: Pattern & { kind: "blocks" },
  { options, scores }: DensityInputs,
): Promise<Map<Layer, number>> {
  const unitsOf = async (layer: Layer): Promise<Float32Array> => {
    const units = blockScores(await scores(layer), layer, pattern);
    return options.density === "lamp" ? adaptive(units) : units;
  };
  const total = layers.reduce((sum, { rows, columns }) => sum + (rows * columns) / (pattern.rows * pattern.columns), 0);
  const count = Math.round(options.sparsity * total);
  const counts = new Map<Layer, number>(layers.map((layer) => [layer, 0]));
  if (count === 0) return counts;
  const search = thresholdSearch(count);
  for (let pass = 0; pass < 2; pass++) {
    for (const layer of layers) search.add(await unitsOf(layer));
    search.next();
  }
  let { value, ties } = search.result();
  for (const layer of layers) {
    let taken = 0;
    for (const score of await unitsOf(layer)) if (score < value || (score === value && ties-- > 0)) taken++;
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
