import { type Graph, type Node, nodeLabel, opKey } from "../graph/graph.ts";
import { links, reads } from "../graph/walk.ts";
import type { BytesByType, NodeCost } from "./cost.ts";

/** A node that multiplies or looks up weights, and the cheap nodes that follow it. */
export interface Layer {
  /** Label of its first node. */
  readonly name: string;
  /** Operator of its first node, with its domain before a colon where that is not ONNX's own. */
  readonly op: string;
  /** Labels of all its nodes, in order. */
  readonly nodes: readonly string[];
  readonly parameters: number;
  /** Bytes of its weights as stored. */
  readonly bytes: number;
  readonly byType: BytesByType;
  /** Known multiply-accumulates of one run. */
  readonly macs: number;
  readonly flops: number;
  /** Labels of nodes whose arithmetic is unknown; absent where there are none. */
  readonly unknown?: readonly string[];
  /** Milliseconds of one run, where measured. */
  readonly ms?: number;
  /** Bytes of all its outputs in one run. */
  readonly activationBytes: number;
}

/** Operators that look up rows of a weight: layers though they multiply nothing. */
const lookups = new Set(["Gather", "com.microsoft:GatherBlockQuantized"]);

/**
 * Groups a graph's nodes into layers, each node in exactly one: a layer begins at a node with multiply-accumulates (or
 * of unknown work, with parameters), or that looks up rows of a weight; other nodes join the layer of the latest of
 * their inputs, and those that prepare constants the layer of their first reader.
 */
export function layersOf(graph: Graph, costs: readonly NodeCost[], ms?: ReadonlyMap<Node, number>): Layer[] {
  const { producer, consumers } = links(graph);
  const position = new Map(graph.nodes.map((node, i) => [node, i]));
  const constant = new Set<Node>();
  const home = new Map<Node, number>();
  costs.forEach(({ node, macs, parameters }, i) => {
    const sources = [...reads(node)].flatMap((name) => producer.get(name) ?? []);
    const fromInputs = [...reads(node)].some((name) => !producer.has(name) && !graph.weights.has(name));
    const starts = (macs ?? parameters) > 0 || (lookups.has(opKey(node)) && parameters > 0);
    if (!fromInputs && !starts && sources.every((source) => constant.has(source))) constant.add(node);
    else if (starts) home.set(node, i);
    else {
      const before = sources.filter((source) => home.has(source));
      const latest = before.reduce((a, b) => Math.max(a, position.get(b)!), -1);
      home.set(node, latest < 0 ? i : home.get(graph.nodes[latest]!)!);
    }
  });
  for (const node of [...constant].toReversed()) {
    const readers = node.outputs.flatMap((name) => consumers.get(name) ?? []);
    home.set(node, readers.map((reader) => home.get(reader)).find((at) => at !== undefined) ?? position.get(node)!);
  }
  const groups = new Map<number, NodeCost[]>();
  costs.forEach((cost) => {
    const at = home.get(cost.node)!;
    groups.set(at, [...(groups.get(at) ?? []), cost]);
  });
  return [...groups].toSorted(([a], [b]) => a - b).map(([at, members]) => layer(graph.nodes[at]!, members, ms));
}

function layer(first: Node, members: readonly NodeCost[], ms?: ReadonlyMap<Node, number>): Layer {
  const sum = (value: (cost: NodeCost) => number | undefined): number =>
    members.reduce((total, cost) => total + (value(cost) ?? 0), 0);
  const byType: Record<string, number> = {};
  for (const { weightBytes } of members) {
    for (const [dtype, bytes] of Object.entries(weightBytes)) byType[dtype] = (byType[dtype] ?? 0) + bytes;
  }
  const unknown = members.filter((cost) => cost.unknown !== undefined).map(({ node }) => nodeLabel(node));
  return {
    name: nodeLabel(first),
    op: opKey(first),
    nodes: members.map(({ node }) => nodeLabel(node)),
    parameters: sum((cost) => cost.parameters),
    bytes: Object.values(byType).reduce((a, b) => a + b, 0),
    byType,
    macs: sum((cost) => cost.macs),
    flops: sum((cost) => cost.flops),
    ...(unknown.length > 0 && { unknown }),
    ...(ms && { ms: sum((cost) => ms.get(cost.node)) }),
    activationBytes: sum((cost) => cost.outputBytes),
  };
}
