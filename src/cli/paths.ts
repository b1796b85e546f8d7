import { accessSync, constants, realpathSync, type Stats, statSync } from "node:fs";
import { dirname, extname, resolve } from "node:path";
import { fail, messageOf } from "../errors.ts";
import { reportEndings } from "./report-file.ts";

/** The files that a command line names; what is absent is not asked for. */
export interface Paths {
  /** What is read: models, recipes, data. */
  readonly inputs: readonly (string | undefined)[];
  /** The model to write. */
  readonly output?: string | undefined;
  readonly report?: string | undefined;
  /** The plan to write, in YAML. */
  readonly plan?: string | undefined;
  /** The log to append to. */
  readonly log?: string | undefined;
  /** The folder for what is finished; it need not be there yet. */
  readonly work?: string | undefined;
}

/** Endings of other formats: a file so named that holds ONNX would mislead whoever opens it. */
const foreign = new Set(
  ".safetensors .tflite .h5 .hdf5 .keras .pb .pt .pth .npz .npy .ort .mlmodel .gguf .json .jsonl .yaml .yml .html .htm .md .csv .txt .log".split(
    " ",
  ),
);

/**
 * Refuses paths before any work is done that could not be written at its end, or that would replace what is read.
 *
 * @throws PareError where one is an input, a folder or write-protected, where its folder is not there or can't be written
 *   to, or where its name says another format
 */
export function checkPaths({ inputs, output, report, plan, log, work }: Paths): void {
  // of data the path, without its split
  const read = inputs.flatMap((path) => (path === undefined ? [] : [path, path.replace(/#[^#/]*$/, "")]));
  if (output !== undefined) {
    checkPlace(output, read, "-o");
    const extension = extname(output);
    if (foreign.has(extension.toLowerCase())) {
      fail(output, `is named ${extension}, but what is written is ONNX`, "End it in .onnx");
    }
  }
  if (report !== undefined) checkText(report, read, "report", reportEndings);
  if (plan !== undefined) checkText(plan, read, "plan", [".yaml", ".yml"]);
  if (log !== undefined) checkPlace(log, [...read, ...(output === undefined ? [] : [output])], "--log");
  if (work !== undefined) checkFolder(work);
}

function checkText(path: string, inputs: readonly string[], what: string, endings: readonly string[]): void {
  if (!endings.includes(extname(path).toLowerCase())) {
    fail(path, `can't tell the ${what}'s format from this name`, `End it in ${endings.join(", ")}`);
  }
  checkPlace(path, inputs, what === "plan" ? "--save-plan" : "--report");
}

function checkPlace(path: string, inputs: readonly string[], flag: string): void {
  const there = statOf(path);
  if (there?.isDirectory()) fail(path, "is a folder", "Give the path of a file to write");
  // a rename would replace a write-protected file without asking
  if (there?.isFile() && !(there.mode & 0o222)) fail(path, "is write-protected", "Choose another name");
  for (const input of inputs) {
    if (isSame(path, there, input)) {
      fail(path, "is the input: an input file is never changed", `Give another path to ${flag}`);
    }
  }
  const folder = dirname(resolve(path));
  if (!statOf(folder)?.isDirectory()) {
    fail(path, `its folder ${folder} does not exist`, "Make it first");
  }
  checkAccess(folder, path);
}

/** A folder that is there, or can be made. */
function checkFolder(path: string): void {
  let folder = resolve(path);
  let there = statOf(folder);
  while (!there && dirname(folder) !== folder) {
    folder = dirname(folder);
    there = statOf(folder);
  }
  if (!there?.isDirectory()) fail(path, `${folder} is not a folder`, "Choose another folder for --work");
  checkAccess(folder, path);
}

function checkAccess(folder: string, path: string): void {
  try {
    accessSync(folder, constants.W_OK);
  } catch (error) {
    fail(path, `${folder} can't be written to (${messageOf(error)})`, "Choose a folder that you may write to", error);
  }
}

/** Whether two paths lead to one file, through links as well. */
function isSame(path: string, there: Stats | undefined, input: string): boolean {
  const other = statOf(input);
  if (!other) return false;
  const linked = there?.isFile() && other.ino === there.ino && other.dev === there.dev;
  return linked || realpathSync(input) === (there ? realpathSync(path) : resolve(path));
}

function statOf(path: string): Stats | undefined {
  try {
    return statSync(path);
  } catch {
    return undefined;
  }
}
