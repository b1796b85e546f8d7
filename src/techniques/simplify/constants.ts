import { messageOf } from "../../errors.ts";
import { edit } from "../../graph/edit.ts";
import type { Graph, Node } from "../../graph/graph.ts";
import { links, reads } from "../../graph/walk.ts";
import { packedBytes } from "../../tensor/dtype.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { constantValue } from "../hoist-constants.ts";
import { unpacks } from "../unpacking.ts";
import { constant, type Facts, isDeterministic, type Pass } from "./pass.ts";

/** `Constant -> y` => weight `y`. */
export const constantNodes: Pass = {
  name: "constant-nodes",
  summary: "Constant nodes become initializers.",
  run(graph, facts) {
    const { outputs } = links(graph);
    const found = graph.nodes.flatMap((node) => {
      const name = node.outputs[0];
      if (node.op !== "Constant" || node.domain !== "" || name === undefined || outputs.has(name)) return [];
      const value = constantValue(node);
      return value && facts.selected(node) ? [{ node, name, value }] : [];
    });
    if (found.length === 0) return graph;
    return edit(graph, (draft) => {
      for (const { node, name, value } of found) {
        draft.replace(node);
        draft.weights.set(name, value);
      }
    });
  },
};

/**
 * Nodes whose inputs are all constant are computed, all in one run, and become initializers, but for those that would
 * grow the file: a node's output may pass what it frees by `maxGrowth` bytes. Decompression stays as it is:
 * DequantizeLinear, and casts of weights to a wider type.
 */
export const foldConstants: Pass = {
  name: "fold-constants",
  summary: "Nodes whose inputs are all constant are computed now.",
  async run(graph, facts) {
    const blocked = new Set<Node>();
    for (;;) {
      const nodes = foldable(graph, facts, blocked);
      if (nodes.size === 0) return graph;
      const values = await compute(graph, nodes, facts, blocked);
      const grown = [...values].filter(([name, value]) => grows(graph, nodes, name, value, facts));
      for (const [name] of grown) blocked.add(links(graph).producer.get(name)!);
      if (grown.length === 0) return values.size === 0 ? graph : replaceBy(graph, nodes, values, blocked);
    }
  },
};

function foldable(graph: Graph, facts: Facts, blocked: ReadonlySet<Node>): Set<Node> {
  const { producer, consumers, outputs } = links(graph);
  const found = new Set<Node>();
  for (const node of graph.nodes) {
    if (blocked.has(node) || !facts.selected(node) || !isFoldableKind(node, graph)) continue;
    const sources = [...reads(node)];
    const ready = sources.every((name) => constant(graph, name) || found.has(producer.get(name)!));
    // an output that is already a copied constant has no simpler form
    const copied = node.op === "Identity" && outputs.has(node.outputs[0]!) && graph.weights.has(node.inputs[0]!);
    if (!ready || copied) continue;
    const freed = sources.reduce((sum, name) => {
      if (!graph.weights.has(name)) return sum + (bytesOf(facts, name) ?? 0);
      return consumers.get(name)?.length === 1 && !facts.foreign.has(name)
        ? sum + graph.weights.get(name)!.byteLength
        : sum;
    }, 0);
    const made = node.outputs.reduce((sum, name) => sum + (name === "" ? 0 : (bytesOf(facts, name) ?? 0)), 0);
    if (made <= freed + facts.maxGrowth) found.add(node);
  }
  return found;
}

function isFoldableKind(node: Node, graph: Graph): boolean {
  if (
    !isDeterministic(node, graph.functions) ||
    node.outputs.length === 0 ||
    /Sequence|Optional|^Constant$/.test(node.op)
  )
    return false;
  return !unpacks(node, graph);
}

function bytesOf(facts: Facts, name: string): number | undefined {
  const type = facts.types.get(name);
  if (!type?.shape?.every((dim) => typeof dim === "number")) return undefined;
  return packedBytes(
    type.dtype,
    (type.shape as readonly number[]).reduce((a, b) => a * b, 1),
  );
}

/** Growth that only the result shows, where the shape was not known beforehand. */
function grows(graph: Graph, nodes: ReadonlySet<Node>, name: string, value: Tensor, facts: Facts): boolean {
  if (bytesOf(facts, name) !== undefined) return false;
  const { producer, consumers } = links(graph);
  const freed = [...reads(producer.get(name)!)].reduce((sum, source) => {
    const weight = graph.weights.get(source);
    return sum + (weight && consumers.get(source)!.every((node) => nodes.has(node)) ? weight.byteLength : 0);
  }, 0);
  return value.byteLength > freed + facts.maxGrowth;
}

/** Values that leave the folded part, by one run; where the runtime refuses it, part by part. */
async function compute(
  graph: Graph,
  nodes: ReadonlySet<Node>,
  facts: Facts,
  blocked: Set<Node>,
): Promise<Map<string, Tensor>> {
  try {
    return await run(graph, nodes, facts);
  } catch {
    const values = new Map<string, Tensor>();
    for (const part of components(graph, nodes)) {
      try {
        for (const [name, value] of await run(graph, part, facts)) values.set(name, value);
      } catch (error) {
        for (const node of part) {
          blocked.add(node);
          facts.skip(node, `the runtime can't compute it: ${messageOf(error)}`);
        }
      }
    }
    return values;
  }
}

async function run(graph: Graph, nodes: ReadonlySet<Node>, facts: Facts): Promise<Map<string, Tensor>> {
  const { consumers, outputs } = links(graph);
  const leaving = [...nodes].flatMap((node) =>
    node.outputs.filter((name) => outputs.has(name) || consumers.get(name)?.some((reader) => !nodes.has(reader))),
  );
  if (leaving.length === 0) return new Map();
  const used = new Set([...nodes].flatMap((node) => [...reads(node)]));
  const part: Graph = {
    ...graph,
    nodes: graph.nodes.filter((node) => nodes.has(node)),
    weights: new Map([...graph.weights].filter(([name]) => used.has(name))),
    sparse: new Map(),
    declared: new Map(),
    inputs: [],
    outputs: leaving.map((name) => ({ name })),
    irVersion: Math.max(4, graph.irVersion),
  };
  const session = await facts.runtime.open(part, { optimize: "disabled" });
  try {
    return new Map(Object.entries(await session.run({})));
  } finally {
    await session.release();
  }
}

function components(graph: Graph, nodes: ReadonlySet<Node>): Set<Node>[] {
  const { producer } = links(graph);
  const of = new Map<Node, Set<Node>>();
  for (const node of nodes) {
    let own = new Set([node]);
    for (const name of reads(node)) {
      const other = of.get(producer.get(name)!);
      if (!other || other === own) continue;
      if (other.size < own.size) for (const member of other) own.add(member);
      else {
        for (const member of own) other.add(member);
        own = other;
      }
    }
    for (const member of own) of.set(member, own);
  }
  return [...new Set(of.values())];
}

function replaceBy(
  graph: Graph,
  nodes: ReadonlySet<Node>,
  values: ReadonlyMap<string, Tensor>,
  blocked: ReadonlySet<Node>,
): Graph {
  const { outputs } = links(graph);
  return edit(graph, (draft) => {
    for (const node of nodes) if (!blocked.has(node)) draft.replace(node);
    for (const [name, value] of values) {
      if (outputs.has(name)) draft.emit("Identity", [draft.constant(`${name}_constant`, value)], {}, [name]);
      else draft.weights.set(name, value);
    }
  });
}
