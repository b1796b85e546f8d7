import { edit } from "../../graph/edit.ts";
import {
  type Dim,
  type Graph,
  intAttribute,
  intsAttribute,
  isNode,
  type Node,
  stringAttribute,
} from "../../graph/graph.ts";
import { links } from "../../graph/walk.ts";
import { knownDtype } from "../../tensor/dtype.ts";
import { toNumbers } from "../../tensor/tensor.ts";
import { constant, type Facts, type Pass } from "./pass.ts";

/** Nodes that give back their first input (or the one named): readers read that instead. */
export const identities: Pass = {
  name: "identities",
  summary: "Nodes that change nothing are removed.",
  run(graph, facts) {
    const { outputs } = links(graph);
    const made = new Set(graph.nodes.flatMap((node) => node.outputs));
    let renames = 0;
    const found = graph.nodes.flatMap((node) => {
      const rule = node.domain === "" ? rules[node.op] : undefined;
      const source = rule && facts.selected(node) ? rule(node, { graph, facts }) : undefined;
      if (source === undefined || !node.outputs[0]) return [];
      // an output that is an input or a constant under another name needs a node to say so
      const border = outputs.has(node.outputs[0]);
      if (border && (!made.has(source) || outputs.has(source) || renames++ > 0)) return [];
      return [{ node, source }];
    });
    if (found.length === 0) return graph;
    return edit(graph, (draft) => {
      for (const { node, source } of found) {
        draft.replace(node);
        draft.rewire(node.outputs[0]!, source);
      }
    });
  },
};

interface Place {
  readonly graph: Graph;
  readonly facts: Facts;
}

/** The name of the value that the node's first output equals, if it is one of its inputs. */
type Rule = (node: Node, place: Place) => string | undefined;

const rules: Readonly<Record<string, Rule>> = {
  Identity: (node) => node.inputs[0],
  Dropout(node, { graph }) {
    const trains = node.inputs[2] ?? "";
    const mask = node.outputs[1] ?? "";
    if (mask !== "" && (links(graph).consumers.has(mask) || links(graph).outputs.has(mask))) return undefined;
    if ((graph.opsets[""] ?? 0) < 7 && intAttribute(node, "is_test", 0) === 0) return undefined;
    return trains === "" || constantValues(graph, trains)?.[0] === 0 ? node.inputs[0] : undefined;
  },
  Cast(node, { facts }) {
    const from = facts.types.get(node.inputs[0]!)?.dtype;
    return from !== undefined && from === knownDtype(intAttribute(node, "to", 0)) ? node.inputs[0] : undefined;
  },
  Transpose(node) {
    const perm = intsAttribute(node, "perm");
    return perm?.every((axis, i) => axis === i) ? node.inputs[0] : undefined;
  },
  Reshape: sameShape,
  Expand: sameShape,
  Flatten: sameShape,
  Unsqueeze: (node, { graph }) => (constantValues(graph, node.inputs[1])?.length === 0 ? node.inputs[0] : undefined),
  Concat: only,
  Sum: only,
  Max: only,
  Min: only,
  Mean: only,
  Split: (node) => (node.outputs.length === 1 ? node.inputs[0] : undefined),
  Tile: (node, { graph }) =>
    constantValues(graph, node.inputs[1])?.every((n) => n === 1) ? node.inputs[0] : undefined,
  Pad(node, { graph }) {
    const pads = intsAttribute(node, "pads") ?? constantValues(graph, node.inputs[1]);
    return pads?.every((n) => n === 0) ? node.inputs[0] : undefined;
  },
  Slice(node, { graph, facts }) {
    const given = (name: string, index: number): number[] | undefined =>
      intsAttribute(node, name) ?? constantValues(graph, node.inputs[index]);
    const [starts, ends] = [given("starts", 1), given("ends", 2)];
    const axes = node.attributes.axes || node.inputs[3] ? given("axes", 3) : starts?.map((_, axis) => axis);
    const steps = node.inputs[4] ? constantValues(graph, node.inputs[4]) : [];
    if (!starts || !ends || !axes || !steps?.every((step) => step === 1)) return undefined;
    const [from, to] = [node.inputs[0]!, node.outputs[0]!].map((name) => facts.types.get(name)?.shape);
    const whole = axes.every((axis, i) => {
      const size = from?.at(axis);
      if (starts[i] === 0 && ends[i]! >= 2 ** 31 - 1) return true;
      return typeof size === "number" && size === to?.at(axis);
    });
    return whole ? node.inputs[0] : undefined;
  },
  Add: neutral(0, "either"),
  Sub: neutral(0, "right"),
  Mul: neutral(1, "either"),
  Div: neutral(1, "right"),
  Pow: neutral(1, "right"),
  Relu: afterItself,
  Abs: afterItself,
  Ceil: afterItself,
  Floor: afterItself,
  Clip: (node) =>
    node.attributes.min || node.attributes.max || node.inputs.slice(1).some((name) => name !== "")
      ? undefined
      : node.inputs[0],
  MaxPool: unitPool,
  AveragePool: unitPool,
};

function only(node: Node): string | undefined {
  return node.inputs.length === 1 ? node.inputs[0] : undefined;
}

function afterItself(node: Node, { graph }: Place): string | undefined {
  const before = links(graph).producer.get(node.inputs[0]!);
  return before && isNode(before, node.op) ? node.inputs[0] : undefined;
}

function unitPool(node: Node): string | undefined {
  const units = (name: string): boolean => (intsAttribute(node, name) ?? [1]).every((n) => n === 1);
  const padded = (intsAttribute(node, "pads") ?? []).some((n) => n !== 0);
  const plain = stringAttribute(node, "auto_pad", "NOTSET") === "NOTSET" && node.outputs.length === 1;
  return node.attributes.kernel_shape && units("kernel_shape") && units("strides") && !padded && plain
    ? node.inputs[0]
    : undefined;
}

/** Operators that only re-arrange: equal shapes mean equal values. */
function sameShape(node: Node, { facts }: Place): string | undefined {
  const from = facts.types.get(node.inputs[0]!)?.shape;
  const to = facts.types.get(node.outputs[0]!)?.shape;
  return from && to && sameDims(from, to) ? node.inputs[0] : undefined;
}

function sameDims(a: readonly Dim[], b: readonly Dim[]): boolean {
  return a.length === b.length && a.every((dim, i) => dim !== null && dim === b[i]);
}

/** Arithmetic with a constant that changes nothing, and does not broadcast the other side to a larger shape. */
function neutral(value: number, side: "either" | "right"): Rule {
  return (node, { graph, facts }) => {
    for (const index of side === "either" ? [1, 0] : [1]) {
      const other = constant(graph, node.inputs[index]);
      const source = node.inputs[1 - index];
      if (!other || source === undefined || other.size > 65536 || other.dtype === "string") continue;
      if (facts.types.get(source)?.dtype !== other.dtype || !toNumbers(other).every((v) => v === value)) continue;
      const shape = facts.types.get(source)?.shape;
      if (shape && other.size === 1 && other.shape.length <= shape.length) return source;
      const result = facts.types.get(node.outputs[0]!)?.shape;
      if (shape && result && sameDims(shape, result)) return source;
    }
    return undefined;
  };
}

function constantValues(graph: Graph, name: string | undefined): number[] | undefined {
  const found = constant(graph, name);
  return found && found.size <= 1024 && found.dtype !== "string" ? toNumbers(found) : undefined;
}

/**
 * `Transpose -> Transpose` => one Transpose, or none; `Reshape -> Reshape` => the second; `Unsqueeze -> Squeeze` of the
 * same axes => nothing.
 */
export const cancellingPairs: Pass = {
  name: "cancelling-pairs",
  summary: "Pairs of transpositions, reshapes and squeezes are merged or removed.",
  run(graph, facts) {
    const { producer } = links(graph);
    const replacements = new Map<Node, Node>();
    const rewired = new Map<string, string>();
    for (const node of graph.nodes) {
      const before = producer.get(node.inputs[0] ?? "");
      if (!before || replacements.has(before) || !facts.selected(node) || !facts.selected(before)) continue;
      const merged = merge(graph, before, node);
      if (typeof merged === "string") rewired.set(node.outputs[0]!, merged);
      else if (merged) replacements.set(node, merged);
    }
    for (const name of [...rewired.keys()]) if (links(graph).outputs.has(name)) rewired.delete(name);
    if (replacements.size + rewired.size === 0) return graph;
    return edit(graph, (draft) => {
      for (const [node, merged] of replacements) draft.replace(node, merged);
      for (const [from, to] of rewired) draft.rewire(from, to);
    });
  },
};

/** What the second of two nodes becomes: another node, or the name of the value it equals. */
function merge(graph: Graph, first: Node, second: Node): Node | string | undefined {
  const source = first.inputs[0]!;
  if (isNode(first, "Transpose") && isNode(second, "Transpose")) {
    const [inner, outer] = [intsAttribute(first, "perm"), intsAttribute(second, "perm")];
    if (!inner && !outer) return source;
    if (!inner || !outer) return undefined;
    const perm = outer.map((axis) => inner[axis] ?? 0);
    if (perm.every((axis, i) => axis === i)) return source;
    return { ...second, inputs: [source], attributes: { perm: { type: "ints", value: perm } } };
  }
  const rearranges = ["Reshape", "Flatten", "Squeeze", "Unsqueeze"].some((op) => isNode(first, op));
  if (rearranges && isNode(second, "Reshape")) {
    // 0 in the target would copy a size of the other input
    const target = constantValues(graph, second.inputs[1]);
    return target?.every((dim) => dim !== 0) ? { ...second, inputs: [source, second.inputs[1]!] } : undefined;
  }
  const undone = isNode(first, "Unsqueeze") && isNode(second, "Squeeze");
  if (!undone) return undefined;
  const axes = (node: Node): number[] | undefined =>
    intsAttribute(node, "axes") ?? constantValues(graph, node.inputs[1]);
  const [added, removed] = [axes(first)?.toSorted(), axes(second)?.toSorted()];
  return added && removed && `${added}` === `${removed}` && added.every((axis) => axis >= 0) ? source : undefined;
}
