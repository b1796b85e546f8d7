import type { Batch } from "../data/dataset.ts";
import { feedsOf } from "../data/feeds.ts";
import { fail } from "../errors.ts";
import { consumersOf } from "../graph/walk.ts";
import type { Runtime } from "../platform/runtime.ts";
import type { Random } from "../random.ts";
import type { Couplings, Group } from "./couplings.ts";
import { fromMedian } from "./median.ts";
import { axisMoments } from "./moments.ts";
import { consumedPlaces, producers, productsOf } from "./products.ts";
import { reconstructionScores } from "./reconstruction.ts";
import { slopeScores } from "./slopes.ts";
import { finite, matrices, unitSums } from "./unit-weights.ts";

/** How units are ranked. */
export const importances = [
  "l1",
  "l2",
  "bn-scale",
  "fpgm",
  "activation",
  "variance",
  "taylor",
  "hessian",
  "reconstruction",
  "random",
] as const;

/** One of {@link importances}. */
export type Importance = (typeof importances)[number];

/** How the scores of a group are scaled, so that groups compare; auto: not where they are of what the network does. */
export const normalizations = ["auto", "mean", "max", "none"] as const;

/** A score for each unit of each group; the smallest goes first. */
export type UnitScores = ReadonlyMap<Group, Float64Array>;

/** What scores are computed with. */
export interface ScoringWorld {
  readonly runtime: Runtime;
  readonly random: Random;
  /** Calibration data for importances that {@link needsData}. */
  readonly batches?: AsyncIterable<Batch>;
  readonly signal: AbortSignal;
  log(line: string): void;
}

const slopes: readonly Importance[] = ["taylor", "hessian"];
const measured: readonly Importance[] = [...slopes, "activation", "variance", "reconstruction"];

/** Whether an importance is computed from data. */
export function needsData(importance: Importance): boolean {
  return measured.includes(importance);
}

/** Whether an importance is computed from gradients: every batch is one draw, so many small ones are better. */
export function needsGradients(importance: Importance): boolean {
  return slopes.includes(importance);
}

/**
 * Scores the units of groups by
 * - l1, l2: norm of all their weights but vectors, in layers that make them and in layers that read them (Li et al. 2017;
 *   over coupled layers Fang et al. 2023);
 * - bn-scale: magnitudes of the scales of batch normalizations (Liu et al. 2017); l2 where there are none;
 * - fpgm: distance of their filters to the geometric median of the layer's filters (He et al. 2019);
 * - activation, variance: mean magnitude, or variance, of what the layers behind them read;
 * - taylor, hessian: what their going does to the outputs, by first and second derivatives: see slopes.ts;
 * - reconstruction: what the layers behind them lose, though the others make up for them: see reconstruction.ts;
 * - random: nothing, for comparison.
 *
 * @throws PareError naming a weight that is not finite, or where data is needed and absent
 */
export async function unitScores(
  found: Couplings,
  groups: readonly Group[],
  importance: Importance,
  normalization: (typeof normalizations)[number],
  world: ScoringWorld,
): Promise<UnitScores> {
  const raw = await rawScores(found, groups, importance, world);
  const alike = needsGradients(importance) || importance === "reconstruction";
  const by = normalization === "auto" ? (alike ? "none" : "mean") : normalization;
  return new Map(groups.map((group) => [group, normalized(raw.get(group)!, by)]));
}

function normalized(scores: Float64Array, by: "mean" | "max" | "none"): Float64Array {
  if (by === "none") return scores;
  const scale =
    by === "max" ? scores.reduce((a, b) => Math.max(a, b), 0) : scores.reduce((a, b) => a + b, 0) / scores.length;
  return scale > 0 ? scores.map((v) => v / scale) : scores;
}

async function rawScores(
  found: Couplings,
  groups: readonly Group[],
  importance: Importance,
  world: ScoringWorld,
): Promise<UnitScores> {
  const each = (score: (group: Group) => Float64Array): UnitScores => new Map(groups.map((g) => [g, score(g)]));
  const norms = (power: number): UnitScores => each((group) => groupNorms(found, group, power));
  switch (importance) {
    case "l1":
      return norms(1);
    case "l2":
      return norms(2);
    case "random":
      return each((group) => {
        const chance = world.random.fork(group.name);
        return Float64Array.from({ length: group.units }, () => chance.next());
      });
    case "bn-scale": {
      const scales = new Map(groups.map((group) => [group, scaleMagnitudes(found, group)]));
      const without = groups.filter((group) => !scales.get(group));
      if (without.length > 0) {
        world.log(`no batch normalization scales ${without.length} of ${groups.length} groups: their l2 norms count`);
      }
      return each((group) => scales.get(group) ?? groupNorms(found, group, 2));
    }
    case "fpgm": {
      const products = productsOf(found);
      return each((group) => {
        const making = producers(group, products);
        return summed(
          group,
          (making.length > 0 ? making : matrices(found, group)).map((p) => fromMedian(found, p)),
        );
      });
    }
    case "taylor":
    case "hessian":
      return slopeScores(found, groups, importance, { ...world, batches: batchesOf(world, importance) }, (group) =>
        groupNorms(found, group, 2),
      );
    case "reconstruction":
      return reconstructionScores(found, groups, { ...world, feeds: feedsOf(batchesOf(world, importance)) }, (group) =>
        groupNorms(found, group, 2),
      );
    case "activation":
    case "variance":
      return activationScores(found, groups, importance, world);
  }
}

function batchesOf({ batches }: ScoringWorld, importance: Importance): AsyncIterable<Batch> {
  return batches ?? fail("prune-channels", `importance ${importance} needs data`, "Give data, or choose l2");
}

async function activationScores(
  found: Couplings,
  groups: readonly Group[],
  kind: "activation" | "variance",
  world: ScoringWorld,
): Promise<UnitScores> {
  const products = productsOf(found);
  const places = new Map(
    groups.map((group) => {
      const read = consumedPlaces(found, group, products);
      return [group, read.length > 0 ? read : found.activations(group)];
    }),
  );
  const feeds = feedsOf(batchesOf(world, kind));
  const momentsOf = await axisMoments(found.graph, world.runtime, [...places.values()].flat(), feeds, world.signal);
  return new Map(
    groups.map((group) => {
      const scores = places.get(group)!.flatMap((place) => {
        const moments = momentsOf(place);
        if (!moments) return [];
        const { count, sum, absolute, squares } = moments;
        const of = (i: number): number =>
          kind === "activation" ? absolute[i]! / count : Math.max(0, squares[i]! / count - (sum[i]! / count) ** 2);
        return [
          normalized(
            Float64Array.from(place.indices, (some) => some.reduce((all, i) => all + of(i), 0)),
            "mean",
          ),
        ];
      });
      return [group, scores.length > 0 ? summed(group, scores) : groupNorms(found, group, 2)];
    }),
  );
}

function summed(group: Group, scores: readonly Float64Array[]): Float64Array {
  const sums = new Float64Array(group.units);
  for (const some of scores) for (let i = 0; i < sums.length; i++) sums[i]! += some[i]!;
  return sums;
}

function groupNorms(found: Couplings, group: Group, power: number): Float64Array {
  const sums = summed(
    group,
    matrices(found, group).map((place) => {
      const weight = found.structure.constantOf(place.name)!;
      return unitSums(place, weight, finite(place.name, weight), power === 1 ? Math.abs : (w) => w * w);
    }),
  );
  return power === 1 ? sums : sums.map(Math.sqrt);
}

/** Magnitudes of the scales of batch normalizations; undefined where the group holds none. */
function scaleMagnitudes({ graph, structure }: Couplings, group: Group): Float64Array | undefined {
  const scales = group.members.filter(({ name }) =>
    consumersOf(graph, name).some(({ op, inputs }) => op === "BatchNormalization" && inputs[1] === name),
  );
  if (scales.length === 0) return undefined;
  return summed(
    group,
    scales.map((place) => {
      const weight = structure.constantOf(place.name)!;
      return unitSums(place, weight, finite(place.name, weight), Math.abs);
    }),
  );
}
