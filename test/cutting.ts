import { syntheticFeeds } from "../src/data/synthetic.ts";
import type { Graph } from "../src/graph/graph.ts";
import type { Tensors } from "../src/platform/runtime.ts";
import type { Couplings, Group } from "../src/pruning/couplings.ts";
import type { Cuts } from "../src/pruning/cut.ts";
import { type Random, random } from "../src/random.ts";
import { float32, type Tensor, toFloat32 } from "../src/tensor/tensor.ts";

/** Feeds of the usual kind, floats spread around zero so that units differ; free dimensions are `batch` or as in `dims`. */
export function spreadFeeds(graph: Graph, batch: number, dims: Readonly<Record<string, number>> = {}): Tensors {
  const feeds = Object.entries(syntheticFeeds(graph, random(5), { batch, dims: { ...dims, batch } }));
  return Object.fromEntries(
    feeds.map(([name, value]): [string, Tensor] => {
      if (value.dtype !== "float32") return [name, value];
      const spread = toFloat32(value).map((v) => 2 * v - 1);
      return [name, float32(value.shape, spread)];
    }),
  );
}

/** Random units of every group that can be cut, at least one of which stays. */
export function randomCuts(found: Couplings, ratio: number, source: Random): Cuts {
  return new Map(
    found.groups.flatMap((group): [Group, number[]][] => {
      if (group.frozen !== undefined) return [];
      const order = source.shuffle(Array.from({ length: group.units }, (_, i) => i));
      const stay = Math.max(1, Math.round(group.units * (1 - ratio)));
      return [[group, order.slice(0, stay).sort((a, b) => a - b)]];
    }),
  );
}
