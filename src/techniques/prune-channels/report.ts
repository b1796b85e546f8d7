import type { Allocation } from "../../pruning/allocation.ts";
import type { Couplings } from "../../pruning/index.ts";
import type { Context } from "../technique.ts";
import { isNews } from "./groups.ts";
import type { PruneChannelsOptions } from "./options.ts";

const targetNames = { macs: "MACs", parameters: "parameters", latency: "milliseconds", units: "units" };

/** Says what is cut, group by group and in all. */
export function report(
  found: Couplings,
  { cuts, before, after, times, reached }: Allocation,
  { of, ratio }: PruneChannelsOptions,
  context: Context,
): void {
  for (const [group, kept] of cuts) context.log(`${group.name}: ${group.units} -> ${kept.length}`);
  context.show({
    kind: "groups",
    groups: found.groups
      .filter((group) => isNews(group, found.groups))
      .map((group) => ({
        name: group.name,
        members: group.nodes,
        before: group.units,
        after: cuts.get(group)?.length ?? group.units,
        ...(group.frozen !== undefined && { frozen: group.frozen }),
      })),
  });
  const change = (name: string, from: number, to: number): string =>
    `${name} ${shown(from)} -> ${shown(to)} (-${percent(from - to, from)})`;
  const changes = [
    change("MACs", before.macs, after.macs),
    change("parameters", before.parameters, after.parameters),
    ...(times ? [change("measured ms of layers", times.before, times.after)] : []),
  ];
  context.log(changes.join(", "));
  if (reached) return;
  context.log(
    `fewer ${targetNames[of]} go than the ${percent(ratio, 1)} asked for: every group keeps its share (--keep), and some must stay`,
  );
}

function shown(value: number): string {
  return Number.isInteger(value) ? value.toLocaleString("en-US") : value.toPrecision(3);
}

function percent(part: number, whole: number): string {
  return `${((100 * part) / (whole || 1)).toFixed(1)} %`;
}
