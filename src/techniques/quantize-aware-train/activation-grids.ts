import { chooseRange } from "../../analysis/ranges.ts";
import type { Graph, Node } from "../../graph/graph.ts";
import { type Affine, affineParams } from "../../tensor/affine.ts";
import { endNodes } from "../end-layers.ts";
import { layerValue } from "../layer-values.ts";
import { activations } from "../quantize-static/rules.ts";
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

/**
 * Who gets how many bits: layers that are named their own, the first and last ones `endBits` at least, weights and what
 * they read; values what the most exact layer that reads them wants.
 */
export function bitsFor(
  graph: Graph,
  compute: Iterable<Node>,
  values: ReadonlyMap<string, string>,
  options: Options,
): Bits {
  const { weightBits, activationBits, endBits, layerBits, layerActivationBits } = options;
  const ends = endNodes(graph);
  const wanted = new Map<string, number>();
  for (const layer of layersOf(graph, compute)) {
    const own = layerValue(layerActivationBits, layer);
    for (const node of layer.nodes) {
      const bits = own ?? (ends.has(node) ? Math.max(endBits, activationBits) : activationBits);
      for (const name of activations(node, graph)) {
        const source = values.get(name) ?? name;
        wanted.set(source, Math.max(bits, wanted.get(source) ?? 0));
      }
    }
  }
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
  const clamped = new Set([...plan.absorbed].flatMap(({ outputs }) => outputs));
  const grids = new Map<string, ActivationGrid>();
  for (const source of new Set(plan.values.values())) {
    const count = bits.value(source);
    const observed = calibration.tensors.get(source);
    const fixed = plan.fixed.get(source);
    const settings = { dtype: "uint8", bits: count, symmetric: false, percentile } as const;
    const [min, max] = fixed ?? (observed ? chooseRange(observed, method, settings) : [0, 0]);
    const shape = types.get(source)?.shape ?? [];
    grids.set(source, {
      ...affineParams(min, max, "uint8", { bits: count }),
      bits: count,
      learns: !fixed && steps !== "fixed",
      shifts: !fixed && steps === "lsq+" && !clamped.has(source),
      size: shape.slice(1).reduce((a, b) => a * b, 1),
    });
  }
  return grids;
}
