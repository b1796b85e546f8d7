import type { Batch } from "../data/dataset.ts";
import type { Runtime } from "../platform/runtime.ts";
import { weightGradients } from "../training/weight-gradients.ts";
import type { Couplings, Group, Place } from "./couplings.ts";
import type { UnitScores } from "./importance.ts";
import { finite, isFloat, unitSums } from "./unit-weights.ts";

/**
 * First-order Taylor scores (Molchanov et al. 2019): for every weight of a unit the sum of gradient x weight over its
 * elements, which estimates what zeroing them changes in the loss; squared, and summed over weights and batches.
 *
 * @param otherwise scores of groups none of whose weights has a gradient
 */
export async function taylorScores(
  found: Couplings,
  groups: readonly Group[],
  world: { readonly runtime: Runtime; readonly batches: AsyncIterable<Batch>; readonly signal: AbortSignal },
  otherwise: (group: Group) => Float64Array,
): Promise<UnitScores> {
  const { graph, structure } = found;
  const weight = (place: Place) => graph.weights.get(place.name);
  const floats = new Map(
    groups.map((group) => [group, group.members.filter((place) => weight(place) && isFloat(weight(place)!.dtype))]),
  );
  const names = [...new Set([...floats.values()].flat().map(({ name }) => name))];
  const scores = new Map<Group, Float64Array>();
  for await (const gradients of weightGradients(graph, names, world.batches, world.runtime, world.signal)) {
    for (const [group, places] of floats) {
      for (const place of places) {
        const slope = gradients.get(place.name);
        if (!slope) continue;
        const data = structure.constantOf(place.name)!;
        const changes = unitSums(place, data, finite(place.name, data), (w, at) => w * slope[at]!);
        const sums = scores.get(group) ?? new Float64Array(group.units);
        scores.set(group, sums);
        for (let i = 0; i < sums.length; i++) sums[i]! += changes[i]! ** 2;
      }
    }
  }
  return new Map(groups.map((group) => [group, scores.get(group) ?? otherwise(group)]));
}
