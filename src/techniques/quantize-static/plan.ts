import type { Range } from "../../analysis/ranges.ts";
import { type Graph, isNode, type Node } from "../../graph/graph.ts";
import { allNodes, links, soleConsumer } from "../../graph/walk.ts";
import type { ObservedType } from "../../platform/observe.ts";
import {
  activations,
  constant,
  dataInputs,
  fixedRange,
  isDepthwise,
  kindOf,
  neverInteger,
  obstacle,
  weightOf,
} from "./rules.ts";
import { shareScales } from "./share-scales.ts";

/** What becomes an integer. */
export interface Plan {
  /** Nodes that multiply with an integer weight. */
  readonly compute: ReadonlySet<Node>;
  /** All nodes that sit between DequantizeLinear and QuantizeLinear, `compute` included. */
  readonly integer: ReadonlySet<Node>;
  /** Relu and Clip nodes whose work the clipping of QuantizeLinear does. */
  readonly absorbed: ReadonlySet<Node>;
  /** Quantized values, each with the value whose scale it has (itself, or what it was moved from). */
  readonly values: ReadonlyMap<string, string>;
  /** Values that nodes of `compute` read on a grid of their own, coarser than that of others, and what that one is called. */
  readonly coarse?: ReadonlyMap<string, string>;
  /** Ranges that need no calibration, by value. */
  readonly fixed: ReadonlyMap<string, Range>;
  /** Nodes that could have been in `compute` but stay float, and why. */
  readonly left: ReadonlyMap<Node, string>;
  /** Whether matrix products too give integers only. */
  readonly integerOutputs: boolean;
}

/** What has the scale of a value as nodes of `compute` read it; undefined where it is not quantized. */
export function readSource(name: string, { values, coarse }: Pick<Plan, "values" | "coarse">): string | undefined {
  return coarse?.get(name) ?? values.get(name);
}

/** What the user wants quantized. */
export interface PlanOptions {
  /** Whether a node was chosen. */
  readonly chosen: (node: Node) => boolean;
  readonly depthwise: boolean;
  /** Quantize products of two activations. */
  readonly activationProducts: boolean;
  /** Multiplications that must stand against each element converted for the node's sake; 0: any node is worth it. */
  readonly worth: number;
  /** Quantize the outputs of matrix products whoever reads them: operators without a float output demand it. */
  readonly integerOutputs: boolean;
  /** Whether zero points make clamping free (asymmetric activations). */
  readonly absorb: boolean;
  /** Values that can't be quantized. */
  readonly blocked: ReadonlySet<string>;
}

/**
 * Decides what runs on integers. Compute nodes ask for integer inputs; the wish travels back over kernels and moves as
 * long as these get integers themselves; where it ends, a QuantizeLinear is put. Whatever nobody wishes for stays
 * float: outputs, residual streams into normalizations, softmax inputs and masks, concatenated detector heads.
 *
 * @param types observed types and shapes of all values
 */
export function makePlan(graph: Graph, types: ReadonlyMap<string, ObservedType>, options: PlanOptions): Plan {
  const reasons = new Map<Node, string>();
  const outer = new Set(graph.nodes);
  let compute = new Set<Node>();
  for (const node of allNodes(graph)) {
    const never = neverInteger(node);
    if (never) reasons.set(node, never);
    if (kindOf(node, graph) !== "compute") continue;
    const reason = outer.has(node) ? refusal(node, graph, types, options) : inBody;
    if (reason) reasons.set(node, reason);
    else compute.add(node);
  }
  let plan = trace(graph, types, compute, options);
  for (;;) {
    const idle = [...compute].filter((node) => !isWorth(node, graph, types, plan, options));
    if (idle.length === 0) break;
    for (const node of idle) reasons.set(node, "converting its input and output would cost more than integers save");
    compute = new Set([...compute].filter((node) => !idle.includes(node)));
    plan = trace(graph, types, compute, options);
  }
  return { ...plan, left: reasons };
}

const inBody = "it is inside control flow, which is left as it is";

function refusal(
  node: Node,
  graph: Graph,
  types: ReadonlyMap<string, ObservedType>,
  options: PlanOptions,
): string | undefined {
  if (!options.chosen(node)) return "excluded";
  const found = obstacle(node, graph);
  if (found) return found;
  const { producer } = links(graph);
  if (options.blocked.has(afterClamps(graph, node.outputs[0]!, options))) return "its output was infinite on the data";
  for (const name of activations(node, graph)) {
    const type = types.get(name)?.dtype;
    if (options.blocked.has(name)) return `its input '${name}' was infinite on the data`;
    if (type !== "float32") return `its input '${name}' is ${type ?? "of unknown type"}`;
    if (producer.get(name)?.op === "DequantizeLinear") return "it is quantized already";
  }
  if (producer.get(node.inputs[1]!)?.op === "DequantizeLinear") return "it is quantized already";
  if (!weightOf(node, graph) && !options.activationProducts) return "both of its operands are activations";
  if (!options.depthwise && isDepthwise(node, graph)) return "depthwise convolutions stay float";
  return undefined;
}

/** Multiplications of a compute node. */
export function macs(node: Node, types: ReadonlyMap<string, ObservedType>): number {
  const out = sizeOf(types, node.outputs[0]!);
  const w = types.get(node.inputs[1]!)?.shape ?? [];
  if (node.op === "Conv") return out * w.slice(1).reduce((a, b) => a * b, 1);
  const x = types.get(node.inputs[0]!)?.shape ?? [];
  return out * (x.at(-1) ?? 1);
}

function sizeOf(types: ReadonlyMap<string, ObservedType>, name: string): number {
  return (types.get(name)?.shape ?? []).reduce((a, b) => a * b, 1);
}

/** Whether what a node multiplies stands against the elements converted for it alone. */
function isWorth(
  node: Node,
  graph: Graph,
  types: ReadonlyMap<string, ObservedType>,
  plan: Pick<Plan, "values" | "integer" | "absorbed">,
  options: PlanOptions,
): boolean {
  const { producer, consumers } = links(graph);
  let converted = 0;
  for (const name of activations(node, graph)) {
    const source = plan.values.get(name) ?? name;
    const maker = producer.get(source);
    if (!maker || !(plan.integer.has(maker) || plan.absorbed.has(maker))) converted += sizeOf(types, source);
  }
  let output = node.outputs[0]!;
  for (let next = soleConsumer(graph, output); next && plan.absorbed.has(next); next = soleConsumer(graph, output)) {
    output = next.outputs[0]!;
  }
  const used = (consumers.get(output) ?? []).some((reader) => plan.integer.has(reader));
  if (!used) converted += sizeOf(types, output);
  return macs(node, types) >= options.worth * converted;
}

function trace(
  graph: Graph,
  types: ReadonlyMap<string, ObservedType>,
  compute: ReadonlySet<Node>,
  options: PlanOptions,
): Omit<Plan, "left"> {
  const natural = naturalValues(graph, types, compute, options);
  const { producer } = links(graph);
  const integer = new Set<Node>(compute);
  const absorbed = new Set<Node>();
  const values = new Map<string, string>();
  const fixed = new Map<string, Range>();
  const pending: string[] = [];
  const wish = (name: string): void => {
    if (!values.has(name)) pending.push(name);
  };
  for (const node of compute) {
    for (const name of activations(node, graph)) wish(name);
    if (node.op === "Conv" || options.integerOutputs) wish(afterClamps(graph, node.outputs[0]!, options));
  }
  for (let name = pending.pop(); name !== undefined; name = pending.pop()) {
    if (values.has(name)) continue;
    values.set(name, name);
    let maker = producer.get(name);
    const range = maker && fixedRange(maker);
    if (range) fixed.set(name, range);
    if (!maker || !natural.has(name)) continue;
    while (kindOf(maker, graph) === "clamp") {
      const before = clampedKernel(graph, maker, natural, options);
      if (!before) break;
      absorbed.add(maker);
      maker = before;
    }
    if (absorbed.has(maker)) continue;
    integer.add(maker);
    if (!compute.has(maker)) for (const input of activations(maker, graph)) wish(input);
    for (const output of maker.outputs) if (kindOf(maker, graph) === "pass" && output !== "") wish(output);
  }
  for (const name of values.keys()) values.set(name, sourceOf(name, graph, integer, values));
  shareScales(graph, { integer, absorbed, fixed }, values);
  return { compute, integer, absorbed, values, fixed, integerOutputs: options.integerOutputs };
}

/** The value that a chain of clamps of a compute node's output ends in. */
function afterClamps(graph: Graph, output: string, options: PlanOptions): string {
  if (!options.absorb) return output;
  let name = output;
  for (;;) {
    const next = soleConsumer(graph, name);
    if (!next || kindOf(next, graph) !== "clamp" || next.inputs[0] !== name) return name;
    name = next.outputs[0]!;
  }
}

/** The node before a clamp that can take over its clipping: it alone feeds it, and makes an integer output itself. */
function clampedKernel(
  graph: Graph,
  clamp: Node,
  natural: ReadonlySet<string>,
  options: PlanOptions,
): Node | undefined {
  const input = clamp.inputs[0]!;
  if (!options.absorb || soleConsumer(graph, input) !== clamp || !natural.has(input)) return undefined;
  const maker = links(graph).producer.get(input);
  return maker && kindOf(maker, graph) !== "pass" ? maker : undefined;
}

/** Values that come as integers at no cost: from compute nodes, and over kernels and moves fed by such values. */
function naturalValues(
  graph: Graph,
  types: ReadonlyMap<string, ObservedType>,
  compute: ReadonlySet<Node>,
  options: PlanOptions,
): ReadonlySet<string> {
  const natural = new Set<string>();
  for (const node of graph.nodes) {
    const kind = kindOf(node, graph);
    if (!kind || types.get(node.outputs[0]!)?.dtype !== "float32") continue;
    const follows =
      kind === "compute"
        ? compute.has(node)
        : options.chosen(node) &&
          activations(node, graph).length > 0 &&
          dataInputs(node).every((name) => natural.has(name) || constant(graph, name) !== undefined);
    if (follows && !node.outputs.some((name) => options.blocked.has(name))) {
      for (const output of node.outputs) natural.add(output);
    }
  }
  return natural;
}

/** The value whose scale a quantized value has: before all the nodes that only moved its elements. */
function sourceOf(name: string, graph: Graph, integer: ReadonlySet<Node>, values: ReadonlyMap<string, string>): string {
  const { producer } = links(graph);
  let at = name;
  for (let maker = producer.get(at); maker && integer.has(maker); maker = producer.get(at)) {
    if (kindOf(maker, graph) !== "pass" || !values.has(maker.inputs[0]!)) break;
    at = maker.inputs[0]!;
  }
  return at;
}

/** Whether a node's integer kernel leaves no float result, so that every reader has to take the dequantized one. */
export function integerOnly(node: Node, plan: Plan): boolean {
  if (!plan.integer.has(node)) return plan.absorbed.has(node);
  return plan.integerOutputs || (!isNode(node, "MatMul") && !isNode(node, "Gemm"));
}
