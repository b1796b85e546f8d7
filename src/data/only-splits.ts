import { fail } from "../errors.ts";
import type { Dataset } from "./dataset.ts";

/**
 * The dataset with some of its splits alone, the first of them being the default one.
 *
 * @throws PareError where it lacks one
 */
export function onlySplits(dataset: Dataset, splits: readonly string[]): Dataset {
  for (const split of splits) {
    if (dataset.splits.includes(split)) continue;
    const known = dataset.splits.map((name) => `'${name}'`).join(", ");
    fail(dataset.name, `it has no split '${split}'`, `It has ${known}`);
  }
  const check = (wanted = splits[0]!): string =>
    splits.includes(wanted)
      ? wanted
      : fail(dataset.name, `its split '${wanted}' was not chosen`, `Only '${splits.join("', '")}' was`);
  const { holdOut } = dataset;
  return {
    ...dataset,
    name: `${dataset.name}#${splits.join()}`,
    splits,
    size: (wanted) => dataset.size(check(wanted)),
    batches: (options) => dataset.batches({ ...options, split: check(options.split) }),
    ...(holdOut && {
      holdOut: (split, share, seed) => onlySplits(holdOut(check(split), share, seed), [...splits, "val"]),
    }),
  };
}
