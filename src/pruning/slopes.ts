import type { Batch } from "../data/dataset.ts";
import { unlabelled } from "../data/feeds.ts";
import type { Runtime } from "../platform/runtime.ts";
import { weightGradients } from "../training/weight-gradients.ts";
import type { Couplings, Group, Place } from "./couplings.ts";
import type { UnitScores } from "./importance.ts";
import { productsOf, readers } from "./products.ts";
import { finite, isFloat, matrices, unitSums } from "./unit-weights.ts";

/**
 * What removing a unit does to the outputs, from gradients g of the outputs (logits) in random directions, drawn anew for
 * every batch: the mean of a squared product with g is that with the outputs' Jacobian, summed over samples. Labels play no
 * part: the gradient of a loss at whose minimum a model stands is noise.
 * - taylor: (Σ g w)^2 over the weights by which the unit is read, which is the squared change of the outputs to first
 *   order when it goes (Molchanov et al. 2017, 2019). Terms of one layer or another keep their signs;
 * - hessian: Σ w^2 g^2 / 2 over all its weights: Optimal Brain Damage (LeCun et al. 1990) with the diagonal of the
 *   Gauss-Newton matrix.
 *
 * @param batches of few samples each: every batch is one draw
 * @param otherwise scores of groups none of whose weights has a gradient
 */
export async function slopeScores(
  found: Couplings,
  groups: readonly Group[],
  kind: "taylor" | "hessian",
  world: { readonly runtime: Runtime; readonly batches: AsyncIterable<Batch>; readonly signal: AbortSignal },
  otherwise: (group: Group) => Float64Array,
): Promise<UnitScores> {
  const { graph, structure } = found;
  const products = productsOf(found);
  const learned = ({ name }: Place): boolean => isFloat(graph.weights.get(name)?.dtype ?? "bool");
  const parts = new Map(
    groups.map((group): [Group, readonly Place[]] => {
      const reading = kind === "taylor" ? readers(found, group, products).filter(learned) : [];
      return [group, reading.length > 0 ? reading : matrices(found, group).filter(learned)];
    }),
  );
  const names = [...new Set([...parts.values()].flat().map(({ name }) => name))];
  const values = new Map(names.map((name) => [name, finite(name, structure.constantOf(name)!)]));
  const scores = new Map<Group, Float64Array>();
  for await (const gradients of weightGradients(graph, names, unlabelled(world.batches), world.runtime, world.signal)) {
    for (const [group, places] of parts) {
      const changes = new Float64Array(group.units);
      let any = false;
      for (const place of places) {
        const slope = gradients.get(place.name);
        if (!slope) continue;
        any = true;
        const of = (w: number, at: number): number => (kind === "taylor" ? w * slope[at]! : (w * slope[at]!) ** 2 / 2);
        const sums = unitSums(place, structure.constantOf(place.name)!, values.get(place.name)!, of);
        for (let i = 0; i < changes.length; i++) changes[i]! += sums[i]!;
      }
      if (!any) continue;
      const total = scores.get(group) ?? new Float64Array(group.units);
      scores.set(group, total);
      for (let i = 0; i < total.length; i++) total[i]! += kind === "taylor" ? changes[i]! ** 2 : changes[i]!;
    }
  }
  return new Map(groups.map((group) => [group, scores.get(group) ?? otherwise(group)]));
}
