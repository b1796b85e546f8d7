import type { AxisId, PartRelation, ProductRelation } from "./couplings-relations.ts";

/**
 * How every axis is a product of smaller ones. An axis of 3 x 4 x 16 (packed projections of 4 heads of 16) has strides
 * 1, 16, 64, 192: each divides the next, 1 and the size are the ends.
 */
export interface Factors {
  readonly strides: readonly (readonly number[])[];
  /** Products whose sides split their axes in ways that do not nest: nothing is known of them. */
  readonly conflicts: ReadonlySet<ProductRelation>;
}

/** The coarsest factors of all axes that let every relation be stated factor by factor: relations are applied to a fixpoint. */
export function factorize(
  sizes: readonly number[],
  products: readonly ProductRelation[],
  parts: readonly PartRelation[],
): Factors {
  const strides = sizes.map((size) => (size === 1 ? [1] : [1, size]));
  const conflicts = new Set<ProductRelation>();
  const uses = sizes.map((): (() => readonly AxisId[])[] => []);
  const register = (axes: readonly AxisId[], apply: () => readonly AxisId[]): (() => readonly AxisId[]) => {
    for (const axis of new Set(axes)) uses[axis]!.push(apply);
    return apply;
  };
  const pending = new Set<() => readonly AxisId[]>();
  for (const relation of products) {
    pending.add(
      register([...relation.left, ...relation.right], () => applyProduct(relation, sizes, strides, conflicts)),
    );
  }
  const partsOf = new Map<AxisId, PartRelation[]>();
  for (const relation of parts) {
    const siblings = partsOf.get(relation.whole) ?? [];
    siblings.push(relation);
    partsOf.set(relation.whole, siblings);
    pending.add(register([relation.part, relation.whole], () => applyPart(relation, siblings, strides)));
  }
  for (const apply of pending) {
    pending.delete(apply);
    for (const axis of apply()) for (const next of uses[axis]!) if (next !== apply) pending.add(next);
  }
  return { strides, conflicts };
}

/** Both sides get the strides of both; returns the axes that changed. */
function applyProduct(
  relation: ProductRelation,
  sizes: readonly number[],
  strides: number[][],
  conflicts: Set<ProductRelation>,
): readonly AxisId[] {
  if (conflicts.has(relation)) return [];
  const sides = [relation.left, relation.right].map((axes) => {
    let stride = 1;
    return axes.toReversed().map((axis) => {
      const base = stride;
      stride *= sizes[axis]!;
      return { axis, base };
    });
  });
  const all = [...new Set(sides.flat().flatMap(({ axis, base }) => strides[axis]!.map((s) => s * base)))].sort(
    (a, b) => a - b,
  );
  if (!nests(all)) {
    conflicts.add(relation);
    return [];
  }
  return sides.flat().flatMap(({ axis, base }) => {
    const own = all.filter((s) => s >= base && s <= base * sizes[axis]!).map((s) => s / base);
    if (own.length === strides[axis]!.length) return [];
    strides[axis] = own;
    return [axis];
  });
}

/**
 * A part takes over the whole's strides that its indices respect; the whole those of its parts that all of them have:
 * otherwise parts without that structure would be bound to it.
 */
function applyPart(relation: PartRelation, siblings: readonly PartRelation[], strides: number[][]): readonly AxisId[] {
  const { part, whole, index } = relation;
  const changed = new Set<AxisId>();
  for (const s of strides[whole]!.slice(1, -1)) {
    if (s < index.length && isAligned(index, s) && insert(strides, part, s)) changed.add(part);
  }
  for (const s of strides[part]!.slice(1, -1)) {
    const common = siblings.every((r) => strides[r.part]!.slice(1, -1).includes(s) && isAligned(r.index, s));
    if (common && insert(strides, whole, s)) changed.add(whole);
  }
  return [...changed];
}

/** Whether runs of `stride` indices are runs in the whole, each starting at a multiple of `stride`. */
export function isAligned(index: ArrayLike<number>, stride: number): boolean {
  if (index.length % stride !== 0) return false;
  for (let i = 0; i < index.length; i++) {
    const expected = i % stride === 0 ? 0 : index[i - 1]! + 1;
    if (i % stride === 0 ? index[i]! % stride !== 0 : index[i] !== expected) return false;
  }
  return true;
}

function insert(strides: number[][], axis: AxisId, stride: number): boolean {
  const before = strides[axis]!;
  if (before.includes(stride)) return false;
  const after = [...before, stride].sort((a, b) => a - b);
  if (!nests(after)) return false;
  strides[axis] = after;
  return true;
}

function nests(ascending: readonly number[]): boolean {
  return ascending.every((s, i) => i === 0 || s % ascending[i - 1]! === 0);
}
