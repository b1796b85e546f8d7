import { edit } from "../graph/edit.ts";
import type { Graph } from "../graph/graph.ts";
import { observeValues } from "../platform/observe.ts";
import { int64, type Tensor, toFloat32, toNumbers } from "../tensor/tensor.ts";
import { teacherPrefix, withTeacher } from "../training/join.ts";
import type { Couplings } from "./couplings.ts";
import type { KeptIndices } from "./cut.ts";
import { noSums, type Sums } from "./least-squares.ts";
import { type LayerMatrix, layerColumns } from "./patches.ts";
import type { Product } from "./products.ts";
import type { RepairWorld } from "./repair-inputs.ts";
import { type ResidualSum, residualTarget } from "./residual-target.ts";

/** A layer of the cut graph, as matrix products. */
export interface FittedLayer {
  readonly product: Product;
  readonly matrix: LayerMatrix;
  /** The sum that its outputs go into, where the other side of it is not what it was. */
  readonly residual?: ResidualSum;
}

/** The two halves of the data, by group of the layer. */
export type Halves = readonly (readonly [Sums, Sums])[];

/** Sums of what the layers read in the graph and of what they gave in the original; batches alternate between halves. */
export async function layerSums<Layer extends FittedLayer>(
  { graph: whole, structure }: Couplings,
  kept: KeptIndices,
  graph: Graph,
  layers: readonly Layer[],
  { runtime, feeds, signal }: RepairWorld,
): Promise<ReadonlyMap<Layer, Halves>> {
  const found = new Map(
    layers.map((layer): [Layer, Halves] => {
      const { groups, inputs, outputs } = layer.matrix;
      return [layer, Array.from({ length: groups }, () => [noSums(inputs, outputs), noSums(inputs, outputs)] as const)];
    }),
  );
  const parts = new Map<string, { layer: Layer; part: "count" | "x" | "y" | "xx" | "yx" }>();
  const both = withTeacher(graph, { ...whole, functions: [] });
  const probe = edit(both, (draft) => {
    const op = (operator: string, inputs: readonly string[], attributes = {}): string =>
      draft.emit(operator, inputs, attributes, 1, "sums");
    for (const layer of layers) {
      const { product, matrix } = layer;
      const [read, gave] = [product.x, product.node.outputs[0]!];
      const type = (name: string) => {
        const { dtype, shape } = structure.types.get(name)!;
        return { dtype, shape: shape.map((size, axis) => kept.of(name, axis)?.length ?? size) };
      };
      const original = (name: string): string => {
        const stays = kept.of(name, product.outputs);
        const all = `${teacherPrefix}${name}`;
        return stays ? op("Gather", [all, draft.constant("stays", int64(stays))], { axis: product.outputs }) : all;
      };
      const { residual } = layer;
      const rank = type(gave).shape.length;
      const wanted = residual
        ? residualTarget(draft, original(gave), original(residual.other), residual, rank, product.outputs)
        : original(gave);
      const kernel = structure.constantOf(product.weight)!.shape.slice(2);
      const { x, y } = layerColumns(
        draft,
        product,
        matrix,
        kernel,
        { name: read, type: type(read) },
        { name: wanted, type: type(gave) },
      );
      const rows = op("Transpose", [x], { perm: [0, 2, 1] });
      parts.set(op("Size", [x]), { layer, part: "count" });
      // of operators that take the mean over positions this one is the same in all versions
      parts.set(op("GlobalAveragePool", [x]), { layer, part: "x" });
      parts.set(op("GlobalAveragePool", [y]), { layer, part: "y" });
      parts.set(op("MatMul", [x, rows]), { layer, part: "xx" });
      parts.set(op("MatMul", [y, rows]), { layer, part: "yx" });
    }
  });
  let positions = 0;
  const visit = (name: string, value: Tensor, index: number): void => {
    const { layer, part } = parts.get(name)!;
    const { groups, inputs } = layer.matrix;
    const halves = found.get(layer)!;
    const half = (index % 2) as 0 | 1;
    if (part === "count") {
      positions = toNumbers(value)[0]! / (groups * inputs);
      for (const pair of halves) pair[half].count += positions;
      return;
    }
    const data = toFloat32(value);
    const scale = part === "x" || part === "y" ? positions : 1;
    for (const [group, pair] of halves.entries()) {
      const into = pair[half][part];
      const from = data.subarray(group * into.length, (group + 1) * into.length);
      for (let i = 0; i < into.length; i++) into[i]! += scale * from[i]!;
    }
  };
  // the parts of a layer belong together: chunks of names never come between them
  await observeValues(probe, runtime, [...parts.keys()], feeds, visit, { signal, budget: Number.POSITIVE_INFINITY });
  return found;
}
