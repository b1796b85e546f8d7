import type { Graph } from "../../graph/graph.ts";
import type { Affine } from "../../tensor/affine.ts";
import { float32, type Tensor, toFloat32 } from "../../tensor/tensor.ts";
import { withWeights } from "../../training/state.ts";
import { gridOf } from "./export.ts";
import type { Simulation } from "./insert.ts";
import { type Layer, runningLayer } from "./layers.ts";
import { clearance, clearest } from "./ties.ts";
import { channelAt, codesOf, stepsOf, type WeightGrid } from "./weight-grids.ts";

/**
 * Puts the weights of a trained simulation onto their grids, and moves steps by less than 0.1 % to where sums keep away
 * from the middle between two integers. There single precision decides which of the two a sum becomes, and an integer kernel
 * decides otherwise than the simulation; what one step sets going does not end in the layers behind. Sums are whole numbers,
 * of which the same few come again and again.
 *
 * A layer gives v = (n s u + b) / t, n being a whole number, s the step of a channel's weight, u that of what it reads, t
 * that of what it writes: s moves. A residual sum gives v = (n s + m u) / t: t moves.
 */
export function offTies(simulation: Simulation, learned: Graph): Graph {
  const weights = new Map(learned.weights);
  const grid = (source: string): Affine => gridOf(simulation, { weights }, source);
  for (const { terms, total } of simulation.sums) {
    const [a, b, to] = [grid(terms[0]), grid(terms[1]), grid(total)];
    const [factor] = clearest(1, (moved) => (_, least) => ofTotals(a, b, { ...to, scale: to.scale * moved }, least));
    weights.set(simulation.activations.get(total)!.names.scale, float32([], [to.scale * factor!]));
  }
  const layers = [...simulation.layers.values()];
  for (const layer of layers) {
    const shared = layers.some((other) => other !== layer && other.weight === layer.weight);
    if (!shared) place(layer, simulation, weights);
  }
  return withWeights(learned, weights);
}

/** Puts a layer's weight onto its grid, with steps that are clear of ties. */
function place(layer: Layer, simulation: Simulation, weights: Map<string, Tensor>): void {
  const how = simulation.weights.get(layer.weight)!;
  const weight = weights.get(layer.weight)!;
  const values = toFloat32(weight);
  const steps = stepsOf(values, how, { weights });
  const codes = codesOf(values, steps, how.grid);
  const factors = stepFactors(layer, steps, codes, simulation, weights);
  const moved = steps.map((step, i) => step * factors[i]!);
  // means of magnitudes move with the magnitudes
  const placed = values.map((value, i) => {
    const at = channelAt(how.grid, i);
    return how.scale === undefined ? value * factors[at]! : codes[i]! * moved[at]!;
  });
  weights.set(layer.weight, float32(weight.shape, placed));
  if (how.scale !== undefined) weights.set(how.scale, float32(weights.get(how.scale)!.shape, moved));
}

/** For each step of a layer's weight a factor that keeps what is written away from ties. */
function stepFactors(
  layer: Layer,
  steps: Float32Array,
  codes: Int8Array,
  simulation: Simulation,
  weights: ReadonlyMap<string, Tensor>,
): readonly number[] {
  if (layer.writes === undefined) return [...steps].fill(1);
  const [from, to] = [layer.reads, layer.writes].map((source) => gridOf(simulation, { weights }, source)) as [
    Affine,
    Affine,
  ];
  const reaches = reachesOf(codes, simulation.weights.get(layer.weight)!.grid, from);
  return clearest(steps.length, (factor) => {
    const moved = steps.map((step) => step * factor);
    const { steps: running, bias } = runningLayer(layer, moved, { weights });
    const ofChannel = (c: number, reach: number, least: number): number => {
      const stride = (running[running.length === 1 ? 0 : c]! * from.scale) / to.scale;
      return ofSums((bias?.[c] ?? 0) / to.scale, stride, reach, to, least);
    };
    return (i, least) => {
      if (steps.length > 1) return ofChannel(i, reaches[i]!, least);
      return leastOf(bias?.length ?? 1, least, (c, found) => ofChannel(c, reaches[0]!, found));
    };
  });
}

/** The largest sum of products that the channels of each step can come to. */
function reachesOf(codes: Int8Array, grid: WeightGrid, from: Affine): readonly number[] {
  const reaches = new Array<number>(grid.view[0] * grid.view[2]).fill(0);
  for (const [i, code] of codes.entries()) reaches[channelAt(grid, i)]! += Math.abs(code) * largestOf(from);
  return reaches;
}

/** The largest magnitude of an integer, counted from zero. */
function largestOf({ qmin, qmax, zeroPoint }: Affine): number {
  return Math.max(zeroPoint - qmin, qmax - zeroPoint);
}

/** How far sums of two values keep from ties on a grid. */
function ofTotals(a: Affine, b: Affine, to: Affine, least: number): number {
  return leastOf(b.qmax - b.qmin + 1, least, (i, found) => {
    const offset = ((b.qmin + i - b.zeroPoint) * b.scale) / to.scale;
    return ofSums(offset, a.scale / to.scale, largestOf(a), to, found);
  });
}

/** How far offset + n stride, n a whole number between -reach and reach, keeps from ties on a grid. */
function ofSums(offset: number, stride: number, reach: number, to: Affine, least: number): number {
  const first = Math.max(-reach, Math.ceil((to.qmin - to.zeroPoint - 1 - offset) / stride));
  const last = Math.min(reach, Math.floor((to.qmax - to.zeroPoint + 1 - offset) / stride));
  return clearance(offset, stride, first, last, least);
}

/** The least of some distances; one from `least` down is answer enough. */
function leastOf(count: number, least: number, distance: (i: number, least: number) => number): number {
  let found = Number.POSITIVE_INFINITY;
  for (let i = 0; i < count && found > least; i++) found = Math.min(found, distance(i, least));
  return found;
}
