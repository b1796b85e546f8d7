import { duplicateWeights } from "../../analysis/duplicates.ts";
import { withoutDefaultInputs } from "../../graph/defaults.ts";
import { edit } from "../../graph/edit.ts";
import type { Attribute, Node } from "../../graph/graph.ts";
import { allNodes, links, reads } from "../../graph/walk.ts";
import { isDeterministic, type Pass } from "./pass.ts";

/** Nodes whose outputs nobody reads, weights nobody reads, functions nobody calls. */
export const deadCode: Pass = {
  name: "dead-code",
  summary: "Nodes, weights and functions that nothing uses are dropped.",
  run(graph, facts) {
    const needed = new Set(graph.outputs.map(({ name }) => name));
    const dead = new Set(
      graph.nodes.toReversed().filter((node) => {
        const used = node.outputs.some((name) => needed.has(name)) || !facts.selected(node);
        if (used) for (const name of reads(node)) needed.add(name);
        return !used;
      }),
    );
    const given = new Set(graph.inputs.map(({ name }) => name));
    const unread = [...graph.weights.keys()].filter((name) => !needed.has(name) && !given.has(name));
    const calls = new Set<string>();
    for (const { nodes } of [graph, ...graph.functions]) for (const node of nodes) noteCalls(node, calls);
    const functions = graph.functions.filter(({ domain, name }) => calls.has(`${domain}:${name}`));
    if (dead.size + unread.length === 0 && functions.length === graph.functions.length) return graph;
    return edit({ ...graph, functions }, (draft) => {
      for (const node of dead) draft.replace(node);
      for (const name of unread) draft.weights.delete(name);
    });
  },
};

function noteCalls(node: Node, calls: Set<string>): void {
  for (const { domain, op } of [node, ...nested(node)]) calls.add(`${domain}:${op}`);
}

function* nested(node: Node): Generator<Node> {
  for (const attribute of Object.values(node.attributes)) {
    if (attribute.type === "graph") yield* allNodes(attribute.value);
    if (attribute.type === "graphs") for (const subgraph of attribute.value) yield* allNodes(subgraph);
  }
}

/** Inputs with a default weight stop being inputs, so that the weight is a constant (possible since IR version 4). */
export const defaultInputs: Pass = {
  name: "default-inputs",
  summary: "Initializers that are also listed as inputs become plain constants.",
  run: withoutDefaultInputs,
};

/** Of nodes with the same operator, attributes and inputs the first is kept. */
export const commonSubexpressions: Pass = {
  name: "common-subexpressions",
  summary: "Nodes that compute the same are computed once.",
  run(graph, facts) {
    const { outputs } = links(graph);
    const first = new Map<string, Node>();
    const replaced = new Map<string, string>();
    const doubles: { node: Node; kept: Node }[] = [];
    const numbers = new Map<unknown, number>();
    for (const node of graph.nodes) {
      const key = isDeterministic(node, graph.functions) ? keyOf(node, replaced, numbers) : undefined;
      if (key === undefined || !facts.selected(node)) continue;
      const kept = first.get(key);
      if (!kept) {
        first.set(key, node);
        continue;
      }
      if (node.outputs.some((name, i) => outputs.has(name) || (name !== "" && !kept.outputs[i]))) continue;
      doubles.push({ node, kept });
      node.outputs.forEach((name, i) => {
        if (name !== "") replaced.set(name, kept.outputs[i]!);
      });
    }
    if (doubles.length === 0) return graph;
    return edit(graph, (draft) => {
      for (const { node, kept } of doubles) {
        draft.replace(node);
        node.outputs.forEach((name, i) => {
          if (name !== "") draft.rewire(name, kept.outputs[i]!);
        });
      }
    });
  },
};

function keyOf(node: Node, replaced: ReadonlyMap<string, string>, numbers: Map<unknown, number>): string | undefined {
  if (node.inputs.length === 0) return undefined;
  const attributes: unknown[] = [];
  for (const name of Object.keys(node.attributes).toSorted()) {
    const value = keyOfAttribute(node.attributes[name]!, numbers);
    if (value === undefined) return undefined;
    attributes.push(name, value);
  }
  const inputs = node.inputs.map((name) => replaced.get(name) ?? name);
  return JSON.stringify([node.domain, node.op, node.overload ?? "", inputs, attributes]);
}

function keyOfAttribute(attribute: Attribute, numbers: Map<unknown, number>): unknown {
  switch (attribute.type) {
    case "float":
    case "floats":
    case "int":
    case "ints":
    case "strings":
    case "string":
      return JSON.stringify(attribute, (_, v) => (typeof v === "bigint" || isOdd(v) ? `${v}!` : v));
    case "tensor": {
      const number = numbers.get(attribute.value) ?? numbers.size;
      numbers.set(attribute.value, number);
      return number;
    }
    default:
      return undefined;
  }
}

/** Numbers that JSON does not tell apart from others. */
function isOdd(value: unknown): boolean {
  return typeof value === "number" && !Number.isFinite(value);
}

const smallest = 256;

/** Weights of equal type, shape and content are stored once. */
export const duplicates: Pass = {
  name: "duplicate-weights",
  summary: "Weights with the same content are stored once.",
  run(graph, facts) {
    const border = new Set([...graph.inputs, ...graph.outputs].map(({ name }) => name));
    const mine = [...graph.weights].filter(
      ([name, { byteLength }]) => byteLength >= smallest && !border.has(name) && !facts.foreign.has(name),
    );
    const locked = new Set<string>();
    for (const node of graph.nodes) if (!facts.selected(node)) for (const name of reads(node)) locked.add(name);
    const groups = duplicateWeights(new Map(mine.filter(([name]) => !locked.has(name))));
    if (groups.length === 0) return graph;
    return edit(graph, (draft) => {
      for (const [kept, ...others] of groups) for (const other of others) draft.rewire(other, kept!);
    });
  },
};
