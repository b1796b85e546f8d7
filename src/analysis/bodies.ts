import { edit } from "../graph/edit.ts";
import type { Attribute, Graph, Node, Subgraph, Value } from "../graph/graph.ts";
import { captures } from "../graph/walk.ts";
import type { Runtime } from "../platform/runtime.ts";
import { type InferredType, inferTypes, knownTypes } from "./infer.ts";

/**
 * Applies `change` to every body of a control-flow node, given as a graph of its own: constants of the graph around it
 * are weights there (`foreign`), other captured values inputs. Returns the same graph where no body changed.
 */
export async function mapBodies(
  graph: Graph,
  types: ReadonlyMap<string, InferredType>,
  selected: (node: Node) => boolean,
  change: (body: Graph, foreign: ReadonlySet<string>) => Promise<Graph>,
): Promise<Graph> {
  const replaced = new Map<Node, Node>();
  for (const node of graph.nodes) {
    if (!selected(node)) continue;
    const attributes: Record<string, Attribute> = { ...node.attributes };
    for (const [name, attribute] of Object.entries(node.attributes)) {
      if (attribute.type !== "graph") continue;
      const body = await mapBody(graph, attribute.value, types, change);
      if (body !== attribute.value) attributes[name] = { type: "graph", value: body };
    }
    const same = Object.entries(attributes).every(([name, attribute]) => node.attributes[name] === attribute);
    if (!same) replaced.set(node, { ...node, attributes });
  }
  if (replaced.size === 0) return graph;
  return edit(graph, (draft) => {
    for (const [node, made] of replaced) draft.replace(node, made);
  });
}

async function mapBody(
  outer: Graph,
  body: Subgraph,
  types: ReadonlyMap<string, InferredType>,
  change: (body: Graph, foreign: ReadonlySet<string>) => Promise<Graph>,
): Promise<Subgraph> {
  const foreign = new Set<string>();
  const overridable = new Set(outer.inputs.map(({ name }) => name));
  const weights = new Map(body.weights);
  const inputs: Value[] = [...body.inputs];
  for (const name of captures(body)) {
    const weight = overridable.has(name) ? undefined : outer.weights.get(name);
    const type = types.get(name);
    if (weight) {
      foreign.add(name);
      weights.set(name, weight);
    } else {
      inputs.push({
        name,
        ...(type && { type: { kind: "tensor", dtype: type.dtype, ...(type.shape && { shape: type.shape }) } }),
      });
    }
  }
  const { opsets, functions } = outer;
  const whole: Graph = {
    ...body,
    weights,
    inputs,
    opsets,
    functions,
    irVersion: Math.max(4, outer.irVersion),
    metadata: {},
  };
  const changed = await change(whole, foreign);
  if (changed === whole) return body;
  const { nodes, outputs, declared, sparse } = changed;
  const own = [...changed.weights].filter(([name]) => !foreign.has(name));
  return { ...body, nodes, outputs, declared, sparse, weights: new Map(own) };
}

/** Inferred types, or where the runtime refuses the graph only those of inputs and weights, with the reason logged. */
export async function typesOf(
  graph: Graph,
  runtime: Runtime,
  log: (message: string) => void,
): Promise<ReadonlyMap<string, InferredType>> {
  try {
    return await inferTypes(graph, runtime);
  } catch (error) {
    log(`shapes are unknown: ${error instanceof Error ? error.message : String(error)}`);
    return knownTypes(graph);
  }
}
