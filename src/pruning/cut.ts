import { fail } from "../errors.ts";
import { withoutDefaultInputs } from "../graph/defaults.ts";
import { type Draft, edit } from "../graph/edit.ts";
import { type Graph, isNode, type Node, nodeLabel, opKey, type Value } from "../graph/graph.ts";
import type { Couplings, Group } from "./couplings.ts";
import { nodeView } from "./couplings-relate.ts";
import { isShapeInput, type SizeElement } from "./couplings-shapes.ts";
import { gathered, type Kept } from "./cut-weights.ts";
import { couplingRule } from "./rules/index.ts";
import type { CutSize, Cutting } from "./rules/rule.ts";

/** The units that stay, ascending, of each group to cut; groups that are absent stay whole. */
export type Cuts = ReadonlyMap<Group, readonly number[]>;

/** Which indices of every value a cut leaves. */
export interface KeptIndices {
  /** The indices that stay of an axis; undefined where all do. */
  of(name: string, axis: number): readonly number[] | undefined;
  /** The same of all axes; undefined where nothing is cut. */
  all(name: string): Kept | undefined;
}

/**
 * What cutting units leaves of every value.
 *
 * @throws PareError for a group that is frozen or unknown, units that do not exist, or an axis of which nothing would stay
 */
export function keptIndices({ groups, structure }: Couplings, cuts: Cuts): KeptIndices {
  const gone = new Set<number>();
  const known = new Set(groups);
  for (const [group, kept] of cuts) {
    if (!known.has(group)) fail("cut", `'${group.name}' is not a group of this graph`);
    if (group.frozen !== undefined) fail("cut", `'${group.name}' must stay: ${group.frozen}`);
    const odd = kept.find((unit, i) => !(unit >= 0 && unit < group.units) || (i > 0 && unit <= kept[i - 1]!));
    if (odd !== undefined) {
      fail("cut", `'${group.name}' can't keep unit ${odd}`, `Name units from 0 to ${group.units - 1}, ascending`);
    }
    const stays = new Set(kept);
    for (const [i, unit] of structure.units(group).entries()) if (!stays.has(i)) gone.add(unit);
  }
  const cache = new Map<string, Kept | undefined>();
  const axis = (name: string, at: number): readonly number[] | undefined => {
    const factors = structure.factors(name, at);
    const stays = factors.map(({ atom, size }) =>
      Array.from({ length: size }, (_, i) => !gone.has(structure.unitOf(atom + i))),
    );
    if (stays.every((some) => some.every(Boolean))) return undefined;
    const left: number[] = [];
    for (let i = 0; i < factors[0]!.total; i++) {
      if (factors.every(({ stride, size }, k) => stays[k]![Math.floor(i / stride) % size])) left.push(i);
    }
    if (left.length === 0) fail("cut", `nothing would stay of axis ${at} of '${name}'`, "Keep a unit of every group");
    return left;
  };
  const all = (name: string): Kept | undefined => {
    if (gone.size === 0) return undefined;
    if (cache.has(name)) return cache.get(name);
    const kept = Array.from({ length: structure.ranks.get(name) ?? 0 }, (_, at) => axis(name, at));
    const found = kept.some((some) => some !== undefined) ? kept : undefined;
    cache.set(name, found);
    return found;
  };
  return { all, of: (name, at) => all(name)?.[at] };
}

/**
 * The graph without the units that are cut: weights are sliced (lazily), attributes and constants that spell out sizes
 * adapted. It computes what {@link maskUnits} computes, with smaller tensors.
 *
 * @param cuts units that stay of each group of `couplings(graph, ...)`
 * @throws PareError as {@link keptIndices} does
 */
export function cutUnits(found: Couplings, cuts: Cuts): Graph {
  const { graph, structure } = found;
  const kept = keptIndices(found, cuts);
  const values = [...structure.ranks.keys()].filter((name) => kept.all(name));
  if (values.length === 0) return graph;
  const sliced = new Set(values);
  const isCut = (name: string): boolean => sliced.has(name);
  const isShapeCut = (name: string): boolean =>
    structure.sizes.elements.get(name)?.some((element) => cutSize(element, found, kept).depends) ?? false;
  const isTouched = (node: Node): boolean =>
    node.outputs.some(isCut) ||
    node.inputs.some((name, i) => isCut(name) || (isShapeInput(node, i) && isShapeCut(name)));
  const smaller = edit(withoutDefaultInputs(graph), (draft) => {
    for (const node of graph.nodes) {
      if (isTouched(node)) cutNode(node, found, kept, draft);
    }
    cutConstants(found, kept, draft);
  });
  return { ...smaller, declared: cutDeclared(smaller.declared, kept) };
}

/** What a cut makes of an element of a vector of sizes. */
function cutSize({ constant, sizes, factor }: SizeElement, { structure }: Couplings, kept: KeptIndices): CutSize {
  const left = sizes.map(({ value, axis }) => kept.of(value, axis)?.length);
  const sizeOf = ({ value, axis }: (typeof sizes)[number]): number => structure.types.get(value)!.shape[axis]!;
  return {
    ...(constant !== undefined && { constant }),
    depends: left.some((size) => size !== undefined),
    varies: left.includes(undefined),
    ...(factor !== undefined && { product: sizes.reduce((all, size, i) => all * (left[i] ?? sizeOf(size)), factor) }),
  };
}

function cutNode(node: Node, found: Couplings, kept: KeptIndices, draft: Draft): void {
  const { structure, graph } = found;
  const { elements } = structure.sizes;
  let changed = node;
  const cutting: Cutting = {
    ...nodeView(graph, node, structure.types, structure.sizes.constantOf),
    draft,
    keptIn: (i, axis) => (node.inputs[i] ? kept.of(node.inputs[i], axis) : undefined),
    keptOut: (i, axis) => (node.outputs[i] ? kept.of(node.outputs[i], axis) : undefined),
    sizeElement: (i, at) => cutSize(elements.get(node.inputs[i]!)?.[at] ?? { sizes: [] }, found, kept),
    become(change) {
      changed = { ...changed, ...change };
    },
  };
  couplingRule(opKey(node)).cut?.(cutting);
  if (changed !== node) draft.replace(node, changed);
}

/** Slices weights, and Constant nodes, which become weights. */
function cutConstants({ graph, structure }: Couplings, kept: KeptIndices, draft: Draft): void {
  for (const [name, weight] of graph.weights) {
    const some = kept.all(name);
    if (some) draft.weights.set(name, gathered(weight, some));
  }
  for (const node of graph.nodes) {
    const name = node.outputs[0]!;
    const some = isNode(node, "Constant") ? kept.all(name) : undefined;
    const value = structure.constantOf(name);
    if (!some) continue;
    if (!value) fail("cut", `the constant '${nodeLabel(node)}' has no tensor`);
    draft.replace(node);
    draft.weights.set(name, gathered(value, some));
  }
}

function cutDeclared(declared: ReadonlyMap<string, Value>, kept: KeptIndices): ReadonlyMap<string, Value> {
  return new Map(
    [...declared].map(([name, value]): [string, Value] => {
      const { type } = value;
      const some = kept.all(name);
      if (!some || type?.kind !== "tensor" || !type.shape) return [name, value];
      const shape = type.shape.map((dim, axis) => some[axis]?.length ?? dim);
      // what the file said beyond this may hold the old type in its own form
      return [name, { name, type: { ...type, shape } }];
    }),
  );
}
