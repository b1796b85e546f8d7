import type { KnownTypes } from "../ops/lookup.ts";
import type { Couplings, Group } from "./couplings.ts";
import { type Cuts, type KeptIndices, keptIndices } from "./cut.ts";
import type { Product } from "./products.ts";

/** How many units of each group stay; all of those that are absent. */
export type Widths = ReadonlyMap<Group, number>;

/** The units of the highest scores, ascending; of equal ones the first. */
export function highest(scores: Float64Array, count: number): readonly number[] {
  return Array.from(scores, (_, i) => i)
    .sort((a, b) => scores[b]! - scores[a]! || a - b)
    .slice(0, count)
    .sort((a, b) => a - b);
}

/** The types of all values after a cut: names stay, and sizes follow from what is kept. */
export function cutTypes(found: Couplings, cuts: Cuts): KnownTypes {
  const kept: KeptIndices = keptIndices(found, cuts);
  return new Map(
    [...found.structure.types].map(([name, type]) => {
      const some = kept.all(name);
      return [name, some ? { ...type, shape: type.shape.map((size, axis) => some[axis]?.length ?? size) } : type];
    }),
  );
}

/** How the sizes of one layer follow from widths. */
export interface LayerSizes {
  readonly product: Product;
  /** Groups whose width the layer's sizes follow. */
  readonly groups: readonly Group[];
  /** Shapes of its input and its weight at some widths. */
  shapes(widths: Widths): { readonly x: readonly number[]; readonly weight: readonly number[] };
}

/** Indices of an axis that belong to units, of one group or, where heads and their width are groups, of several. */
interface Part {
  readonly axis: number;
  readonly covered: number;
  readonly groups: Group[];
}

/** What the sizes of layers are at other widths, without cutting the graph. */
export function layerSizes(found: Couplings, groups: readonly Group[], products: readonly Product[]): LayerSizes[] {
  const { structure } = found;
  const places = partsOf(found, groups);
  return products.map((product) => {
    const { x, weight } = product;
    const sizes = (name: string, shape: readonly number[], widths: Widths): number[] => {
      const left = [...shape];
      for (const { axis, covered, groups } of places.get(name) ?? []) {
        const share = groups.reduce((all, group) => (all * (widths.get(group) ?? group.units)) / group.units, 1);
        left[axis]! -= covered - Math.round(covered * share);
      }
      return left;
    };
    return {
      product,
      groups: [...new Set((places.get(weight) ?? []).flatMap((part) => part.groups))],
      shapes: (widths) => ({
        x: sizes(x, structure.types.get(x)!.shape, widths),
        weight: sizes(weight, structure.constantOf(weight)!.shape, widths),
      }),
    };
  });
}

function partsOf(found: Couplings, groups: readonly Group[]): ReadonlyMap<string, readonly Part[]> {
  const parts = new Map<string, Map<string, Part>>();
  for (const group of groups) {
    for (const { name, axis, indices } of [...group.members, ...found.activations(group)]) {
      const all = indices.flat();
      const key = `${axis} ${all.reduce((a, b) => Math.min(a, b), Number.POSITIVE_INFINITY)} ${all.length}`;
      const own = parts.get(name) ?? new Map<string, Part>();
      parts.set(name, own);
      const part = own.get(key) ?? { axis, covered: all.length, groups: [] };
      part.groups.push(group);
      own.set(key, part);
    }
  }
  return new Map([...parts].map(([name, own]) => [name, [...own.values()]]));
}
