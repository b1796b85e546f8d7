import { type Graph, nodeLabel } from "../graph/graph.ts";
import { consumersOf } from "../graph/walk.ts";
import { dtypes } from "../tensor/dtype.ts";
import type { Tensor } from "../tensor/tensor.ts";
import type { Group, Place } from "./couplings.ts";
import type { AxisId } from "./couplings-relations.ts";
import type { Factor, Solution } from "./couplings-solve.ts";

/** One factor of one axis of a value. */
interface FactorPlace {
  readonly name: string;
  readonly axis: number;
  readonly factor: Factor;
}

/** A set of places, as the last of them and the set of those before. */
interface PlaceSet {
  readonly place: FactorPlace;
  readonly before: PlaceSet | undefined;
  readonly followers: Map<FactorPlace, PlaceSet>;
}

/** A group with what its numbers of units and places mean. */
export interface GroupParts {
  readonly group: Group;
  readonly units: readonly number[];
  /** Its units in values that are not weights. */
  activations(): readonly Place[];
}

/** Collects units that lie in the same places. Groups without weights, and those of positions, are left out. */
export function groupsOf(
  graph: Graph,
  axesOf: ReadonlyMap<string, readonly AxisId[]>,
  solution: Solution,
  constantOf: (name: string) => Tensor | undefined,
): readonly GroupParts[] {
  const sets = placeSets(axesOf, solution);
  const kinds = new Map<PlaceSet, Map<string, number[]>>();
  for (const [unit, set] of sets) {
    const freeze = solution.frozen.get(unit);
    if (freeze?.position) continue;
    const byReason = kinds.get(set) ?? new Map<string, number[]>();
    kinds.set(set, byReason);
    const reason = freeze?.reason ?? "";
    const units = byReason.get(reason) ?? [];
    byReason.set(reason, units);
    units.push(unit);
  }
  const names = new Map<string, number>();
  return [...kinds].flatMap(([set, byReason]) => {
    const places = listed(set);
    const weights = places.filter(({ name }) => constantOf(name));
    if (!weights.some(({ name }) => isWeight(constantOf(name)!))) return [];
    return [...byReason].map(([reason, units]): GroupParts => {
      const at = (place: FactorPlace): Place => ({
        name: place.name,
        axis: place.axis,
        indices: indicesOf(units, place, solution),
      });
      const stem = `${weights[0]!.name}[${weights[0]!.axis}]`;
      const count = (names.get(stem) ?? 0) + 1;
      names.set(stem, count);
      const readers = new Set(weights.flatMap(({ name }) => consumersOf(graph, name)));
      const group: Group = {
        name: count === 1 ? stem : `${stem} ${count}`,
        units: units.length,
        members: weights.map(at),
        nodes: [...readers].map(nodeLabel),
        ...(reason !== "" && { frozen: reason }),
      };
      return { group, units, activations: () => places.filter(({ name }) => !constantOf(name)).map(at) };
    });
  });
}

/** Sizes and numbers of elements are not weights: they only follow. */
function isWeight({ dtype, shape }: Tensor): boolean {
  const { kind, bits } = dtypes[dtype];
  return shape.length > 0 && (kind === "float" || ((kind === "int" || kind === "uint") && bits <= 8));
}

/** The places of every unit; equal sets are the same object. */
function placeSets(axesOf: ReadonlyMap<string, readonly AxisId[]>, solution: Solution): ReadonlyMap<number, PlaceSet> {
  const first = new Map<FactorPlace, PlaceSet>();
  const sets = new Map<number, PlaceSet>();
  for (const [name, axes] of axesOf) {
    for (const [axis, id] of axes.entries()) {
      for (const factor of solution.factors[id]!) {
        const place = { name, axis, factor };
        for (let i = 0; i < factor.size; i++) {
          const unit = solution.unitOf(factor.atom + i);
          const before = sets.get(unit);
          if (before?.place === place) continue;
          const followers = before?.followers ?? first;
          const set = followers.get(place) ?? { place, before, followers: new Map() };
          followers.set(place, set);
          sets.set(unit, set);
        }
      }
    }
  }
  return sets;
}

function listed(set: PlaceSet): readonly FactorPlace[] {
  const places: FactorPlace[] = [];
  for (let at: PlaceSet | undefined = set; at; at = at.before) places.push(at.place);
  return places.reverse();
}

function indicesOf(units: readonly number[], { factor }: FactorPlace, solution: Solution): number[][] {
  const { stride, size, atom, total } = factor;
  const order = new Map(units.map((unit, i) => [unit, i]));
  const indices = units.map((): number[] => []);
  for (let i = 0; i < total; i++) {
    const at = order.get(solution.unitOf(atom + (Math.floor(i / stride) % size)));
    if (at !== undefined) indices[at]!.push(i);
  }
  return indices;
}
