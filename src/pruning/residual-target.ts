import type { Draft } from "../graph/edit.ts";
import { floatAttribute, type Graph, isNode, type Node } from "../graph/graph.ts";
import { soleConsumer } from "../graph/walk.ts";
import { float32, toFloat32 } from "../tensor/tensor.ts";

/** The sum that a layer's outputs go into, each output times a factor. */
export interface ResidualSum {
  /** What they are added to. */
  readonly other: string;
  /** Factors of a batch normalization in between; all 1 where absent. */
  readonly factors?: Float32Array;
}

/** Factors below this share of the largest are taken for none: what is divided by them would be huge. */
const least = 1e-2;

/**
 * The sum at the end of a residual branch whose last layer this is: right behind it, or behind its bias and a batch
 * normalization.
 */
export function residualSum(graph: Graph, layer: Node): ResidualSum | undefined {
  let value = layer.outputs[0]!;
  let factors: Float32Array | undefined;
  for (;;) {
    const node = soleConsumer(graph, value);
    if (!node) return undefined;
    if (isNode(node, "BatchNormalization") && node.inputs[0] === value && !factors) {
      const [scale, variance] = [graph.weights.get(node.inputs[1]!), graph.weights.get(node.inputs[4]!)];
      if (!scale || !variance) return undefined;
      const epsilon = floatAttribute(node, "epsilon", 1e-5);
      const spread = toFloat32(variance);
      factors = toFloat32(scale).map((s, i) => s / Math.sqrt(spread[i]! + epsilon));
    } else if (isNode(node, "Add")) {
      const other = node.inputs.find((name) => name !== value);
      if (other === undefined) return undefined;
      if (!graph.weights.has(other)) return { other, ...(factors && { factors }) };
    } else return undefined;
    value = node.outputs[0]!;
  }
}

/**
 * What a layer has to give so that the sum behind it is what it was: its outputs in the original, and what the other side
 * of the sum lacks by now, undone by the factors in between (He et al. 2017, section 3.2.2).
 *
 * @param y the layer's outputs in the original
 * @param before the other side of the sum in the original, as it is now `other`
 * @param rank number of axes; the outputs' is `axis`
 */
export function residualTarget(
  draft: Draft,
  y: string,
  before: string,
  { other, factors }: ResidualSum,
  rank: number,
  axis: number,
): string {
  const lacks = draft.emit("Sub", [before, other]);
  if (!factors) return draft.emit("Add", [y, lacks]);
  const most = factors.reduce((a, b) => Math.max(a, Math.abs(b)), 0);
  const inverse = factors.map((f) => (Math.abs(f) > least * most ? 1 / f : 0));
  const shape = Array.from({ length: rank }, (_, i) => (i === axis ? inverse.length : 1));
  return draft.emit("Add", [y, draft.emit("Mul", [lacks, draft.constant("inverse", float32(shape, inverse))])]);
}
