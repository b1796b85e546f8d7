import { type Graph, opKey } from "../graph/graph.ts";
import { links } from "../graph/walk.ts";

/** Operators that pass probabilities on as they are (near enough: quantized ones are rounded). */
const passing = new Set(["Identity", "Cast", "Reshape", "Flatten", "Squeeze", "QuantizeLinear", "DequantizeLinear"]);

/** Whether a model's first output is made by Softmax or Sigmoid; undefined where that can't be seen. */
export function givesProbabilities(graph: Graph): boolean | undefined {
  const { producer } = links(graph);
  let node = producer.get(graph.outputs[0]?.name ?? "");
  while (node && passing.has(opKey(node))) node = producer.get(node.inputs[0]!);
  if (!node) return undefined;
  if (["Softmax", "Sigmoid", "com.microsoft:QLinearSoftmax", "com.microsoft:QLinearSigmoid"].includes(opKey(node))) {
    return true;
  }
  return ["Gemm", "MatMul", "Add", "LogSoftmax"].includes(opKey(node)) ? false : undefined;
}
