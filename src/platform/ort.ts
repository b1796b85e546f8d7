import type { InferenceSession, Tensor as OrtTensor } from "onnxruntime-common";
import { didYouMean, fail, messageOf, PareError } from "../errors.ts";
import type { Dim, Value } from "../graph/graph.ts";
import { type DType, dtypes, isPacked, packedBytes } from "../tensor/dtype.ts";
import { stringTensor, type Tensor, type TypedArray, tensor, typed } from "../tensor/tensor.ts";
import type { KernelTime, Session, Tensors } from "./runtime.ts";

/** What onnxruntime-node and onnxruntime-web have in common. */
export interface Ort {
  readonly InferenceSession: {
    create(bytes: Uint8Array, options: InferenceSession.SessionOptions): Promise<InferenceSession>;
  };
  readonly Tensor: typeof OrtTensor;
}

/** What a platform adds to a session. */
export interface SessionHooks {
  /** Called after profiling has ended; gives the kernels' times. */
  readonly profile?: () => Promise<readonly KernelTime[]>;
  /** Called once, after the native session is gone. */
  readonly released?: () => void;
}

/** Builds a {@link Session} on either package. */
export async function openSession(
  ort: Ort,
  bytes: Uint8Array,
  options: InferenceSession.SessionOptions,
  hooks: SessionHooks = {},
): Promise<Session> {
  let inner: InferenceSession;
  try {
    inner = await ort.InferenceSession.create(bytes, options);
  } catch (error) {
    hooks.released?.();
    return fail("ONNX Runtime", `refuses the model: ${messageOf(error).trim()}`, undefined, error);
  }
  const outputs = inner.outputMetadata.map(readMetadata);
  let released = false;
  const whenOpen = (): void => {
    if (released) fail("session", "it was released", "Open another");
  };
  return {
    inputs: inner.inputMetadata.map(readMetadata),
    outputs,
    async run(feeds, fetch) {
      whenOpen();
      for (const name of inner.inputNames) if (!(name in feeds)) refuseFeeds(name, feeds);
      try {
        const given = Object.fromEntries(Object.entries(feeds).map(([name, t]) => [name, toOrt(ort, t)]));
        const results = await inner.run(given, fetches(ort, inner, outputs, fetch));
        return Object.fromEntries(Object.entries(results).map(([name, t]) => [name, fromOrt(t as OrtTensor)]));
      } catch (error) {
        if (error instanceof PareError) throw error;
        return fail("ONNX Runtime", `can't run the model: ${messageOf(error).trim()}`, undefined, error);
      }
    },
    async profile() {
      whenOpen();
      if (!hooks.profile) return fail("session", "it records no profile", "Open it with { profile: true }");
      inner.endProfiling();
      return hooks.profile();
    },
    async release() {
      if (released) return;
      released = true;
      await inner.release();
      hooks.released?.();
    },
  };
}

function refuseFeeds(name: string, feeds: Tensors): never {
  const given = Object.keys(feeds);
  return fail("session", `the input '${name}' is missing`, `It was given ${given.join(", ") || "nothing"}`);
}

function fetches(
  ort: Ort,
  inner: InferenceSession,
  outputs: readonly Value[],
  fetch?: readonly string[] | Tensors,
): InferenceSession.FetchesType {
  const names = !fetch ? inner.outputNames : Array.isArray(fetch) ? (fetch as readonly string[]) : Object.keys(fetch);
  for (const { name, type } of outputs) {
    if (type?.kind !== "tensor" || !isPacked(type.dtype) || !names.includes(name)) continue;
    // onnxruntime-node 1.30 aborts the process here
    fail("session", `the output '${name}' is ${type.dtype}, which can't be handed out`, "Cast it to int8 in the graph");
  }
  if (!fetch) return names;
  for (const name of names) {
    if (inner.outputNames.includes(name)) continue;
    const hint = didYouMean(name, inner.outputNames) || `It has ${inner.outputNames.join(", ")}`;
    fail("session", `the model has no output '${name}'`, hint);
  }
  if (Array.isArray(fetch)) return names;
  return Object.fromEntries(Object.entries(fetch as Tensors).map(([name, t]) => [name, toOrt(ort, t)]));
}

function readMetadata(value: InferenceSession.ValueMetadata): Value {
  if (!value.isTensor) return { name: value.name };
  const shape = value.shape.map((dim): Dim => (typeof dim === "string" ? dim || null : dim));
  return { name: value.name, type: { kind: "tensor", dtype: value.type as DType, shape } };
}

function toOrt(ort: Ort, t: Tensor): OrtTensor {
  if (t.strings) {
    if (t.strings.some((s) => typeof s !== "string")) fail("session", "strings that are not UTF-8 can't be fed");
    return new ort.Tensor("string", t.strings as string[], t.shape);
  }
  const data = isPacked(t.dtype) ? t.bytes() : typed(t);
  return new ort.Tensor(t.dtype as "float32", data as Float32Array, t.shape);
}

function fromOrt(t: OrtTensor): Tensor {
  const dtype = t.type as DType;
  if (dtype === "string") return stringTensor(t.dims, t.data as string[]);
  const data = t.data as unknown as TypedArray;
  const expected = packedBytes(dtype, t.size);
  const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  if (bytes.length !== expected)
    fail("ONNX Runtime", `gave ${bytes.length} bytes for ${dtypes[dtype].bits}-bit data of ${t.size}`);
  return tensor(dtype, t.dims, bytes);
}
