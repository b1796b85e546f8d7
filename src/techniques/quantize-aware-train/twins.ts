import { type Graph, type Node, opKey } from "../../graph/graph.ts";
import { links } from "../../graph/walk.ts";
import type { Plan } from "../quantize-static/plan.ts";

/** A node in another form of the same graph, and those behind it that the first form has folded into it. */
export interface Twin {
  readonly node: Node;
  readonly followers: readonly Node[];
}

/**
 * The node of another form of a graph that does what a node does: values have the same names in both, and where batch
 * normalization is folded in one of them, the other has it between the node and the value.
 */
export function twinOf(node: Node, graph: Graph): Twin | undefined {
  const { producer } = links(graph);
  const followers: Node[] = [];
  let at = producer.get(node.outputs[0]!);
  while (at && opKey(at) !== opKey(node)) {
    followers.push(at);
    const computed = at.inputs.filter((name) => producer.has(name));
    at = computed.length === 1 ? producer.get(computed[0]!) : undefined;
  }
  return at && { node: at, followers };
}

/** A plan for another form of the graph it was made for. */
export interface TwinPlan extends Plan {
  /** Nodes of `integer` that the first form has folded into those before them. */
  readonly followers: ReadonlySet<Node>;
  /** Nodes of `compute` that others are folded into by the first form, and these, the last one first. */
  readonly folded: ReadonlyMap<Node, readonly Node[]>;
}

/** The plan that has the same places in another form of the graph. */
export function planFor(graph: Graph, plan: Plan): TwinPlan {
  const followers = new Set<Node>();
  const folded = new Map<Node, readonly Node[]>();
  const compute = new Set<Node>();
  const integer = new Set<Node>();
  const absorbed = new Set<Node>();
  for (const node of plan.integer) {
    const twin = twinOf(node, graph);
    if (!twin) continue;
    integer.add(twin.node);
    if (!plan.compute.has(node)) continue;
    compute.add(twin.node);
    if (twin.followers.length > 0) folded.set(twin.node, twin.followers);
    // other products keep a float output, with or without what follows them
    if (node.op === "Conv") for (const follower of twin.followers) followers.add(follower);
  }
  for (const node of plan.absorbed) {
    const twin = twinOf(node, graph);
    if (twin) absorbed.add(twin.node);
  }
  return { ...plan, compute, integer: new Set([...integer, ...followers]), absorbed, followers, folded };
}
