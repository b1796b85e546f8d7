import { type Graph, isNode, type Node } from "../graph/graph.ts";
import { links, soleConsumer } from "../graph/walk.ts";
import type { KnownTypes } from "../ops/lookup.ts";

/** A value that a sum adds, and the node that adds it. */
export interface Term {
  readonly name: string;
  readonly node: Node;
}

/** Whether a node is one of the runtime's fused sums and normalizations: input, skip, gamma, ... -> y, mean, deviation, sum. */
export function isSkipNormalization(node: Node): boolean {
  return (
    isNode(node, "com.microsoft:SkipLayerNormalization") ||
    isNode(node, "com.microsoft:SkipSimplifiedLayerNormalization")
  );
}

/** What a node adds up; nothing for a node of another kind. */
export function operandsOf(node: Node): readonly string[] {
  if (isNode(node, "Add") || isNode(node, "Sum")) return node.inputs;
  return isSkipNormalization(node) ? node.inputs.slice(0, 2) : [];
}

/** The name of the sum that a node makes; "" where it is not handed out. */
export function sumOf(node: Node): string {
  return (isSkipNormalization(node) ? node.outputs[3] : node.outputs[0]) ?? "";
}

/**
 * The terms of every sum of a graph; sums of sums are taken as one, so that x + f(x) + g(x) has three terms however they
 * are grouped. Constants, and what is broadcast to the sum's shape (biases, masks), are left out.
 */
export function sumsOf(graph: Graph, types: KnownTypes): readonly (readonly Term[])[] {
  const { producer } = links(graph);
  const isSum = (node: Node): boolean => operandsOf(node).length > 0;
  /** Whether a sum goes nowhere but into another one: what is normalized goes to a layer too. */
  const isPart = (node: Node): boolean => {
    const reader = isSkipNormalization(node) ? undefined : soleConsumer(graph, sumOf(node));
    return reader !== undefined && operandsOf(reader).includes(sumOf(node));
  };
  const termsOf = (node: Node): readonly Term[] => {
    const type = typeKey(types, node.outputs[0]!);
    return operandsOf(node).flatMap((name) => {
      if (type === undefined || graph.weights.has(name) || typeKey(types, name) !== type) return [];
      const inner = producer.get(name);
      return inner && isSum(inner) && sumOf(inner) === name && isPart(inner) ? termsOf(inner) : [{ name, node }];
    });
  };
  return graph.nodes.filter((node) => isSum(node) && !isPart(node)).map(termsOf);
}

/** A term with its bias: the sum with constants that it is in, as what the next sum adds. */
export function withBias(graph: Graph, term: Term): Term {
  const { name, node } = term;
  const isBias = (other: string): boolean => other === name || graph.weights.has(other);
  const reader = isSkipNormalization(node) ? undefined : soleConsumer(graph, sumOf(node));
  if (!reader || !operandsOf(reader).includes(sumOf(node)) || !operandsOf(node).every(isBias)) return term;
  return withBias(graph, { name: sumOf(node), node: reader });
}

function typeKey(types: KnownTypes, name: string): string | undefined {
  const type = types.get(name);
  return type && `${type.dtype} ${type.shape.join("x")}`;
}
