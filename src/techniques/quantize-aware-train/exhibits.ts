import { type Graph, nodeLabel } from "../../graph/graph.ts";
import { links } from "../../graph/walk.ts";
import { dtypes } from "../../tensor/dtype.ts";
import { toFloat32 } from "../../tensor/tensor.ts";
import type { GridsExhibit } from "../exhibit.ts";
import { gridOf, type Settled, typeOf } from "./export.ts";
import type { Simulation } from "./insert.ts";
import { bitsOf, type Options } from "./options.ts";
import type { WeightGrid } from "./weight-grids.ts";
import { widthOf } from "./weight-only.ts";

/** Five ternary digits go into a byte. */
const ternaryBits = 1.6;

/** The grids of a model: bits and bytes of every layer, and ranges before and after training. */
export function gridsExhibit(
  { graph, coded }: Settled,
  simulation: Simulation,
  learned: Graph,
  wanted: (weight: string) => Options["weightBits"],
  stored: ReturnType<typeof storedBits>,
): GridsExhibit {
  const layers = [...coded].map(([name, { site, codes, steps }]) => {
    const width = wanted(name);
    const packed = width === "ternary" ? ternaryBits : bitsOf(width);
    const bytes = (bits: number): number => Math.ceil((codes.length * bits) / 8) + 4 * steps.length;
    return {
      name: site.label,
      elements: codes.length,
      width: typeof width === "string" ? width : `${width} bits`,
      packed: bytes(packed),
      stored: bytes(stored(codes, width)),
    };
  });
  const ranges: GridsExhibit["ranges"][number][] = [];
  for (const [source, { grid }] of simulation.activations) {
    const maker = links(graph).producer.get(source);
    const after = gridOf(simulation, learned, source);
    const span = ({ scale, zeroPoint }: typeof after): readonly [number, number] => [
      scale * (grid.qmin - zeroPoint),
      scale * (grid.qmax - zeroPoint),
    ];
    const name = maker ? nodeLabel(maker) : source;
    ranges.push({ name, of: "activations", bits: grid.bits, before: span(grid), after: span(after) });
  }
  const labels = new Map([...simulation.weights.keys()].map((name) => [name, labelOf(simulation.graph, name)]));
  for (const [name, { grid, scale }] of simulation.weights) {
    if (!scale || !grid.steps) continue;
    const before = spanOf(grid.steps, grid);
    const after = spanOf(toFloat32(learned.weights.get(scale)!), grid);
    ranges.push({ name: labels.get(name)!, of: "weights", bits: bitsOf(grid.width), before, after });
  }
  return { kind: "grids", layers, ranges };
}

/** What the mean step of a weight spans. */
function spanOf(steps: Float32Array, { how }: WeightGrid): readonly [number, number] {
  const mean = steps.reduce((sum, step) => sum + step, 0) / steps.length;
  return [mean * how.low, mean * how.high];
}

/** The first node behind the fake quantization of a weight. */
function labelOf(graph: Graph, weight: string): string {
  const { consumers } = links(graph);
  const rounding = consumers.get(weight)![0]!;
  const reader = consumers.get(rounding.outputs[0]!)?.[0] ?? rounding;
  return nodeLabel(reader);
}

/** Bits that an integer of a weight takes in the file, of the width that was asked for. */
export function storedBits({
  format,
  activationBits,
}: Options): (codes: Int8Array, wanted: Options["weightBits"]) => number {
  if (activationBits !== 32) return (codes) => (format === "packed" ? dtypes[typeOf(codes)].bits : 8);
  const stored = format === "storage" || format === "auto";
  return (codes, wanted) => {
    const width = widthOf(codes, wanted, stored);
    if (stored && width === "ternary") return ternaryBits;
    return typeof width === "string" ? (stored ? bitsOf(width) : 2) : width;
  };
}
