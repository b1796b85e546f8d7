import { didYouMean, fail } from "../errors.ts";
import { readNpy, readNpz } from "../formats/npy.ts";
import type { Value } from "../graph/graph.ts";
import { dtypes, packedBytes } from "../tensor/dtype.ts";
import { floatToHalf } from "../tensor/half.ts";
import { int64, sizeOf, type Tensor, tensor, toFloat32, toNumbers, typed } from "../tensor/tensor.ts";
import type { Batch } from "./dataset.ts";
import { bySplit, datasetOf, type Samples, sortSplits } from "./samples.ts";
import { type DataSource, type DatasetKind, filesNamed, sampleInput } from "./source.ts";

const arrayName = /\.np[yz]$/i;
const labelName = /^(labels?|y|targets?|classes)$/i;

/**
 * NumPy files: an archive's arrays feed the model inputs of the same names, `labels` or `y` are the labels; an archive
 * with one array besides the labels feeds the first input. Samples lie along the first axis. Archives and arrays are
 * held in memory as stored.
 */
export const arrays: DatasetKind = {
  name: "arrays",
  asStored: true,
  summary: "a .npz or .npy file, or a folder with train.npz, test.npz, ...; arrays named like the model's inputs",
  detect: (source) => source.entries.some(({ kind, name }) => kind === "file" && arrayName.test(name)),
  async open(source) {
    const files = filesNamed(source, arrayName);
    const splits = new Map<string, Samples>();
    const named = files.length === 1 ? new Map([["all", files[0]!]]) : bySplit(source.path, files);
    for (const [split, file] of named) {
      const bytes = await file.read(0, await file.size());
      const held = /\.npz$/i.test(file.name)
        ? await readNpz(bytes, (deflated, most) => source.files.decompress("deflate", deflated, most), file.path)
        : new Map([[sampleInput(source.options).name, readNpy(bytes, file.path)]]);
      splits.set(split, samplesOf(source, held, file.path));
    }
    if (splits.size === 0) {
      fail(
        source.path,
        `holds ${files.length} array files, none named train, val or test`,
        "Give the path of one of them",
      );
    }
    return datasetOf(source.path, sortSplits(splits));
  },
};

function samplesOf(source: DataSource, named: ReadonlyMap<string, Tensor>, path: string): Samples {
  const { inputs, options } = { inputs: source.options.inputs, options: source.options };
  const labelKey =
    options.labels ?? [...named.keys()].find((key) => labelName.test(key) && !inputs.some((i) => i.name === key));
  const labels = labelKey === undefined ? undefined : named.get(labelKey);
  if (options.labels !== undefined && !labels)
    fail(path, `has no array '${options.labels}'`, `It has ${[...named.keys()].join(", ")}`);
  const rest = [...named.keys()].filter((key) => key !== labelKey);
  const feeds = new Map<string, Tensor>();
  for (const input of inputs) {
    const key = named.has(input.name) ? input.name : inputs.length === 1 && rest.length === 1 ? rest[0]! : undefined;
    const array = key === undefined ? undefined : named.get(key);
    if (!array) {
      fail(
        path,
        `has no array for input '${input.name}'`,
        didYouMean(input.name, rest) || `It has ${rest.join(", ") || "none"}`,
      );
    }
    feeds.set(input.name, fitted(array, input, path));
  }
  const counts = [...feeds].map(([name, { shape }]) => [name, shape[0]!] as const);
  const count = counts[0]?.[1] ?? fail(path, "has no arrays");
  const odd = counts.find(([, n]) => n !== count);
  if (odd) fail(path, `'${counts[0]![0]}' has ${count} samples, but '${odd[0]}' has ${odd[1]}`);
  if (labels && labels.shape[0] !== count) fail(path, `has ${count} samples, but ${labels.shape[0]} labels`);
  return {
    count,
    read: async (indices): Promise<Batch> => ({
      inputs: Object.fromEntries([...feeds].map(([name, array]) => [name, rowsOf(array, indices)])),
      ...(labels && { labels: labelRows(labels, indices) }),
      size: indices.length,
    }),
  };
}

/** The array in the input's element type, with a sample axis; a single sample of the input's own shape gets one. */
function fitted(array: Tensor, { name, type }: Value, path: string): Tensor {
  if (type?.kind !== "tensor") return fail(path, `input '${name}' is not a tensor`);
  if (array.shape.length === 0)
    fail(path, `the array for input '${name}' is a single number`, "Samples need a first axis");
  const { shape } = type;
  if (shape && shape.length !== array.shape.length) {
    const sizes = `[${array.shape.join(", ")}], the input [${shape.map((dim) => dim ?? "?").join(", ")}]`;
    fail(path, `the array for input '${name}' has shape ${sizes}`, "They need the same number of axes, samples first");
  }
  const bad = shape?.findIndex((dim, axis) => axis > 0 && typeof dim === "number" && dim !== array.shape[axis]);
  if (bad !== undefined && bad >= 0) {
    fail(path, `axis ${bad} of the array for input '${name}' is ${array.shape[bad]}, the input takes ${shape![bad]}`);
  }
  return converted(array, type.dtype, `${path}: array for input '${name}'`);
}

function converted(array: Tensor, dtype: Tensor["dtype"], who: string): Tensor {
  if (array.dtype === dtype) return array;
  if (dtypes[dtype].kind === "float" && dtypes[array.dtype].kind !== "string") {
    const values = toFloat32(array);
    if (dtype === "float32") return tensor(dtype, array.shape, values);
    if (dtype === "float16" || dtype === "bfloat16") return tensor(dtype, array.shape, floatToHalf(values, dtype));
    if (dtype === "float64") return tensor(dtype, array.shape, Float64Array.from(values));
  }
  if (dtype === "int64" && dtypes[array.dtype].kind !== "float") return int64(toNumbers(array), array.shape);
  if (dtype === "int32" && dtypes[array.dtype].kind !== "float")
    return tensor(dtype, array.shape, Int32Array.from(toNumbers(array)));
  return fail(who, `holds ${array.dtype}, the model takes ${dtype}`, "Save it in the model's type");
}

/** Rows of a tensor along its first axis. */
export function rowsOf(array: Tensor, indices: readonly number[]): Tensor {
  const [, ...inner] = array.shape;
  const row = packedBytes(array.dtype, sizeOf(inner));
  const out = new Uint8Array(indices.length * row);
  for (const [i, at] of indices.entries()) out.set(array.bytes(at * row, row), i * row);
  return tensor(array.dtype, [indices.length, ...inner], out);
}

function labelRows(labels: Tensor, indices: readonly number[]): Tensor {
  const rows = rowsOf(labels, indices);
  if (dtypes[rows.dtype].kind === "float") return rows;
  const data = typed(rows);
  return int64(Array.from(data as ArrayLike<number | bigint>), rows.shape);
}
