import { edit } from "../../graph/edit.ts";
import { type Dim, type Graph, intAttribute, intsAttribute, isNode, type Node } from "../../graph/graph.ts";
import { links } from "../../graph/walk.ts";
import { type DType, dtypes } from "../../tensor/dtype.ts";
import { int64, type Tensor, tensor, toNumbers } from "../../tensor/tensor.ts";
import { constant, type Facts, type Pass } from "./pass.ts";

/** A small integer tensor of rank 0 or 1 known in part: a number, the name of a free size, or null for unknown. */
interface Partial1D {
  readonly values: readonly Dim[];
  readonly scalar: boolean;
}

const maxElements = 256;

/**
 * Shape arithmetic whose result follows from the inputs' shapes becomes a constant, e.g. `Gather(Shape(x), 1)` where x
 * is [batch, 64, h, w]. The target of a Reshape that is known but for one size, or for sizes that its input has at the
 * same place, becomes a constant with -1 or 0 there; free sizes stay free.
 */
export const foldShapes: Pass = {
  name: "fold-shapes",
  summary: "Shape arithmetic that follows from the inputs' shapes becomes constant.",
  run(graph, facts) {
    const known = evaluate(graph, facts);
    const constants = proven(graph, facts, known);
    const targets = reshapeTargets(graph, facts, known);
    if (constants.length + targets.length === 0) return graph;
    return edit(graph, (draft) => {
      for (const { node, name, value } of constants) {
        draft.replace(node);
        draft.weights.set(name, value);
      }
      for (const { node, target } of targets) {
        const name = draft.constant(`${node.inputs[1]}_static`, int64(target));
        draft.replace(node, { ...node, inputs: [node.inputs[0]!, name] });
      }
    });
  },
};

function proven(
  graph: Graph,
  facts: Facts,
  known: ReadonlyMap<string, Partial1D>,
): { node: Node; name: string; value: Tensor }[] {
  const { outputs } = links(graph);
  return graph.nodes.flatMap((node) => {
    const [name] = node.outputs;
    const result = name === undefined ? undefined : known.get(name);
    const type = name === undefined ? undefined : facts.types.get(name);
    if (!result || !type || outputs.has(name!) || node.outputs.length > 1 || !facts.selected(node)) return [];
    if (!result.values.every((value) => typeof value === "number")) return [];
    // e.g. Unsqueeze by two axes: more than rank 1
    if (type.shape && type.shape.length !== (result.scalar ? 0 : 1)) return [];
    const value = integers(type.dtype, result.scalar ? [] : [result.values.length], result.values);
    return value ? [{ node, name: name!, value }] : [];
  });
}

function integers(dtype: DType, shape: number[], values: readonly number[]): Tensor | undefined {
  if (dtype === "int64") return int64(values, shape);
  if (dtype === "int32") return tensor("int32", shape, Int32Array.from(values));
  return dtype === "bool" ? tensor("bool", shape, Uint8Array.from(values)) : undefined;
}

function reshapeTargets(
  graph: Graph,
  facts: Facts,
  known: ReadonlyMap<string, Partial1D>,
): { node: Node; target: number[] }[] {
  return graph.nodes.flatMap((node) => {
    const shape = node.inputs[1];
    if (!isNode(node, "Reshape") || shape === undefined || graph.weights.has(shape) || !facts.selected(node)) return [];
    const wanted = known.get(shape);
    const from = facts.types.get(node.inputs[0]!)?.shape;
    const zeroCopies = intAttribute(node, "allowzero", 0) === 0;
    const target = wanted && !wanted.scalar && staticTarget(wanted.values, zeroCopies ? from : undefined);
    return target ? [{ node, target }] : [];
  });
}

/** The target with free sizes written as 0 (copied from the input) or, at most one, as -1. */
function staticTarget(wanted: readonly Dim[], from: readonly Dim[] | undefined): number[] | undefined {
  const target = wanted.map((dim, axis) => {
    if (typeof dim === "number") return dim;
    return dim !== null && dim === from?.[axis] ? 0 : undefined;
  });
  const open = target.filter((dim) => dim === undefined).length;
  const deduced = wanted.some((dim) => dim === -1);
  const empty = wanted.some((dim) => dim === 0);
  if (open === 0) return empty ? undefined : (target as number[]);
  return open > 1 || deduced || empty ? undefined : target.map((dim) => dim ?? -1);
}

/** Walks the graph once, evaluating integer vectors as far as shapes and constants tell. */
function evaluate(graph: Graph, facts: Facts): Map<string, Partial1D> {
  const known = new Map<string, Partial1D>();
  const get = (name: string | undefined): Partial1D | undefined => {
    if (name === undefined || name === "") return undefined;
    const found = known.get(name);
    if (found) return found;
    const weight = constant(graph, name);
    if (!weight || weight.shape.length > 1 || weight.size > maxElements) return undefined;
    const { kind } = dtypes[weight.dtype];
    if (kind !== "int" && kind !== "bool") return undefined;
    return { values: toNumbers(weight), scalar: weight.shape.length === 0 };
  };
  for (const node of graph.nodes) {
    const rule = node.domain === "" ? rules[node.op] : undefined;
    const result = rule?.(node, get, facts);
    if (result && result.values.length <= maxElements) known.set(node.outputs[0]!, result);
  }
  return known;
}

type Get = (name: string | undefined) => Partial1D | undefined;
type Rule = (node: Node, get: Get, facts: Facts) => Partial1D | undefined;

const elementwise =
  (combine: (a: number, b: number) => number | null): Rule =>
  (node, get) => {
    const [a, b] = [get(node.inputs[0]), get(node.inputs[1])];
    if (!a || !b) return undefined;
    const length = a.values.length === 1 ? b.values.length : a.values.length;
    if (b.values.length !== length && b.values.length !== 1) return undefined;
    const at = ({ values }: Partial1D, i: number): Dim => values[values.length === 1 ? 0 : i] ?? null;
    const values = Array.from({ length }, (_, i): Dim => {
      const [x, y] = [at(a, i), at(b, i)];
      if (typeof x === "number" && typeof y === "number") return combine(x, y);
      if (node.op === "Mul" && (x === 1 || y === 1)) return x === 1 ? y : x;
      return null;
    });
    return { values, scalar: a.scalar && b.scalar };
  };

const asVector: Rule = (node, get) => {
  const source = get(node.inputs[0]);
  return source?.values.length === 1 ? { ...source, scalar: node.op === "Squeeze" } : undefined;
};

/** Division in integers rounds toward zero. */
const quotient = (a: number, b: number): number | null => (b === 0 ? null : Math.trunc(a / b));

const rules: Readonly<Record<string, Rule>> = {
  Shape(node, _, { types }) {
    const shape = types.get(node.inputs[0]!)?.shape;
    return shape && { values: shape.slice(intAttribute(node, "start", 0), endOf(node)), scalar: false };
  },
  Size(node, _, { types }) {
    const shape = types.get(node.inputs[0]!)?.shape;
    if (!shape?.every((dim) => typeof dim === "number")) return undefined;
    return { values: [(shape as readonly number[]).reduce((a, b) => a * b, 1)], scalar: true };
  },
  Identity: (node, get) => get(node.inputs[0]),
  Cast(node, get, { types }) {
    const dtype = types.get(node.outputs[0]!)?.dtype;
    return dtype === "int64" || dtype === "int32" ? get(node.inputs[0]) : undefined;
  },
  Unsqueeze(node, get) {
    const source = get(node.inputs[0]);
    return source?.scalar ? { ...source, scalar: false } : undefined;
  },
  Squeeze: asVector,
  Gather(node, get) {
    const [data, indices] = [get(node.inputs[0]), get(node.inputs[1])];
    if (!data || data.scalar || !indices || intAttribute(node, "axis", 0) !== 0) return undefined;
    const values = indices.values.map((i) => (typeof i === "number" ? (data.values.at(i) ?? null) : null));
    return { values, scalar: indices.scalar };
  },
  Slice(node, get) {
    const data = get(node.inputs[0]);
    const bound = (name: string, index: number, fallback: number): number | undefined => {
      const value = intsAttribute(node, name) ?? (node.inputs[index] ? get(node.inputs[index])?.values : [fallback]);
      return value?.length === 1 && typeof value[0] === "number" ? value[0] : undefined;
    };
    const [start, end, step] = [bound("starts", 1, 0), bound("ends", 2, 0), bound("steps", 4, 1)];
    if (!data || data.scalar || start === undefined || end === undefined || step !== 1) return undefined;
    return { values: data.values.slice(start, end), scalar: false };
  },
  Concat(node, get) {
    const parts = node.inputs.map(get);
    if (!parts.every((part) => part && !part.scalar)) return undefined;
    return { values: parts.flatMap((part) => part!.values), scalar: false };
  },
  Reshape(node, get) {
    const [data, shape] = [get(node.inputs[0]), get(node.inputs[1])];
    if (!data || !shape || shape.values.length > 1) return undefined;
    return { values: data.values, scalar: shape.values.length === 0 };
  },
  Add: elementwise((a, b) => a + b),
  Sub: elementwise((a, b) => a - b),
  Mul: elementwise((a, b) => a * b),
  Div: elementwise(quotient),
  Equal: elementwise((a, b) => Number(a === b)),
  Greater: elementwise((a, b) => Number(a > b)),
  Less: elementwise((a, b) => Number(a < b)),
  Not(node, get) {
    const source = get(node.inputs[0]);
    return source && { ...source, values: source.values.map((v) => (typeof v === "number" ? 1 - v : null)) };
  },
  Where(node, get) {
    const [c, a, b] = node.inputs.map(get);
    if (!c || !a || !b || a.values.length !== c.values.length || b.values.length !== c.values.length) return undefined;
    const values = c.values.map((pick, i) => (typeof pick === "number" ? ((pick ? a : b).values[i] ?? null) : null));
    return { values, scalar: c.scalar && a.scalar && b.scalar };
  },
};

function endOf(node: Node): number | undefined {
  return node.attributes.end ? intAttribute(node, "end", 0) : undefined;
}
