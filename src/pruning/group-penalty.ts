import { sizeOf } from "../tensor/tensor.ts";
import type { Constraint, LearningWeight, Moment } from "../training/constraint.ts";
import type { Couplings, Group, Place } from "./couplings.ts";
import type { Cuts } from "./cut.ts";
import { matrices } from "./unit-weights.ts";

/** A unit's weights in one tensor: runs of `inner` numbers. */
interface Slices {
  readonly place: Place;
  readonly outer: number;
  readonly size: number;
  readonly inner: number;
}

function slicesOf(place: Place, shape: readonly number[]): Slices {
  const { axis } = place;
  return { place, outer: sizeOf(shape.slice(0, axis)), size: shape[axis]!, inner: sizeOf(shape.slice(axis + 1)) };
}

/** Calls `visit` with the ends of every run of a unit's weights. */
function eachRun({ place, outer, size, inner }: Slices, unit: number, visit: (from: number, to: number) => void): void {
  for (let o = 0; o < outer; o++) {
    for (const i of place.indices[unit]!) {
      const from = (o * size + i) * inner;
      visit(from, from + inner);
    }
  }
}

/**
 * Group lasso: after every update the proximal step of strength Σ √n |w_u| over the units u of groups, n the number of
 * their weights, which draws whole units to zero (Yuan and Lin 2006; on structures Wen et al. 2016):
 *
 *     w_u -> max(0, 1 - rate strength √n / |w_u|) w_u
 *
 * A unit is all its weights that are no vectors, in layers that make it and in layers that read it.
 */
export function groupLasso(found: Couplings, groups: readonly Group[], strength: number): Constraint {
  const places = placesOf(found, groups);
  let gone = 0;
  return {
    apply({ step, rate }, weights) {
      gone = 0;
      for (const [group, own] of places) {
        const learning = presentOf(own, weights);
        for (let unit = 0; unit < group.units; unit++) {
          if (step > 0) shrink(learning, unit, rate * strength);
          if (squares(learning, unit).sum === 0) gone++;
        }
      }
    },
    ready: () => false,
    summaries: () => ({ "units at zero": gone }),
  };
}

/**
 * Growing regularization (Wang et al. 2021): units that will be cut get an L2 penalty that grows linearly over the run, so
 * that the rest of the network takes over what they did while they shrink. As a proximal step after every update:
 *
 *     w_u -> w_u / (1 + rate strength step / steps)
 *
 * @param cuts the units that stay; the others shrink
 */
export function growingPenalty(found: Couplings, cuts: Cuts, strength: number): Constraint {
  const places = placesOf(found, [...cuts.keys()]);
  const going = new Map(
    [...cuts].map(([group, kept]) => {
      const stays = new Set(kept);
      return [group, Array.from({ length: group.units }, (_, i) => i).filter((unit) => !stays.has(unit))];
    }),
  );
  let norm = 0;
  return {
    apply(at, weights) {
      const factor = 1 / (1 + growth(at) * strength);
      let total = 0;
      for (const [group, own] of places) {
        const learning = presentOf(own, weights);
        for (const unit of going.get(group)!) {
          scale(learning, unit, factor);
          total += squares(learning, unit).sum;
        }
      }
      norm = Math.sqrt(total);
    },
    ready: () => false,
    summaries: () => ({ "norm of what goes": norm }),
  };
}

const growth = ({ step, steps, rate }: Moment): number => (rate * step) / steps;

type Learning = readonly { readonly slices: Slices; readonly value: Float32Array }[];

function placesOf(found: Couplings, groups: readonly Group[]): ReadonlyMap<Group, readonly Slices[]> {
  return new Map(
    groups.map((group) => [
      group,
      matrices(found, group).map((place) => slicesOf(place, found.structure.constantOf(place.name)!.shape)),
    ]),
  );
}

/** Those that learn. */
function presentOf(all: readonly Slices[], weights: ReadonlyMap<string, LearningWeight>): Learning {
  return all.flatMap((slices) => {
    const weight = weights.get(slices.place.name);
    return weight ? [{ slices, value: weight.value }] : [];
  });
}

function squares(learning: Learning, unit: number): { readonly sum: number; readonly count: number } {
  let [sum, count] = [0, 0];
  for (const { slices, value } of learning) {
    eachRun(slices, unit, (from, to) => {
      count += to - from;
      for (let i = from; i < to; i++) sum += value[i]! ** 2;
    });
  }
  return { sum, count };
}

function scale(learning: Learning, unit: number, factor: number): void {
  for (const { slices, value } of learning) {
    eachRun(slices, unit, (from, to) => {
      for (let i = from; i < to; i++) value[i]! *= factor;
    });
  }
}

function shrink(learning: Learning, unit: number, strength: number): void {
  const { sum, count } = squares(learning, unit);
  if (sum > 0) scale(learning, unit, Math.max(0, 1 - strength * Math.sqrt(count / sum)));
}
