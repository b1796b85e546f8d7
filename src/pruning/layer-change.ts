import type { Draft } from "../graph/edit.ts";
import { floatAttribute, type Graph, isNode, makeNode, type Node } from "../graph/graph.ts";
import { consumersOf, soleConsumer } from "../graph/walk.ts";
import { floatToHalf } from "../tensor/half.ts";
import { float32, type Tensor, tensor, toFloat32 } from "../tensor/tensor.ts";

/** What a repair does to a convolution or matrix product. */
export interface LayerChange {
  /** What is added to each of its outputs. */
  readonly shift: ArrayLike<number>;
  /** In place of its weight; the same where absent. */
  readonly weight?: Tensor;
}

/** Whether outputs of a layer can be shifted: its bias is a constant of a number each, or absent, and nothing is scaled. */
export function takesShift(graph: Graph, node: Node, outputs: number): boolean {
  if (floatAttribute(node, "alpha", 1) !== 1 || floatAttribute(node, "beta", 1) !== 1) return false;
  return node.op === "MatMul" || !node.inputs[2] || graph.weights.get(node.inputs[2])?.size === outputs;
}

/**
 * Puts a change into the weights and the bias of a layer that {@link takesShift}. The bias of a product without one is that
 * of the Add behind it, or of one that is added.
 */
export function changeLayer(draft: Draft, graph: Graph, node: Node, { shift, weight }: LayerChange): void {
  const [x, w] = node.inputs as [string, string];
  const inputs = [x, weight ? nameFor(draft, graph, w, weight) : w];
  const { dtype } = graph.weights.get(w)!;
  const stem = `${node.outputs[0]}_bias`;
  const shifted = (name: string | undefined): string => {
    const before = name ? graph.weights.get(name) : undefined;
    if (!name || !before) return draft.constant(stem, floatsOf([shift.length], shift, dtype));
    const values = toFloat32(before).map((v, i) => v + shift[i]!);
    return nameFor(draft, graph, name, floatsOf(before.shape, values, before.dtype));
  };
  if (node.op !== "MatMul") {
    draft.replace(node, { ...node, inputs: [...inputs, shifted(node.inputs[2])] });
    return;
  }
  const sum = soleConsumer(graph, node.outputs[0]!);
  const bias = sum && isNode(sum, "Add") ? sum.inputs.find((name) => isBias(graph, name, shift.length)) : undefined;
  if (sum && bias) {
    draft.replace(node, { ...node, inputs });
    const name = shifted(bias);
    draft.replace(sum, { ...sum, inputs: sum.inputs.map((input) => (input === bias ? name : input)) });
    return;
  }
  const product = draft.fresh(`${node.outputs[0]}_product`);
  const add = makeNode("Add", [product, shifted(undefined)], [node.outputs[0]!]);
  draft.replace(node, { ...node, inputs, outputs: [product] }, add);
}

/** Whether a name is that of a number for each output. */
function isBias(graph: Graph, name: string, outputs: number): boolean {
  const weight = graph.weights.get(name);
  return weight !== undefined && weight.size === outputs && (weight.shape.at(-1) ?? 0) === outputs;
}

/** The name under which a weight stands after the change: its own where nobody else reads it. */
function nameFor(draft: Draft, graph: Graph, name: string, value: Tensor): string {
  if (consumersOf(graph, name).length > 1) return draft.constant(name, value);
  draft.weights.set(name, value);
  return name;
}

/** Numbers as a tensor of a float type. */
export function floatsOf(shape: readonly number[], values: ArrayLike<number>, dtype: Tensor["dtype"]): Tensor {
  if (dtype === "float16" || dtype === "bfloat16") {
    return tensor(dtype, shape, floatToHalf(Float32Array.from(values), dtype));
  }
  return dtype === "float64"
    ? tensor(dtype, shape, Float64Array.from(values))
    : float32(shape, Float32Array.from(values));
}
