import { fail } from "../errors.ts";
import type { Value } from "../graph/graph.ts";
import type { Dataset } from "./dataset.ts";
import type { DataFile, FileEntry, Files } from "./files.ts";
import type { HoldOut } from "./hold-out.ts";
import { type ImagePlan, type Preprocess, planImages } from "./preprocess.ts";

/** What opening a dataset needs to know of the model and of the user's wishes. */
export interface DatasetOptions {
  /** The model's inputs that must be fed. */
  readonly inputs: readonly Value[];
  /** The model's outputs: they tell classification from regression. */
  readonly outputs?: readonly Value[];
  readonly preprocess?: Preprocess;
  /** Name of the label column (tables) or array (archives); found by itself if absent. */
  readonly labels?: string;
  /** Whether numeric labels of a table are classes or quantities; judged from the model and the labels if absent. */
  readonly task?: "classification" | "regression";
  /** Tokens a sample, for token files; the model's fixed length, else 128, if absent. */
  readonly window?: number;
  /** Turns text into token ids, for text files. */
  readonly tokenize?: (text: string) => readonly number[];
  /** What to set apart of the first split as "val" where there is no such split. */
  readonly holdOut?: HoldOut;
  /**
   * Read, decode and change batches in another thread, ahead of need, where there are threads. The thread lasts until
   * {@link Dataset.close}, but does not keep the program from ending.
   */
  readonly background?: boolean;
  /** Takes each sentence on what was assumed or looks wrong. */
  readonly log?: (message: string) => void;
}

/** A dataset about to be opened: a folder or one file. */
export interface DataSource {
  readonly path: string;
  readonly kind: "file" | "folder";
  /** What the folder holds; the file itself for a file. */
  readonly entries: readonly FileEntry[];
  readonly files: Files;
  /** The only split that will be read; all of them if absent. */
  readonly split?: string;
  /** Opens a file by its path, through its compression. */
  open(path: string): DataFile;
  readonly options: DatasetOptions;
}

/** A kind of dataset: a row of the table in index.ts. */
export interface DatasetKind {
  readonly name: string;
  /** What it looks like on disk, for help texts. */
  readonly summary: string;
  /** Whether values go to the model as stored, without scale, mean and std. */
  readonly asStored?: boolean;
  /** Whether the source is of this kind; looks at names and first bytes only. */
  detect(source: DataSource): boolean | Promise<boolean>;
  /** @throws PareError where the data is damaged, empty, or does not fit the model */
  open(source: DataSource): Promise<Dataset>;
}

/** The path of an entry of the source. */
export function pathOf(source: DataSource, entry: FileEntry): string {
  return source.kind === "file" ? source.path : `${source.path}/${entry.name}`;
}

/** The files of the source whose names fit. */
export function filesNamed(source: DataSource, pattern: RegExp): DataFile[] {
  return source.entries
    .filter(({ kind, name }) => kind === "file" && pattern.test(name))
    .map((entry) => source.open(pathOf(source, entry)));
}

/**
 * The model input that samples go to: the one that the preprocessing names, else the first.
 *
 * @throws PareError where the model has none, or none of that name
 */
export function sampleInput(options: DatasetOptions): Value {
  const { inputs, preprocess } = options;
  const wanted = preprocess?.input;
  const found = wanted === undefined ? inputs[0] : inputs.find(({ name }) => name === wanted);
  const names = inputs.map(({ name }) => `'${name}'`).join(", ");
  return found ?? fail("preprocessing", `the model has no input '${wanted ?? ""}'`, `It has ${names || "none"}`);
}

/**
 * The completed preprocessing of a dataset of images; what had to be assumed is logged.
 *
 * @throws PareError where the model takes more inputs than the image, or can't take images
 */
export function imagePlan(source: DataSource): ImagePlan {
  const { options } = source;
  const input = sampleInput(options);
  const others = options.inputs.filter((other) => other !== input).map(({ name }) => `'${name}'`);
  if (others.length > 0) {
    fail(source.path, `images feed '${input.name}', but the model also needs ${others.join(", ")}`, "Use .npz files");
  }
  const plan = planImages(input, options.preprocess);
  if (plan.assumed.length > 0) {
    options.log?.(`${source.path}: assumed ${plan.assumed.join("; ")}. Say it in <model>.pare.yaml if that is wrong.`);
  }
  return plan;
}
