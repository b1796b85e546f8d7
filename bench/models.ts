import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fromBinary } from "@bufbuild/protobuf";
import { TensorProtoSchema } from "onnx-buf";
import { requiredInputs, syntheticFeeds } from "../src/data/synthetic.ts";
import { messageOf } from "../src/errors.ts";
import { readTensor } from "../src/formats/onnx/tensors.ts";
import type { Graph } from "../src/graph/graph.ts";
import type { Runtime, Tensors } from "../src/platform/runtime.ts";
import { random } from "../src/random.ts";
import { dtypes } from "../src/tensor/dtype.ts";
import { type Tensor, toNumbers } from "../src/tensor/tensor.ts";

/** Every .onnx file below some folders, sorted. */
export function modelFiles(folders: readonly string[]): string[] {
  return folders
    .flatMap((folder) => readdirSync(folder, { recursive: true }).map((name) => join(folder, `${name}`)))
    .filter((path) => path.endsWith(".onnx"))
    .sort();
}

/**
 * Feeds for a model: those of a `test_data_set_0` folder beside it (as ONNX's backend tests have) or made up.
 *
 * @throws where an input is not a tensor
 */
export function feedsOf(path: string, graph: Graph): Tensors {
  const folder = join(dirname(path), "test_data_set_0");
  if (!existsSync(join(folder, "input_0.pb")))
    return syntheticFeeds(graph, random(7), { dims: { T: 8, sequence: 512 } });
  const entries = requiredInputs(graph).flatMap(({ name, type }, i): [string, Tensor][] => {
    const file = join(folder, `input_${i}.pb`);
    if (type?.kind !== "tensor") throw new Error(`input '${name}' is not a tensor`);
    return existsSync(file)
      ? [[name, readTensor(fromBinary(TensorProtoSchema, readFileSync(file)), file, noExternal)]]
      : [];
  });
  return Object.fromEntries(entries);
}

function noExternal(location: string): never {
  throw new Error(`test data must not lie elsewhere (${location})`);
}

// fetching any other type makes onnxruntime-node 1.30 abort the process or fail
const fetched = "bool float16 float32 float64 int8 int16 int32 int64 string uint8 uint16 uint32 uint64".split(" ");

/** What a model gives for some feeds, or why ONNX Runtime does not run it. */
export async function outputsOf(
  runtime: Runtime,
  model: Graph | Uint8Array,
  feeds: Tensors,
): Promise<Tensors | string> {
  try {
    const session = await runtime.open(model, { optimize: "basic" });
    try {
      const odd = session.outputs.find(({ type }) => type?.kind !== "tensor" || !fetched.includes(type.dtype));
      if (odd) return `onnxruntime-node can't hand out '${odd.name}'`;
      return await session.run(feeds);
    } finally {
      await session.release();
    }
  } catch (error) {
    return messageOf(error);
  }
}

/** Largest difference of two sets of outputs, relative to the largest magnitude of the output; Infinity where types differ. */
export function distance(a: Tensors, b: Tensors): number {
  const names = Object.keys(a);
  if (names.join() !== Object.keys(b).join()) return Number.POSITIVE_INFINITY;
  return Math.max(0, ...names.map((name) => tensorDistance(a[name]!, b[name]!)));
}

function tensorDistance(a: Tensor, b: Tensor): number {
  if (a.dtype !== b.dtype || a.shape.join() !== b.shape.join()) return Number.POSITIVE_INFINITY;
  if (a.strings || b.strings)
    return JSON.stringify(a.strings) === JSON.stringify(b.strings) ? 0 : Number.POSITIVE_INFINITY;
  if (Buffer.compare(a.bytes(), b.bytes()) === 0) return 0;
  if (dtypes[a.dtype].kind === "complex") return Number.POSITIVE_INFINITY;
  const [left, right] = [toNumbers(a), toNumbers(b)];
  let [most, scale] = [0, 0];
  for (const [i, v] of left.entries()) {
    if (Object.is(v, right[i])) continue;
    if (!Number.isFinite(v) || !Number.isFinite(right[i])) return Number.POSITIVE_INFINITY;
    most = Math.max(most, Math.abs(v - right[i]!));
  }
  for (const v of left) if (Number.isFinite(v)) scale = Math.max(scale, Math.abs(v));
  return most / (scale || 1);
}
