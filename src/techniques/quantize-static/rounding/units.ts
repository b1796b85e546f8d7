import type { Graph, Node } from "../../../graph/graph.ts";
import { links, reads, soleConsumer } from "../../../graph/walk.ts";
import type { Plan } from "../plan.ts";
import { constant, weightOf } from "../rules.ts";

/** Nodes whose weights are learned together, from what they read to the value that is compared. */
export interface Unit {
  /** In the order of execution. */
  readonly nodes: readonly Node[];
  /** Those of them whose weights become integers. */
  readonly learns: readonly Node[];
  /** Values that they read and others made. */
  readonly inputs: readonly string[];
  readonly output: string;
}

/** Functions of one input behind a layer that are compared instead of what goes into them. */
const activationOps = new Set(
  "Relu Clip LeakyRelu PRelu Sigmoid HardSigmoid HardSwish Tanh Elu Selu Celu Gelu Softplus Mish Swish".split(" "),
);

/** A unit for each layer on integers with a constant weight: the layer and the activation functions behind it. */
export function layerUnits(graph: Graph, plan: Plan): readonly Unit[] {
  return graph.nodes.flatMap((node) => {
    if (!plan.compute.has(node) || !weightOf(node, graph)) return [];
    const nodes = [node];
    for (let next = activationBehind(graph, node); next; next = activationBehind(graph, next)) nodes.push(next);
    return [unitOf(graph, nodes, plan, nodes.at(-1)!.outputs[0]!)];
  });
}

function activationBehind(graph: Graph, node: Node): Node | undefined {
  const next = soleConsumer(graph, node.outputs[0]!);
  const own = next?.inputs.slice(1).every((name) => name === "" || constant(graph, name) !== undefined);
  return next && own && next.domain === "" && activationOps.has(next.op) ? next : undefined;
}

/** Layers of a block in a chain without branches: a depthwise and a pointwise one, or a squeeze and two that expand. */
const chained = 3;
/** Layers of a part that nothing cuts, beyond which each is learned on its own. */
const mostLayers = 12;

/**
 * A unit for each block. The graph falls apart where a single value leads from what was before to what comes; residual
 * branches lie between two such values. Parts of few layers are taken together, as long as nothing but activations lies
 * between them.
 */
export function blockUnits(graph: Graph, plan: Plan): readonly Unit[] {
  const layers = new Map(layerUnits(graph, plan).map((unit) => [unit.learns[0]!, unit]));
  const units: Unit[] = [];
  let open: { nodes: Node[]; output: string } | undefined;
  const learned = (nodes: readonly Node[]): Node[] => nodes.filter((node) => layers.has(node));
  const close = (): void => {
    if (open) units.push(unitOf(graph, open.nodes, plan, open.output));
    open = undefined;
  };
  for (const { nodes, output } of parts(graph)) {
    const count = learned(nodes).length;
    if (count === 0) {
      if (open && output !== undefined && nodes.every((node) => activationOps.has(node.op)))
        open = { nodes: [...open.nodes, ...nodes], output };
      else close();
      continue;
    }
    if (open && learned(open.nodes).length + count > chained) close();
    if (count > mostLayers || output === undefined) {
      close();
      units.push(...learned(nodes).map((node) => layers.get(node)!));
    } else open = { nodes: [...(open?.nodes ?? []), ...nodes], output };
  }
  close();
  return units;
}

/** The graph cut at values that alone lead on; what is behind the last of them has no output. */
function parts(graph: Graph): readonly { readonly nodes: readonly Node[]; readonly output: string | undefined }[] {
  const { consumers, outputs } = links(graph);
  const left = new Map([...consumers].map(([name, readers]) => [name, readers.length + (outputs.has(name) ? 1 : 0)]));
  const live = new Set(graph.inputs.map(({ name }) => name).filter((name) => !graph.weights.has(name)));
  const found: { nodes: Node[]; output: string | undefined }[] = [];
  let nodes: Node[] = [];
  for (const node of graph.nodes) {
    nodes.push(node);
    for (const name of node.outputs) if (left.has(name) || outputs.has(name)) live.add(name);
    for (const name of reads(node)) {
      const rest = (left.get(name) ?? 1) - 1;
      left.set(name, rest);
      if (rest === 0) live.delete(name);
    }
    if (live.size !== 1) continue;
    found.push({ nodes, output: [...live][0]! });
    nodes = [];
  }
  if (nodes.length > 0) found.push({ nodes, output: undefined });
  return found;
}

function unitOf(graph: Graph, nodes: readonly Node[], plan: Plan, output: string): Unit {
  const made = new Set(nodes.flatMap((node) => node.outputs));
  const inputs = new Set<string>();
  for (const node of nodes) {
    for (const name of reads(node)) if (!made.has(name) && !graph.weights.has(name)) inputs.add(name);
  }
  const learns = nodes.filter((node) => plan.compute.has(node) && weightOf(node, graph) !== undefined);
  return { nodes, learns, inputs: [...inputs], output };
}
