import { didYouMean, fail } from "../../errors.ts";
import type { Node } from "../../graph/graph.ts";
import { matcher } from "../../graph/select.ts";
import { consumersOf } from "../../graph/walk.ts";
import type { Couplings, Group, Place } from "../../pruning/index.ts";
import { producers, productsOf } from "../../pruning/products.ts";
import { finite } from "../../pruning/unit-weights.ts";
import { selector } from "../selection.ts";
import type { Context } from "../technique.ts";
import type { PruneChannelsOptions } from "./options.ts";

/** The groups to cut, and those that have shares of their own. */
export interface Chosen {
  readonly groups: readonly Group[];
  readonly own: ReadonlyMap<Group, number>;
}

/**
 * The groups that may be cut and whose making layers are chosen: at least one included, none excluded. What must stay is
 * reported, once for each reason.
 *
 * @throws PareError for a pattern that fits no group, and naming a weight that is not finite
 */
export function chosenGroups(found: Couplings, options: PruneChannelsOptions, context: Context): Chosen {
  const makers = makersOf(found);
  const included = selector({ include: options.include, exclude: [] });
  const excluded = selector({ include: [], exclude: options.exclude });
  const free = found.groups.filter(({ frozen }) => frozen === undefined);
  reportFrozen(found.groups, context);
  const groups = free.filter((group) => makers(group).some(included) && makers(group).every(excluded));
  for (const name of new Set(groups.flatMap(({ members }) => members.map((member) => member.name)))) {
    finite(name, found.structure.constantOf(name)!);
  }
  const own = new Map<Group, number>();
  for (const [pattern, ratio] of Object.entries(options.groupRatio)) {
    const fits = matcher(pattern);
    const fitting = groups.filter(
      (group) => fits({ name: group.name, op: "", domain: "" }) || makers(group).some((node) => fits(node)),
    );
    if (fitting.length === 0) {
      const known = groups.flatMap((group) => [group.name, ...makers(group).map(({ name }) => name)]);
      fail(
        "prune-channels",
        `no group that can be cut fits --group-ratio '${pattern}'`,
        didYouMean(pattern, known) || "See their names in the log of a run without it",
      );
    }
    for (const group of fitting) own.set(group, ratio);
  }
  return { groups, own };
}

/** The nodes whose weights make a group's units; all that hold any of it where there are none. */
function makersOf(found: Couplings): (group: Group) => readonly Node[] {
  const products = productsOf(found);
  return (group) => {
    const making = producers(group, products);
    const names = (making.length > 0 ? making : group.members).map(({ name }) => name);
    return [...new Set(names.flatMap((name) => consumersOf(found.graph, name)))];
  };
}

/** Groups named in a line about what stays. */
const named = 3;

/** Whether a group is worth a word: a factor of an axis whose other factors can be cut, and that must stay, is not. */
export function isNews({ frozen, members }: Group, groups: readonly Group[]): boolean {
  if (!frozen?.endsWith("blocks that stay whole")) return true;
  const cuttable = new Set(groups.flatMap((group) => (group.frozen === undefined ? group.members.map(placeOf) : [])));
  return !members.every((member) => cuttable.has(placeOf(member)));
}

const placeOf = ({ name, axis }: Place): string => `${name} ${axis}`;

/** One line for each reason. */
function reportFrozen(groups: readonly Group[], context: Context): void {
  const byReason = new Map<string, string[]>();
  for (const group of groups) {
    const { frozen, name } = group;
    if (frozen !== undefined && isNews(group, groups)) byReason.set(frozen, [...(byReason.get(frozen) ?? []), name]);
  }
  for (const [reason, names] of byReason) {
    const more = names.length > named ? ` and ${names.length - named} more` : "";
    context.skip(`${names.slice(0, named).join(", ")}${more}`, reason);
  }
  if ([...byReason.keys()].some((reason) => reason.includes("known only when it runs"))) {
    context.log(
      "some groups stay because of numbers that are computed: where `simplify` makes constants of them, more can go",
    );
  }
}
