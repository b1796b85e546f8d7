import type { Graph } from "../../graph/graph.ts";
import { dtypes } from "../../tensor/dtype.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { hoistConstants } from "../hoist-constants.ts";
import type { Context } from "../technique.ts";
import { matrixLabel } from "../weight-matrices/matrix.ts";
import { type Layer, surveyLayers } from "./layers.ts";
import type { PruneWeightsOptions } from "./options.ts";
import { parsePattern } from "./patterns.ts";

/** What zeros are good for, and what is to be used where something else is wanted. */
const note =
  "Zeros make the file smaller once it is compressed (gzip, brotli), not the model faster: ONNX Runtime computes with them as with any number. prune-channels and prune-layers make it faster, quantization both.";

/** Says how many zeros there are, by layer and in all, and what they are good for. */
export function reportZeros(graph: Graph, layers: readonly Layer[], context: Context): void {
  const counted = layers.map((layer) => {
    const weight = graph.weights.get(layer.target.name)!;
    return { name: matrixLabel(layer), elements: weight.size, zeros: zerosOf(weight) };
  });
  for (const { name, elements, zeros } of counted) {
    context.log(`${name}: ${percent(zeros, elements)} of ${elements} weights are zero`);
  }
  const sum = (of: (layer: (typeof counted)[number]) => number): number => counted.reduce((a, b) => a + of(b), 0);
  const [zeros, pruned] = [sum((layer) => layer.zeros), sum((layer) => layer.elements)];
  const all = [...graph.weights.values()].reduce((a, { dtype, size }) => a + (isFloat(dtype) ? size : 0), 0);
  context.log(`zeros: ${percent(zeros, pruned)} of the pruned layers' weights, ${percent(zeros, all)} of all`);
  context.show({ kind: "sparsity", layers: counted });
  context.show({ kind: "note", text: note });
}

/** Share of zeros that there are already among the weights that these options prune by sparsity. */
export function zerosThere(graph: Graph, options: PruneWeightsOptions): number {
  const pattern = parsePattern(options.pattern);
  const seen = hoistConstants(graph, Math.max(1, options.minElements));
  const layers = pattern ? surveyLayers(seen, options, pattern).layers : [];
  return sparsityOf(
    seen,
    layers.filter(({ wanted }) => wanted === undefined),
  );
}

/** Share of the weights of layers that are zero. */
export function sparsityOf(graph: Graph, layers: readonly Layer[]): number {
  const weights = layers.map(({ target }) => graph.weights.get(target.name)!);
  const sum = (of: (weight: Tensor) => number): number => weights.reduce((a, weight) => a + of(weight), 0);
  return (
    sum(zerosOf) /
    Math.max(
      1,
      sum(({ size }) => size),
    )
  );
}

function isFloat(dtype: Tensor["dtype"]): boolean {
  return dtypes[dtype].kind === "float";
}

function percent(part: number, whole: number): string {
  return `${((100 * part) / Math.max(1, whole)).toFixed(1)} %`;
}

function zerosOf(weight: Tensor): number {
  const bytes = weight.bytes();
  const width = weight.byteLength / weight.size;
  let zeros = 0;
  for (let at = 0; at < bytes.length; at += width) {
    // the sign bit of a negative zero is its top one
    let any = bytes[at + width - 1]! & 0x7f;
    for (let b = 0; b < width - 1; b++) any |= bytes[at + b]!;
    if (any === 0) zeros++;
  }
  return zeros;
}
