import type { Couplings, Place } from "./couplings.ts";
import { finite, unitVectors } from "./unit-weights.ts";

const medianRounds = 30;

/** Distances of units, each a vector of its weights, to their geometric median (Weiszfeld 1937). */
export function fromMedian({ structure }: Couplings, place: Place): Float64Array {
  const weight = structure.constantOf(place.name)!;
  const vectors = unitVectors(place, weight, finite(place.name, weight));
  const length = vectors[0]!.length;
  let median = new Float64Array(length);
  for (const vector of vectors) for (let i = 0; i < length; i++) median[i]! += vector[i]! / vectors.length;
  const distances = (): Float64Array =>
    Float64Array.from(vectors, (vector) => Math.sqrt(vector.reduce((sum, v, i) => sum + (v - median[i]!) ** 2, 0)));
  for (let round = 0; round < medianRounds; round++) {
    const far = distances();
    const next = new Float64Array(length);
    // a vector that is the median itself would have infinite weight
    const weights = far.map((d) => 1 / Math.max(d, 1e-12));
    const total = weights.reduce((a, b) => a + b, 0);
    for (const [n, vector] of vectors.entries()) {
      const share = weights[n]! / total;
      for (let i = 0; i < length; i++) next[i]! += share * vector[i]!;
    }
    median = next;
  }
  return distances();
}
