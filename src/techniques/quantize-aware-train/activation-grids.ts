import { chooseRange } from "../../analysis/ranges.ts";
import type { Graph } from "../../graph/graph.ts";
import { links } from "../../graph/walk.ts";
import { type Affine, affineParams } from "../../tensor/affine.ts";
import { endNodes } from "../end-layers.ts";
import { layerValue } from "../layer-values.ts";
import { integerOnly, type Plan, readSource } from "../quantize-static/plan.ts";
import { activations, kindOf } from "../quantize-static/rules.ts";
import type { Setup } from "../quantize-static/setup.ts";
import { layersOf } from "../quantize-static/widths.ts";
import { bitsOf, type Options } from "./options.ts";
import type { Site } from "./sites.ts";

/** Bits of every weight and of every quantized value. */
export interface Bits {
  width(site: Site): Options["weightBits"];
  /** Of a value that has its own scale. */
  value(source: string): number;
}

/** Values that no layer reads, as those between convolutions and sums, keep 8 bits: fewer would save nothing. */
const betweenBits = 8;

/** What layers of a plan want of the values that they read: named ones their own, first and last ones `endBits` at least. */
function wantedBits(
  graph: Graph,
  { compute }: Pick<Plan, "compute">,
  { activationBits, endBits, layerActivationBits }: Options,
  sourceOf: (name: string) => string | undefined,
): ReadonlyMap<string, number> {
  const ends = endNodes(graph);
  const wanted = new Map<string, number>();
  for (const layer of layersOf(graph, compute)) {
    const own = layerValue(layerActivationBits, layer);
    for (const node of layer.nodes) {
      const bits = own ?? (ends.has(node) ? Math.max(endBits, activationBits) : activationBits);
      for (const name of activations(node, graph)) {
        const source = sourceOf(name) ?? name;
        wanted.set(source, Math.max(bits, wanted.get(source) ?? 0));
      }
    }
  }
  return wanted;
}

/**
 * Values that are rounded once more for layers, which have few bits, so that others, as a residual sum, read them in 8: each
 * with a name for the coarser grid.
 */
export function coarseReads(graph: Graph, plan: Plan, options: Options): ReadonlyMap<string, string> {
  const { values, compute, integer, absorbed } = plan;
  const { producer, outputs } = links(graph);
  const onlyInteger = (name: string): boolean => producer.has(name) && integerOnly(producer.get(name)!, plan);
  const others = new Set<string>();
  const read = (name: string): void => void (values.has(name) && others.add(values.get(name)!));
  for (const node of graph.nodes) {
    const moves = integer.has(node) && kindOf(node, graph) === "pass";
    if (compute.has(node) || absorbed.has(node) || moves) continue;
    for (const name of node.inputs) if (integer.has(node) || onlyInteger(name)) read(name);
  }
  for (const name of outputs) if (onlyInteger(name)) read(name);
  const wanted = wantedBits(graph, plan, options, (name) => name);
  const coarse = new Map<string, string>();
  for (const [name, bits] of wanted)
    if (bits < betweenBits && others.has(values.get(name) ?? "")) coarse.set(name, `${name}/read`);
  return coarse;
}

/**
 * Who gets how many bits: weights of named layers their own, those of the first and last ones `endBits` at least, values
 * what the most exact layer that reads their grid wants.
 */
export function bitsFor(graph: Graph, plan: Pick<Plan, "compute" | "values" | "coarse">, options: Options): Bits {
  const { weightBits, endBits, layerBits } = options;
  const ends = endNodes(graph);
  const wanted = wantedBits(graph, plan, options, (name) => readSource(name, plan));
  const wide = endBits > bitsOf(weightBits) ? endBits : weightBits;
  return {
    width: ({ name, nodes }) =>
      layerValue(layerBits, { weight: name, nodes }) ?? (nodes.some((node) => ends.has(node)) ? wide : weightBits),
    value: (source) => wanted.get(source) ?? betweenBits,
  };
}

/** How a value is rounded. */
export interface ActivationGrid extends Affine {
  readonly bits: number;
  /** Whether its step learns. */
  readonly learns: boolean;
  /** Whether its zero point learns: not where a clamp before it was given to the grid. */
  readonly shifts: boolean;
  /** Elements of one sample. */
  readonly size: number;
}

/** The grids that calibration found, by source. */
export function activationGrids(setup: Setup, bits: Bits, options: Options): ReadonlyMap<string, ActivationGrid> {
  const { plan, calibration, types } = setup;
  const { range: method, percentile, steps } = options;
  const clamped = new Set([...plan.absorbed].map(({ outputs }) => plan.values.get(outputs[0]!)));
  const grids = new Map<string, ActivationGrid>();
  const seen = new Map([...plan.values.values()].map((source) => [source, source]));
  for (const [name, source] of plan.coarse ?? []) seen.set(source, plan.values.get(name)!);
  for (const [name, source] of seen) {
    const count = bits.value(name);
    const observed = calibration.tensors.get(source);
    const fixed = plan.fixed.get(source);
    const settings = { dtype: "uint8", bits: count, symmetric: false, percentile } as const;
    const [min, max] = fixed ?? (observed ? chooseRange(observed, method, settings) : [0, 0]);
    const shape = types.get(source)?.shape ?? [];
    grids.set(name, {
      ...affineParams(min, max, "uint8", { bits: count }),
      bits: count,
      learns: !fixed && steps !== "fixed",
      shifts: !fixed && steps === "lsq+" && !clamped.has(source),
      size: shape.slice(1).reduce((a, b) => a * b, 1),
    });
  }
  return grids;
}
