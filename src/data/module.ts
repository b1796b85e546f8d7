import { fail } from "../errors.ts";
import { float32, int64, type Tensor, tensor } from "../tensor/tensor.ts";
import type { Batch, Dataset } from "./dataset.ts";
import { part } from "./regroup.ts";
import { type DatasetKind, pathOf } from "./source.ts";

/**
 * A module of the user's. Its default export is a {@link Dataset}, or a function `(options: BatchOptions) =>` an
 * iterable, async or not, of batches `{ inputs: { name: Tensor }, labels?, truth?, size }`. In place of a Tensor a
 * batch may give `{ shape, data }` with a typed array or plain numbers; a list of numbers is a vector.
 */
export const userModule: DatasetKind = {
  name: "module",
  asStored: true,
  summary: "a JavaScript or TypeScript module whose default export yields batches",
  detect: ({ kind, path }) => kind === "file" && /\.([cm]?js|[cm]?ts)$/i.test(path),
  async open(source) {
    const path = pathOf(source, source.entries[0]!);
    const exported = await source.files.importModule(path);
    if (isDataset(exported)) return exported;
    if (typeof exported !== "function") {
      return fail(path, "has no default export that yields batches", "Export a function or a Dataset as default");
    }
    return {
      name: path,
      splits: ["all"],
      size: () => undefined,
      async *batches(options) {
        const { skip = 0, limit = Number.POSITIVE_INFINITY } = options;
        const end = skip + limit;
        const asked = { ...options, skip: 0, ...(Number.isFinite(end) && { limit: end }) };
        let seen = 0;
        for await (const batch of exported(asked) as AsyncIterable<unknown>) {
          const checked = checkBatch(batch, path);
          // it may yield batches of any size
          const [from, to] = [Math.max(0, skip - seen), Math.min(checked.size, end - seen)];
          seen += checked.size;
          if (from < to) yield from === 0 && to === checked.size ? checked : part(checked, from, to);
          if (seen >= end) return;
        }
        if (seen === 0) fail(path, "yielded no batches");
      },
    } satisfies Dataset;
  },
};

function isDataset(value: unknown): value is Dataset {
  return typeof value === "object" && value !== null && "batches" in value && "splits" in value && "size" in value;
}

function checkBatch(value: unknown, path: string): Batch {
  if (typeof value !== "object" || value === null || !("inputs" in value)) {
    return fail(
      path,
      "yielded something that is not a batch",
      "A batch is { inputs: { name: { shape, data } }, labels? }",
    );
  }
  const { inputs, labels, truth, size } = value as {
    inputs: object;
    labels?: unknown;
    truth?: unknown[];
    size?: number;
  };
  const tensors = Object.fromEntries(
    Object.entries(inputs).map(([name, input]) => [name, asTensor(input, `${path}: input '${name}'`)]),
  );
  const first = Object.values(tensors)[0] ?? fail(path, "yielded a batch without inputs");
  return {
    inputs: tensors,
    ...(labels !== undefined && { labels: asTensor(labels, `${path}: labels`) }),
    ...(truth && { truth }),
    size: size ?? first.shape[0] ?? 1,
  };
}

function asTensor(value: unknown, who: string): Tensor {
  if (typeof value !== "object" || value === null) return fail(who, "is not a tensor", "Give { shape, data }");
  if (Array.isArray(value)) return asTensor({ shape: [value.length], data: value }, who);
  if ("bytes" in value && "dtype" in value) return value as Tensor;
  if (!("data" in value)) return fail(who, "is not a tensor", "Give { shape, data }");
  const { data } = value as { data: unknown };
  const shape = "shape" in value ? (value.shape as number[]) : [(data as { length: number }).length];
  if (Array.isArray(data))
    return data.every(Number.isInteger) && who.endsWith("labels") ? int64(data, shape) : float32(shape, data);
  if (data instanceof Float32Array) return float32(shape, data);
  if (data instanceof BigInt64Array) return tensor("int64", shape, data);
  if (data instanceof Int32Array) return tensor("int32", shape, data);
  if (data instanceof Uint8Array) return tensor("uint8", shape, data);
  return fail(
    who,
    "has data of a kind that is not known",
    "Give plain numbers, Float32Array, BigInt64Array, Int32Array or Uint8Array",
  );
}
