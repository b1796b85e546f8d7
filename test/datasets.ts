import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll, beforeAll } from "vitest";
import type { Batch, Dataset } from "../src/data/dataset.ts";
import { type DatasetOptions, openDataset } from "../src/data/index.ts";
import type { Dim, Value } from "../src/graph/graph.ts";
import { nodeFiles } from "../src/platform/node-data.ts";
import type { DType } from "../src/tensor/dtype.ts";
import { toFloat32, toNumbers } from "../src/tensor/tensor.ts";

export let root: string;
beforeAll(() => {
  root = mkdtempSync(join(tmpdir(), "pare-data-"));
});
afterAll(() => rmSync(root, { recursive: true }));

/** Writes files below a folder of its own and returns the folder. */
export function folder(name: string, files: Readonly<Record<string, Uint8Array | string>>): string {
  for (const [path, bytes] of Object.entries(files)) {
    mkdirSync(dirname(join(root, name, path)), { recursive: true });
    writeFileSync(join(root, name, path), bytes);
  }
  return join(root, name);
}

export const input = (name: string, shape: Dim[], dtype: DType = "float32"): Value => ({
  name,
  type: { kind: "tensor", dtype, shape },
});

export function open(path: string, inputs: Value[], options: Partial<DatasetOptions> = {}): Promise<Dataset> {
  return openDataset(path, nodeFiles, { inputs, ...options });
}

export async function all(dataset: Dataset, split?: string, batch = 2): Promise<Batch[]> {
  const found: Batch[] = [];
  for await (const one of dataset.batches({ batch, ...(split && { split }) })) found.push(one);
  return found;
}

export const values = (batches: readonly Batch[], name: string): number[] =>
  batches.flatMap(({ inputs }) => Array.from(toFloat32(inputs[name]!)));
export const labels = (batches: readonly Batch[]): number[] => batches.flatMap((batch) => toNumbers(batch.labels!));
