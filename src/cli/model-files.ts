import { realpathSync, statSync } from "node:fs";
import { dirname, extname, resolve } from "node:path";
import { fail } from "../errors.ts";

/** Endings of other formats: a file so named that holds ONNX would mislead whoever opens it. */
const foreign = new Set(
  ".safetensors .tflite .h5 .hdf5 .keras .pb .pt .pth .npz .npy .ort .mlmodel .gguf .json .yaml .yml .html .md".split(
    " ",
  ),
);

/**
 * Refuses an output path before any work is done: one of the inputs, a folder, in a folder that does not exist, or named
 * like a file of another format.
 *
 * @throws PareError
 */
export function checkOutput(output: string, inputs: readonly string[]): void {
  const stat = statSync(output, { throwIfNoEntry: false });
  if (stat?.isDirectory()) fail(output, "is a folder", "Give the path of a file to write");
  const real = stat ? realpathSync(output) : resolve(output);
  for (const input of inputs) {
    const same = statSync(input, { throwIfNoEntry: false });
    if (!same) continue;
    const linked = stat?.isFile() && same.ino === stat.ino && same.dev === stat.dev;
    if (linked || realpathSync(input) === real) {
      fail(output, "is the input: an input file is never changed", "Give another path to -o");
    }
  }
  const extension = extname(output);
  if (foreign.has(extension.toLowerCase()))
    fail(output, `is named ${extension}, but what is written is ONNX`, "End it in .onnx");
  const folder = dirname(resolve(output));
  if (!statSync(folder, { throwIfNoEntry: false })?.isDirectory()) {
    fail(output, `its folder ${folder} does not exist`, "Make it first");
  }
}
