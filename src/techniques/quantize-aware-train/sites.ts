import { type Graph, type Node, nodeLabel } from "../../graph/graph.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { sizeOf } from "../../tensor/tensor.ts";
import type { Plan } from "../quantize-static/plan.ts";
import { weightOf } from "../quantize-static/rules.ts";
import type { WeightTarget } from "../quantize-weights/targets.ts";
import { viewOf } from "../quantize-weights/view.ts";

/** A weight to be rounded, in the form of the model that runs. */
export interface Site {
  readonly name: string;
  readonly weight: Tensor;
  /** Those that read it. */
  readonly nodes: readonly Node[];
  /** What it is called in messages: its first reader. */
  readonly label: string;
  /** The weight seen as [outer, length, inner], with a channel for each outer and inner index. */
  readonly view: readonly [outer: number, length: number, inner: number];
}

/** The weights of a plan's compute nodes; as a single channel where they have one scale in all. */
export function sitesOfPlan(graph: Graph, plan: Plan, perChannel: boolean): readonly Site[] {
  const sites = new Map<string, Site>();
  for (const node of plan.compute) {
    const found = weightOf(node, graph);
    if (!found) continue;
    const { name, tensor, axis } = found;
    const known = sites.get(name);
    if (known) sites.set(name, { ...known, nodes: [...known.nodes, node] });
    else
      sites.set(name, {
        name,
        weight: tensor,
        nodes: [node],
        label: nodeLabel(node),
        view: along(tensor, perChannel ? axis : null),
      });
  }
  return [...sites.values()];
}

function along({ shape, size }: Tensor, axis: number | null): Site["view"] {
  if (axis === null) return [1, size, 1];
  const before = sizeOf(shape.slice(0, axis));
  return axis === 0 ? [shape[0]!, size / shape[0]!, 1] : [1, before, shape[axis]!];
}

/** A target of weight-only quantization, seen by its output channels, or as one. */
export function siteOfTarget(target: WeightTarget, perChannel: boolean): Site {
  const { layout, uses, name, weight } = target;
  const { outer, length, inner } = viewOf(layout, layout.shape[layout.axis]!);
  const nodes = uses.map(({ node }) => node);
  const view = perChannel ? ([outer, length, inner] as const) : ([1, weight.size, 1] as const);
  return { name, weight, nodes, label: nodeLabel(nodes[0]!), view };
}
