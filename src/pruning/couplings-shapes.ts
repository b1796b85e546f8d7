import { type Graph, intAttribute, intsAttribute, type Node, nodeLabel, opKey, subgraphsOf } from "../graph/graph.ts";
import { reads } from "../graph/walk.ts";
import type { KnownTypes } from "../ops/lookup.ts";
import { int64, type Tensor, toNumbers } from "../tensor/tensor.ts";

/** One element of a vector of sizes that the graph computes: the sizes it depends on, and its value where that is constant. */
export interface SizeElement {
  readonly constant?: number;
  readonly sizes: readonly { readonly value: string; readonly axis: number }[];
  /** It is this many times the product of the sizes; absent where it is something else. */
  readonly factor?: number;
}

/** Sizes that are computed with, and where they end up. */
export interface ComputedSizes {
  /** Elements of vectors of sizes, by value name. */
  readonly elements: ReadonlyMap<string, readonly SizeElement[]>;
  /** Axes whose size has another meaning to some node than the shape of its output. */
  readonly used: readonly { readonly value: string; readonly axis: number; readonly reason: string }[];
  /** The data of a weight or Constant, or of integers that nodes put together from constants. */
  constantOf(name: string): Tensor | undefined;
}

const elementwise = new Set(
  "Add Sub Mul Div Mod Neg Floor Ceil Round Max Min Where Equal And Or Not Sqrt Pow".split(" "),
);
const kept = new Set(["Identity", "Cast", "Squeeze", "Unsqueeze", "Reshape"]);
const moving = new Set([...kept, "Concat", "Gather", "Slice"]);
const targets = new Set(["Reshape:1", "Expand:1", "ConstantOfShape:0", "Resize:3"]);
const most = 64;

/** Follows what Shape nodes give through the arithmetic that exporters write. */
export function computedSizes(
  graph: Graph,
  types: KnownTypes,
  constantOf: (name: string) => Tensor | undefined,
): ComputedSizes {
  const elements = new Map<string, readonly SizeElement[]>();
  const used: ComputedSizes["used"][number][] = [];
  const elementsOf = (name: string): readonly SizeElement[] | undefined => {
    const known = elements.get(name);
    if (known) return known;
    const value = constantOf(name);
    if (value && !value.strings && value.size <= most) {
      return toNumbers(value).map((constant) => ({ constant, sizes: [] }));
    }
    const shape = types.get(name)?.shape;
    const size = shape?.reduce((a, b) => a * b, 1) ?? Number.POSITIVE_INFINITY;
    return size <= most ? Array.from({ length: size }, () => ({ sizes: [] })) : undefined;
  };
  const use = (name: string, reason: string): void => {
    for (const { sizes } of elements.get(name) ?? []) for (const size of sizes) used.push({ ...size, reason });
  };
  for (const node of graph.nodes) {
    const own = sizesOf(node, types);
    if (own) elements.set(node.outputs[0]!, own);
    const names = subgraphsOf(node).length > 0 ? [...reads(node)] : node.inputs;
    const tracked = names.flatMap((name, i) => (elements.has(name) ? [{ name, i }] : []));
    const [target] = tracked;
    // integers put together from constants are followed too: bounds of slices, parts of shapes
    if (!target && !(moving.has(opKey(node)) && node.inputs.every((name) => name === "" || constantOf(name)))) continue;
    if (tracked.length === 1 && isShapeInput(node, target!.i) && types.has(node.outputs[0]!)) {
      used.push(...unfit(node, elements.get(target!.name)!, types));
      continue;
    }
    const count = types.get(node.outputs[0]!)?.shape.reduce((a, b) => a * b, 1);
    const made = count === undefined || count > most ? undefined : derived(node, count, elementsOf);
    if (made) elements.set(node.outputs[0]!, made);
    else for (const { name } of tracked) use(name, `'${nodeLabel(node)}' computes with its size`);
  }
  for (const { name } of graph.outputs) use(name, `output '${name}' tells its size`);
  return {
    elements,
    used,
    constantOf(name) {
      const values = elements.get(name)?.map(({ constant }) => constant);
      const type = types.get(name);
      if (type?.dtype !== "int64" || !values?.every((v) => Number.isInteger(v))) return constantOf(name);
      return int64(values as number[], type.shape);
    },
  };
}

/** Whether an input says the shape of the output, and is adapted to a cut. */
export function isShapeInput(node: Node, input: number): boolean {
  return targets.has(`${opKey(node)}:${input}`);
}

/**
 * The axes of a node's output whose sizes the elements of an input say: those that Resize names, else the last ones, as
 * Expand aligns them.
 *
 * @param count elements of the input
 * @param rank axes of the output
 */
export function shapedAxes(node: Node, count: number, rank: number): readonly number[] {
  const named = intsAttribute(node, "axes");
  return Array.from({ length: count }, (_, at) => (named ? (named[at]! + rank) % rank : rank - count + at));
}

/**
 * What must stay where elements of a shape are computed from several sizes, but are not their product: behind a cut they
 * can't be constants, since other sizes may be free, nor be scaled. One of them may be left to Reshape to find.
 */
function unfit(node: Node, shape: readonly SizeElement[], types: KnownTypes): ComputedSizes["used"] {
  const odd = shape.flatMap(({ sizes, factor }, at) =>
    factor === undefined && new Set(sizes.map(({ value, axis }) => `${axis} ${value}`)).size > 1 ? [at] : [],
  );
  const finds = opKey(node) === "Reshape" && shape.every(({ constant }) => constant !== -1);
  if (odd.length <= (finds ? 1 : 0)) return [];
  const output = node.outputs[0]!;
  const axes = shapedAxes(node, shape.length, types.get(output)!.shape.length);
  const reason = `'${nodeLabel(node)}' computes a shape with its size and others`;
  return odd.flatMap((at) =>
    [...shape[at]!.sizes, { value: output, axis: axes[at]! }].map((size) => ({ ...size, reason })),
  );
}

function sizesOf(node: Node, types: KnownTypes): readonly SizeElement[] | undefined {
  const isSize = opKey(node) === "Size";
  if (opKey(node) !== "Shape" && !isSize) return undefined;
  const value = node.inputs[0]!;
  const axes = types.get(value)?.shape.map((_, axis) => axis) ?? [];
  if (isSize) return [{ sizes: axes.map((axis) => ({ value, axis })), factor: 1 }];
  const some = axes.slice(intAttribute(node, "start", 0), intAttribute(node, "end", axes.length));
  return some.map((axis) => ({ sizes: [{ value, axis }], factor: 1 }));
}

/** Elements of the output in terms of the inputs' elements; undefined for a node that does not compute sizes. */
function derived(
  node: Node,
  count: number,
  elementsOf: (name: string) => readonly SizeElement[] | undefined,
): readonly SizeElement[] | undefined {
  const op = opKey(node);
  const inputs = node.inputs.map((name) => (name === "" ? undefined : elementsOf(name)));
  const [first, second] = inputs;
  if (kept.has(op) && first?.length === count) return first;
  const constants = (i: number, attribute: string): number[] | undefined => {
    const values = inputs[i]?.map(({ constant }) => constant);
    return values?.every((v) => v !== undefined) ? values : intsAttribute(node, attribute);
  };
  if (op === "Concat" && inputs.every((some) => some !== undefined)) {
    const all = inputs.flat() as SizeElement[];
    if (all.length === count) return all;
  }
  const indices = second?.map(({ constant }) => constant);
  if (op === "Gather" && first && indices?.every((i) => i !== undefined)) {
    return indices.map((i) => first.at(i) ?? union([first]));
  }
  if (op === "Slice" && first) {
    const [starts, ends, steps] = [constants(1, "starts"), constants(2, "ends"), constants(4, "steps")];
    const some = starts && ends && (steps?.[0] ?? 1) === 1 ? first.slice(starts[0]!, ends[0]!) : [];
    return some.length === count ? some : Array.from({ length: count }, () => union([first]));
  }
  if (op === "ReduceProd" && first && count === 1) return [product(first)];
  if (!elementwise.has(op) && op !== "ReduceProd") return undefined;
  const known = inputs.filter((some) => some !== undefined);
  if (known.length < inputs.length) return undefined;
  const aligned = op !== "ReduceProd" && known.every(({ length }) => length === count || length === 1);
  return Array.from({ length: count }, (_, i) => {
    if (!aligned) return union(known);
    const parts = known.map((some) => some[some.length === 1 ? 0 : i]!);
    return op === "Mul" ? product(parts) : union([parts]);
  });
}

function product(parts: readonly SizeElement[]): SizeElement {
  const factor = parts.reduce((all, { constant, factor }) => all * (constant ?? factor ?? Number.NaN), 1);
  return { ...union([parts]), ...(Number.isInteger(factor) && factor > 0 && { factor }) };
}

function union(some: readonly (readonly SizeElement[])[]): SizeElement {
  return { sizes: some.flat().flatMap(({ sizes }) => sizes) };
}
