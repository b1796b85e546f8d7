import { type Activity, estimateEnergy } from "../analysis/energy.ts";
import type { Inspection, NodeInspection } from "../analysis/inspect.ts";
import { type Graph, intAttribute, type Node, nodeLabel, opKey } from "../graph/graph.ts";
import { links } from "../graph/walk.ts";

type MacType = keyof Activity["macs"];

const integerOps = new Set([
  "ConvInteger",
  "MatMulInteger",
  "QLinearConv",
  "QLinearMatMul",
  "com.microsoft:DynamicQuantizeMatMul",
  "com.microsoft:MatMulIntegerToFloat",
  "com.microsoft:DynamicQuantizeLSTM",
  "com.microsoft:QGemm",
  "com.microsoft:QAttention",
]);

/** MatMulNBits with this accuracy level rounds activations to int8. */
const int8Level = 4;

/** Estimated energy of one inference, joules, by the type that every node's arithmetic is done in. */
export function energyOf(graph: Graph, inspection: Inspection): number {
  const nodes = new Map(graph.nodes.map((node) => [nodeLabel(node), node]));
  const macs: Partial<Record<MacType, number>> = {};
  for (const found of inspection.nodes) {
    const node = nodes.get(found.name);
    if (!node || found.macs === undefined) continue;
    const type = macType(graph, node, found);
    macs[type] = (macs[type] ?? 0) + found.macs;
  }
  const { bytes, activationBytes, peak } = inspection.totals;
  const activity = { macs, weightBytes: bytes, activationBytes, peakActivationBytes: peak.bytes };
  return estimateEnergy(activity).joules;
}

function macType(graph: Graph, node: Node, { byType }: NodeInspection): MacType {
  if (integerOps.has(opKey(node))) return "int8";
  if (node.op === "MatMulNBits") return intAttribute(node, "accuracy_level", 0) === int8Level ? "int8" : "float32";
  const { producer } = links(graph);
  const dequantized = (value: string | undefined): boolean => producer.get(value ?? "")?.op === "DequantizeLinear";
  if (dequantized(node.inputs[0]) && dequantized(node.inputs[1])) return "int8";
  return (byType.float16 ?? 0) > 0 ? "float16" : "float32";
}
