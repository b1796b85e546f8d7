import type { InferredType } from "../../analysis/infer.ts";
import { type FunctionDef, type Graph, type Node, subgraphsOf } from "../../graph/graph.ts";
import type { Runtime } from "../../platform/runtime.ts";
import type { Tensor } from "../../tensor/tensor.ts";

/** What a pass may know and use besides the graph. */
export interface Facts {
  /** Proven types and symbolic shapes. A value keeps its name and meaning through all passes, so they stay true. */
  readonly types: ReadonlyMap<string, InferredType>;
  readonly runtime: Runtime;
  /** Whether the user lets a node be changed or removed. */
  selected(node: Node): boolean;
  /** Weights that belong to a graph around this one: read them, never replace them. */
  readonly foreign: ReadonlySet<string>;
  /** Bytes by which folding a node may grow the file. */
  readonly maxGrowth: number;
  skip(node: Node, reason: string): void;
}

/** One rewrite over a whole graph; returns the same object where there is nothing to do. */
export interface Pass {
  readonly name: string;
  readonly summary: string;
  run(graph: Graph, facts: Facts): Graph | Promise<Graph>;
}

/** The constant behind a name: a weight that no caller can override. */
export function constant(graph: Graph, name: string | undefined): Tensor | undefined {
  if (name === undefined || name === "" || graph.inputs.some((input) => input.name === name)) return undefined;
  return graph.weights.get(name);
}

const randomOperators = new Set([
  "RandomNormal",
  "RandomNormalLike",
  "RandomUniform",
  "RandomUniformLike",
  "Multinomial",
  "Bernoulli",
]);

/** Whether a node, its bodies and the model functions it calls give the same outputs for the same inputs each time. */
export function isDeterministic(node: Node, functions: readonly FunctionDef[]): boolean {
  if (randomOperators.has(node.op) || (node.op === "Dropout" && (node.inputs[2] ?? "") !== "")) return false;
  const called = functions.filter(({ domain, name }) => domain === node.domain && name === node.op);
  // functions do not call themselves
  const others = called.length > 0 ? functions.filter((f) => !called.includes(f)) : functions;
  return [...subgraphsOf(node), ...called].every(({ nodes }) => nodes.every((inner) => isDeterministic(inner, others)));
}
