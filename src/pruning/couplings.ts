import type { Graph } from "../graph/graph.ts";
import { type KnownTypes, lookup, scopeOf } from "../ops/lookup.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { groupsOf } from "./couplings-groups.ts";
import { type ContractionOf, relationsOf } from "./couplings-relate.ts";
import type { ComputedSizes } from "./couplings-shapes.ts";
import { type Factor, solve } from "./couplings-solve.ts";

/** Where the units of a group lie in a tensor. */
export interface Place {
  /** Name of the weight or value. */
  readonly name: string;
  readonly axis: number;
  /** For every unit its indices along the axis, ascending. */
  readonly indices: readonly (readonly number[])[];
}

/**
 * Units that lie in the same axes of the same tensors. Each can be cut without the others, from all these places at once;
 * where every group keeps a unit, every axis keeps an index.
 */
export interface Group {
  /** Its first weight and axis, made unique: "conv1.weight[0]". */
  readonly name: string;
  readonly units: number;
  /** The weights to cut, in the order in which nodes read them. */
  readonly members: readonly Place[];
  /** Labels of the nodes that read a member. */
  readonly nodes: readonly string[];
  /** Why it must stay whole; absent where it can be cut. */
  readonly frozen?: string;
}

/** What can be cut from a graph, and what that means for every axis of every value. */
export interface Couplings {
  readonly graph: Graph;
  readonly groups: readonly Group[];
  /** Where the units of a group lie in values that are not weights. */
  activations(group: Group): readonly Place[];
  /** What cutting needs to know of the graph. */
  readonly structure: Structure;
}

/** Axes of values as products of factors, whose indices are units. */
export interface Structure {
  readonly types: KnownTypes;
  readonly sizes: ComputedSizes;
  /** The sums that nodes take over axes of their inputs. */
  readonly contractions: readonly ContractionOf[];
  /** The data of a weight or Constant. */
  constantOf(name: string): Tensor | undefined;
  /** The factors of an axis, outermost first. */
  factors(name: string, axis: number): readonly Factor[];
  /** Names of the values that have axes, with their number. */
  readonly ranks: ReadonlyMap<string, number>;
  /** The unit an index of a factor belongs to. */
  unitOf(atom: number): number;
  /** The numbers of a group's units. */
  units(group: Group): readonly number[];
}

/**
 * Finds which indices of which weights have to be cut together, from what the operators mean: the channels that a
 * residual adds, the columns that a channel becomes when it is flattened, the rows and columns of a head, ... An axis is
 * taken apart into factors (groups, heads, width of a head), their indices are tied into units, and units that lie in
 * the same weights make a group (the dependency graph of Fang et al. 2023, on elements instead of layers).
 *
 * @param types shapes of all values of the main graph, as observed in a run; what has none stays as it is
 */
export function couplings(graph: Graph, types: KnownTypes): Couplings {
  const { constantOf } = lookup(scopeOf(graph, undefined), types);
  const { relations, axesOf, contractions, sizes } = relationsOf(graph, types, constantOf);
  const solution = solve(relations);
  const parts = groupsOf(graph, axesOf, solution, constantOf);
  const byGroup = new Map(parts.map((part) => [part.group, part]));
  return {
    graph,
    groups: parts.map(({ group }) => group),
    activations: (group) => byGroup.get(group)!.activations(),
    structure: {
      types,
      sizes,
      contractions,
      constantOf,
      factors: (name, axis) => solution.factors[axesOf.get(name)![axis]!]!,
      ranks: new Map([...axesOf].map(([name, axes]) => [name, axes.length])),
      unitOf: solution.unitOf,
      units: (group) => byGroup.get(group)!.units,
    },
  };
}
