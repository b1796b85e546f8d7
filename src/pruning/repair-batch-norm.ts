import { edit } from "../graph/edit.ts";
import { float, type Graph, isNode, type Node } from "../graph/graph.ts";
import { consumersOf } from "../graph/walk.ts";
import { convertOpset } from "../ops/convert.ts";
import { observeValues } from "../platform/observe.ts";
import { float32, toFloat32 } from "../tensor/tensor.ts";
import type { Repaired, RepairWorld } from "./repair-inputs.ts";

/** The operator set in which batch normalization of a batch's own statistics hands them out by the rule used here. */
const opset = 15;

interface Statistics {
  batches: number;
  readonly mean: Float64Array;
  /** Mean of the squares of the batches' means. */
  readonly square: Float64Array;
  readonly variance: Float64Array;
}

/**
 * Gives batch normalizations the means and variances that their inputs have on calibration data, each batch being
 * normalized by its own on the way, so that every layer sees what the repaired ones before it will give. The variance is
 * that of all batches together: the mean of the batches' and the variance of their means.
 *
 * @param world.feeds many samples a batch
 */
export async function reestimateBatchNorm(graph: Graph, { runtime, feeds, signal }: RepairWorld): Promise<Repaired> {
  const own = (name: string): boolean =>
    graph.weights.get(name)?.dtype === "float32" && consumersOf(graph, name).length === 1;
  const nodes = graph.nodes.filter(
    (node) =>
      isNode(node, "BatchNormalization") && node.outputs.length === 1 && own(node.inputs[3]!) && own(node.inputs[4]!),
  );
  if (nodes.length === 0) return { graph, layers: 0 };
  const wanted = new Map<string, { node: Node; kind: "mean" | "variance" }>();
  const makes = new Map(nodes.map((node) => [node.outputs[0]!, node]));
  const current = convertOpset(graph, Math.max(opset, graph.opsets[""] ?? 1));
  const probe = edit(current, (draft) => {
    for (const node of current.nodes) {
      const before = makes.get(node.outputs[0]!);
      if (!before) continue;
      const [mean, variance] = [draft.fresh("batch_mean"), draft.fresh("batch_variance")];
      wanted.set(mean, { node: before, kind: "mean" }).set(variance, { node: before, kind: "variance" });
      const attributes = { ...node.attributes, training_mode: { type: "int", value: 1 } as const, momentum: float(0) };
      draft.replace(node, { ...node, outputs: [node.outputs[0]!, mean, variance], attributes });
    }
  });
  const found = new Map<Node, Statistics>();
  const visit = (name: string, value: Parameters<typeof toFloat32>[0]): void => {
    const { node, kind } = wanted.get(name)!;
    const data = toFloat32(value);
    const zeros = (): Float64Array => new Float64Array(data.length);
    const known = found.get(node) ?? { batches: 0, mean: zeros(), square: zeros(), variance: zeros() };
    found.set(node, known);
    if (kind === "mean") known.batches++;
    for (let i = 0; i < data.length; i++) {
      if (kind === "variance") known.variance[i]! += data[i]!;
      else {
        known.mean[i]! += data[i]!;
        known.square[i]! += data[i]! ** 2;
      }
    }
  };
  await observeValues(probe, runtime, [...wanted.keys()], feeds, visit, { signal });
  const repaired = edit(graph, (draft) => {
    for (const [node, { batches, mean, square, variance }] of found) {
      const means = Float32Array.from(mean, (v) => v / batches);
      const spread = Float32Array.from(variance, (v, i) => (v + square[i]!) / batches - (mean[i]! / batches) ** 2);
      draft.weights.set(node.inputs[3]!, float32([means.length], means));
      draft.weights.set(
        node.inputs[4]!,
        float32(
          [spread.length],
          spread.map((v) => Math.max(0, v)),
        ),
      );
    }
  });
  return { graph: repaired, layers: found.size };
}
