import type { Attribute, Graph, Node, Subgraph } from "../graph/graph.ts";
import { links } from "../graph/walk.ts";
import type { Runtime, Tensors } from "../platform/runtime.ts";

/** Measured times of a graph's nodes. */
export interface Timing {
  /** Milliseconds of one run by node. A node missing here was fused into another, or removed while loading. */
  readonly nodes: ReadonlyMap<Node, number>;
  /** Kernels that no single node stands for (conversions of layout, some fusions): milliseconds of one run by operator. */
  readonly added: ReadonlyMap<string, number>;
  /** Sum of all kernels, milliseconds of one run. */
  readonly total: number;
  /** Median wall-clock milliseconds of a run while profiling. */
  readonly wall: number;
  readonly runs: number;
}

/** How long {@link timeNodes} measures. */
export interface TimingOptions {
  /** Milliseconds of running after which no further run starts; 1000 by default. */
  readonly budget?: number;
  /** Most runs; 50 by default. At least 3 are made. */
  readonly runs?: number;
}

/**
 * Times every node with the runtime's profiler. The runtime fuses nodes while loading: a fused kernel's time goes to the
 * node that names its operator (the convolution of a convolution with activation).
 *
 * @throws PareError where the runtime refuses the model or the feeds
 */
export async function timeNodes(
  graph: Graph,
  runtime: Runtime,
  feeds: Tensors,
  { budget = 1000, runs: most = 50 }: TimingOptions = {},
): Promise<Timing> {
  // names that fused kernels keep parts of, so that they can be traced back
  const nodes = graph.nodes.map((node, i) => renamed(node, `pare_${i}_`));
  const session = await runtime.open({ ...graph, nodes }, { profile: true });
  try {
    const walls: number[] = [];
    const start = performance.now();
    for (
      let spent = 0;
      walls.length < 3 || (spent < budget && walls.length < most);
      spent = performance.now() - start
    ) {
      const before = performance.now();
      await session.run(feeds);
      walls.push(performance.now() - before);
    }
    const runs = walls.length;
    const origin = originOf(graph);
    const times = new Map<Node, number>();
    const added = new Map<string, number>();
    let total = 0;
    for (const { node: name, op, ...kernel } of await session.profile()) {
      if (name.includes(nested)) continue;
      const node = origin(name, op);
      const ms = kernel.runs === runs ? kernel.median : kernel.ms / runs;
      total += ms;
      if (node) times.set(node, (times.get(node) ?? 0) + ms);
      else added.set(op, (added.get(op) ?? 0) + ms);
    }
    return { nodes: times, added, total, wall: walls.toSorted((a, b) => a - b)[runs >> 1]!, runs };
  } finally {
    await session.release();
  }
}

const nested = "pare_nested_";

/** The node under another name, and all nodes in its bodies under one that says so: their time is part of its own. */
function renamed(node: Node, name: string): Node {
  const attributes = Object.entries(node.attributes).map(([key, value]): [string, Attribute] => {
    if (value.type === "graph") return [key, { type: "graph", value: renamedBody(value.value) }];
    return value.type === "graphs" ? [key, { type: "graphs", value: value.value.map(renamedBody) }] : [key, value];
  });
  return { ...node, name, attributes: Object.fromEntries(attributes) };
}

function renamedBody(body: Subgraph): Subgraph {
  return { ...body, nodes: body.nodes.map((node, i) => renamed(node, `${nested}${node.outputs[0]}_${i}`)) };
}

const longestFusion = 6;

/** Finds the node behind a kernel: by the mark in its name, or by the output that blocked convolutions are named after. */
function originOf(graph: Graph): (name: string, op: string) => Node | undefined {
  const { producer } = links(graph);
  return (name, op) => {
    const mark = /pare_(\d+)_/.exec(name);
    let node = mark
      ? graph.nodes[Number(mark[1])]
      : producer.get(name.replace(/^InsertedPrecisionFreeCast_|_nchwc$/g, ""));
    const found = node;
    for (let step = 0; node && step < longestFusion; step++) {
      if (op.includes(node.op)) return node;
      node = producer.get(node.inputs[0] ?? "");
    }
    return found;
  };
}
