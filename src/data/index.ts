import { fail } from "../errors.ts";
import { toFloat32 } from "../tensor/tensor.ts";
import { arrays } from "./arrays.ts";
import { openInBackground } from "./background.ts";
import { cifarBinary, cifarPython } from "./cifar.ts";
import type { Batch, Dataset } from "./dataset.ts";
import { type Files, fileOpener } from "./files.ts";
import { withValidation } from "./hold-out.ts";
import { idx } from "./idx.ts";
import { imageFolder } from "./image-folder.ts";
import { userModule } from "./module.ts";
import { onlySplits } from "./only-splits.ts";
import type { DataSource, DatasetKind, DatasetOptions } from "./source.ts";
import { tabular } from "./tabular.ts";
import { tokens } from "./tokens.ts";

/** Every kind of dataset; the first that detects itself opens the source. */
export const datasetKinds: readonly DatasetKind[] = [
  userModule,
  tokens,
  idx,
  cifarBinary,
  cifarPython,
  arrays,
  imageFolder,
  tabular,
];

/**
 * Opens a dataset by path, its kind detected from content. `path#test` keeps the split "test" only.
 *
 * @throws PareError where there is nothing, no kind fits, the data is damaged or empty, or does not fit the model
 */
export async function openDataset(path: string, files: Files, options: DatasetOptions): Promise<Dataset> {
  const elsewhere = options.background ? await openInBackground(path, files, options) : undefined;
  if (elsewhere) return elsewhere;
  const hash = (await files.stat(path)) ? -1 : path.lastIndexOf("#");
  const [place, split] = hash < 0 ? [path, undefined] : [path.slice(0, hash), path.slice(hash + 1)];
  const found = await lookAt(place.replace(/(?<=.)\/+$/, ""), files, options);
  const source: DataSource = { ...found, ...(split !== undefined && { split }) };
  for (const kind of datasetKinds) {
    if (await kind.detect(source)) {
      const dataset = await kind.open(source);
      const chosen = split === undefined ? dataset : onlySplits(dataset, [split]);
      const { holdOut } = options;
      return watched(holdOut ? withValidation(chosen, chosen.splits[0]!, holdOut) : chosen, kind, options);
    }
  }
  const known = datasetKinds.map(({ summary }) => summary).join("; ");
  return fail(path, "holds no data of a known kind", `Known are: ${known}`);
}

async function lookAt(path: string, files: Files, options: DatasetOptions): Promise<DataSource> {
  const stat = await files.stat(path);
  if (!stat) return fail(path, "there is no such file or folder", "Check the path of --data");
  const name = path.slice(path.lastIndexOf("/") + 1);
  const entries = stat.kind === "folder" ? await files.list(path) : [{ name, ...stat }];
  return { path, kind: stat.kind, entries, files, open: fileOpener(files), options };
}

/** Refuses values that are not finite, and says once when the values look as if normalization was forgotten. */
function watched(dataset: Dataset, kind: DatasetKind, options: DatasetOptions): Dataset {
  let first = true;
  const { holdOut } = dataset;
  return {
    ...dataset,
    ...(holdOut && { holdOut: (split, share, seed) => watched(holdOut(split, share, seed), kind, options) }),
    async *batches(wanted) {
      for await (const batch of dataset.batches(wanted)) {
        const largest = largestMagnitude(batch, dataset.name);
        if (first && largest > 30 && (kind.asStored || options.preprocess?.scale === undefined)) {
          const remedy = kind.asStored
            ? "normalize them in the data: scale, mean and std are not applied to it."
            : "give scale, mean and std in <model>.pare.yaml.";
          const reach = `${dataset.name}: values reach ${Number(largest.toPrecision(3))}`;
          options.log?.(`${reach}, most networks expect about -3..3. If the model does, ${remedy}`);
        }
        first = false;
        yield batch;
      }
    },
  };
}

function largestMagnitude(batch: Batch, who: string): number {
  let largest = 0;
  for (const [name, input] of Object.entries(batch.inputs)) {
    if (input.dtype !== "float32" && input.dtype !== "float16") continue;
    const values = toFloat32(input);
    for (let i = 0; i < values.length; i++) {
      const magnitude = Math.abs(values[i]!);
      if (magnitude > largest) largest = magnitude;
      else if (Number.isNaN(magnitude))
        fail(who, `a sample for input '${name}' holds NaN`, "Remove or mend that sample");
    }
  }
  if (largest === Number.POSITIVE_INFINITY) fail(who, "a sample holds infinity", "Remove or mend that sample");
  return largest;
}

export { type AugmentOptions, augment, augmentOptions } from "./augment.ts";
export * from "./dataset.ts";
export * from "./files.ts";
export { type BatchPlan, plannedBatches } from "./plan.ts";
export * from "./preprocess.ts";
export { datasetOf, evaluationSplit, type Samples } from "./samples.ts";
export * from "./sidecar.ts";
export type { DatasetKind, DatasetOptions } from "./source.ts";
