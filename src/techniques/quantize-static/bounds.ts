import type { Range } from "../../analysis/ranges.ts";
import type { Graph, Node } from "../../graph/graph.ts";
import { finiteExtremes } from "../../tensor/histogram.ts";
import { type Tensor, toFloat32 } from "../../tensor/tensor.ts";
import { clampBounds, constant, dataInputs, fixedRange, kindOf } from "./rules.ts";

/** The bounds of what may be any number. */
export const unbounded: Range = [Number.NEGATIVE_INFINITY, Number.POSITIVE_INFINITY];

const known = new WeakMap<Graph, ReadonlyMap<string, Range>>();

/** Bounds, zero within them, that the functions of a graph set to the outputs of its nodes, whatever the data. */
export function boundsOf(graph: Graph): ReadonlyMap<string, Range> {
  const bounds = known.get(graph) ?? findBounds(graph);
  known.set(graph, bounds);
  return bounds;
}

function findBounds(graph: Graph): ReadonlyMap<string, Range> {
  const bounds = new Map<string, Range>();
  for (const node of graph.nodes) {
    const range = outputBounds(node, graph, bounds);
    for (const output of node.outputs) bounds.set(output, range);
  }
  return bounds;
}

function outputBounds(node: Node, graph: Graph, bounds: ReadonlyMap<string, Range>): Range {
  const input = bounds.get(node.inputs[0] ?? "") ?? unbounded;
  switch (kindOf(node, graph)) {
    case "pass":
      return input;
    case "clamp":
      return intersection(input, clampBounds(node, graph)!);
    case "kernel": {
      const inputs = dataInputs(node).map((name) => bounds.get(name) ?? reach(constant(graph, name)));
      return fixedRange(node) ?? kernelBounds(node, inputs);
    }
    default:
      return unbounded;
  }
}

function kernelBounds(node: Node, inputs: readonly Range[]): Range {
  const [x, y] = inputs as readonly [Range, Range];
  switch (node.op) {
    case "Concat":
      return [Math.min(...inputs.map(([min]) => min)), Math.max(...inputs.map(([, max]) => max))];
    case "AveragePool":
    case "GlobalAveragePool":
      return x;
    case "LeakyRelu":
      return x[0] === 0 ? x : unbounded;
    case "Add":
      return [x[0] + y[0], x[1] + y[1]];
    case "Mul":
      return [Math.min(product(x[0], y[1]), product(x[1], y[0])), Math.max(product(x[0], y[0]), product(x[1], y[1]))];
    default:
      return unbounded;
  }
}

/** Where either is zero, so is the product, of infinity too. */
function product(a: number, b: number): number {
  return a === 0 || b === 0 ? 0 : a * b;
}

/** What two bounds, each with zero, have in common. */
export function intersection(a: Range, b: Range): Range {
  return [Math.max(a[0], b[0]), Math.min(a[1], b[1])];
}

function reach(t: Tensor | undefined): Range {
  const seen = t?.dtype === "float32" ? finiteExtremes(toFloat32(t)) : undefined;
  return seen ? [Math.min(0, seen.min), Math.max(0, seen.max)] : unbounded;
}
