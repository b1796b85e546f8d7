import { factorize, isAligned } from "./couplings-factors.ts";
import type { AxisId, Freeze, PartRelation, Relations } from "./couplings-relations.ts";

/** One factor of an axis: index i of the axis is index floor(i / stride) mod size of the factor. */
export interface Factor {
  readonly stride: number;
  readonly size: number;
  /** Size of the whole axis. */
  readonly total: number;
  /** Number of its first index among the indices of all factors of all axes: its atoms are `atom` to `atom + size - 1`. */
  readonly atom: number;
}

/** Which indices of which factors must be cut together. */
export interface Solution {
  /** Factors of every axis, outermost first; none for axes of size 1. */
  readonly factors: readonly (readonly Factor[])[];
  /** The unit an atom belongs to: one of its atoms stands for all. */
  unitOf(atom: number): number;
  /** Why a unit must stay; of several reasons one that is not about positions. */
  readonly frozen: ReadonlyMap<number, Freeze>;
}

/** Finds the units: the smallest sets of factor indices that no relation ties to an index outside. */
export function solve({ sizes, products, parts, freezes }: Relations): Solution {
  const { strides, conflicts } = factorize(sizes, products, parts);
  let atoms = 0;
  const factors = strides.map((chain) =>
    chain
      .slice(1)
      .map((next, i): Factor => {
        const factor = { stride: chain[i]!, size: next / chain[i]!, total: chain.at(-1)!, atom: atoms };
        atoms += factor.size;
        return factor;
      })
      .toReversed(),
  );
  const { find, union } = disjointSets(atoms);
  const frozenAtoms: [atom: number, freeze: Freeze][] = [];
  const freezeFactors: Joins["freezeFactors"] = (axis, some, reason, position = false) => {
    for (const { atom, size } of some) {
      for (let i = 0; i < size; i++) frozenAtoms.push([atom + i, { axis, reason, position }]);
    }
  };
  const join = (a: Factor, b: Factor): void => {
    for (let i = 0; i < a.size; i++) union(a.atom + i, b.atom + i);
  };
  for (const relation of products) {
    const [left, right] = [relation.left, relation.right].map((axes) => axes.flatMap((axis) => factors[axis]!));
    if (conflicts.has(relation)) {
      const reason = `'${relation.by}' splits it in a way that does not fit the others`;
      for (const axis of [...relation.left, ...relation.right]) freezeFactors(axis, factors[axis]!, reason);
    } else for (const [i, factor] of left!.entries()) join(factor, right![i]!);
  }
  for (const relation of parts) joinPart(relation, factors, { join, union, freezeFactors });
  for (const freeze of freezes) {
    for (const { stride, size, atom } of factors[freeze.axis]!) {
      const at = freeze.index === undefined ? undefined : Math.floor(freeze.index / stride) % size;
      for (let i = 0; i < size; i++) if (at === undefined || i === at) frozenAtoms.push([atom + i, freeze]);
    }
  }
  const frozen = new Map<number, Freeze>();
  for (const [atom, freeze] of frozenAtoms) {
    const known = frozen.get(find(atom));
    if (!known || (known.position && !freeze.position)) frozen.set(find(atom), freeze);
  }
  return { factors, unitOf: find, frozen };
}

interface Joins {
  join(a: Factor, b: Factor): void;
  union(a: number, b: number): void;
  freezeFactors(axis: AxisId, factors: readonly Factor[], reason: string, position?: boolean): void;
}

/**
 * Below the largest stride that part and whole share and the indices respect, factors are the same. Above it blocks are
 * matched by their outermost factor; what lies between can't be cut on its own.
 */
function joinPart(
  { part, whole, index, by }: PartRelation,
  factors: readonly (readonly Factor[])[],
  joins: Joins,
): void {
  const ends = (axis: AxisId): number[] => factors[axis]!.map(({ stride, size }) => stride * size);
  const shared = ends(part).filter((stride) => ends(whole).includes(stride) && isAligned(index, stride));
  const block = Math.max(1, ...shared);
  const inner = (axis: AxisId): readonly Factor[] => factors[axis]!.filter(({ stride }) => stride < block);
  const outer = (axis: AxisId): readonly Factor[] => factors[axis]!.filter(({ stride }) => stride >= block);
  const [mine, its] = [inner(part), inner(whole)];
  if (mine.length !== its.length || mine.some(({ stride }, i) => stride !== its[i]!.stride)) {
    const reason = `'${by}' takes a part of it that splits in another way`;
    joins.freezeFactors(part, mine, reason);
    joins.freezeFactors(whole, its, reason);
  } else for (const [i, factor] of mine.entries()) joins.join(factor, its[i]!);
  const [[mineOutside, ...mineBetween], [itsOutside, ...itsBetween]] = [outer(part), outer(whole)];
  const reason = `'${by}' joins or splits it in blocks that stay whole`;
  joins.freezeFactors(part, mineBetween, reason);
  joins.freezeFactors(whole, itsBetween, reason);
  if (!itsOutside) return;
  for (let i = 0; i < index.length; i += block) {
    const atom = itsOutside.atom + Math.floor(index[i]! / itsOutside.stride);
    if (mineOutside) joins.union(mineOutside.atom + Math.floor(i / mineOutside.stride), atom);
    else joins.freezeFactors(whole, [{ ...itsOutside, atom, size: 1 }], `'${by}' takes a whole block of it`, true);
  }
}

function disjointSets(count: number): { find(atom: number): number; union(a: number, b: number): void } {
  const parent = Int32Array.from({ length: count }, (_, i) => i);
  const find = (atom: number): number => {
    let at = atom;
    while (parent[at] !== at) {
      parent[at] = parent[parent[at]!]!;
      at = parent[at]!;
    }
    return at;
  };
  return {
    find,
    union(a, b) {
      const [x, y] = [find(a), find(b)];
      // the smaller number stands for both, so that units do not depend on the order of relations
      parent[Math.max(x, y)] = Math.min(x, y);
    },
  };
}
