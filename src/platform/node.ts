import { availableParallelism } from "node:os";
import type { InferenceSession } from "onnxruntime-node";
import { didYouMean, fail, messageOf } from "../errors.ts";
import { readOnnx } from "../formats/onnx/index.ts";
import { memorySource } from "../formats/source.ts";
import { type Graph, makeGraph, makeNode } from "../graph/graph.ts";
import type { DType } from "../tensor/dtype.ts";
import { type BorderTypes, isTypeRefusal, openCarrying } from "./carry.ts";
import { type Placed, placeWeights } from "./node-place.ts";
import { profileFolder } from "./node-profile.ts";
import { openSession } from "./ort.ts";
import type { Runtime, Session, SessionOptions } from "./runtime.ts";

export { folderStore } from "./node-checkpoints.ts";
export { nodeCompressor } from "./node-compress.ts";
export { nodeFiles } from "./node-data.ts";
export { fileSource, type LoadOptions, load } from "./node-load.ts";
export { type Memory, memory, nodeMeter, resetPeakMemory } from "./node-memory.ts";
export { type Saved, type SaveOptions, save } from "./node-save.ts";

/** Choices for {@link runtime}. */
export interface NodeRuntimeOptions {
  /** Execution provider: one of {@link providers}; "cpu" by default. */
  readonly provider?: string;
  /** Threads inside an operator; all cores by default. */
  readonly threads?: number;
}

type OrtNode = typeof import("onnxruntime-node");

const providerHints: Readonly<Record<string, string>> = {
  cuda: "It needs CUDA 12 and cuDNN 9, and onnxruntime-node installed with its install script on; or use 'cpu'",
  tensorrt: "It needs TensorRT, and onnxruntime-node installed with its install script on; or use 'cpu'",
  webgpu: "It needs a graphics processor with its driver (on Linux: Vulkan); or use 'cpu'",
};

/**
 * onnxruntime-node sends usage data to its maker unless this variable is set before its first session. A toolkit that
 * works on other people's models leaves that to them: whoever wants it sets the variable to 0.
 */
async function importOrt(): Promise<OrtNode> {
  process.env.ORT_DISABLE_TELEMETRY ??= "1";
  const ort = await import("onnxruntime-node");
  // read at the first session; without it, missing libraries of a provider are printed besides the exception
  ort.env.logLevel = "fatal";
  return ort;
}

/** Execution providers that {@link runtime} knows on this system. Those other than "cpu" may still lack their drivers. */
export async function providers(): Promise<string[]> {
  const ort = await importOrt();
  return [...new Set([...ort.listSupportedBackends().map(({ name }) => name), "wasm"])];
}

/**
 * ONNX Runtime in Node (onnxruntime-node; for the provider "wasm" onnxruntime-web, if installed). A session of a graph
 * whose weights still lie in a file has the runtime map them from there: nothing is copied.
 *
 * @throws PareError where the provider is unknown or does not work here
 */
export async function runtime(options: NodeRuntimeOptions = {}): Promise<Runtime> {
  const { provider = "cpu", threads = availableParallelism() } = options;
  if (!Number.isSafeInteger(threads) || threads < 1) fail("runtime", `threads must be a count, got ${threads}`);
  if (provider === "wasm") return (await import("./web.ts")).runtime({ provider, threads });
  const { version } = await import("onnxruntime-node/dist/version.js");
  const made: Runtime = {
    name: `onnxruntime-node ${version}`,
    provider,
    threads,
    // the library is loaded with the first session: many commands need none
    open: async (model, session = {}) => open(await importOrt(), model, session, { provider, threads }),
  };
  if (provider === "cpu") return made;
  const known = await providers();
  if (!known.includes(provider)) {
    const hint = didYouMean(provider, known) || `It offers ${known.join(", ")}`;
    fail("runtime", `onnxruntime-node has no provider '${provider}' on this system`, hint);
  }
  await probe(made);
  return made;
}

/** Opens a graph of one node: the only way to learn whether a provider finds its libraries and a device. */
async function probe(made: Runtime): Promise<void> {
  const value = (name: string) => ({ name, type: { kind: "tensor", dtype: "float32", shape: [1] } }) as const;
  const graph = makeGraph({ nodes: [makeNode("Neg", ["x"], ["y"])], inputs: [value("x")], outputs: [value("y")] });
  try {
    await (await made.open(graph)).release();
  } catch (error) {
    const hint = providerHints[made.provider] ?? "Use 'cpu'";
    fail("runtime", `the provider '${made.provider}' does not work here (${messageOf(error)})`, hint, error);
  }
}

async function open(
  ort: OrtNode,
  model: Graph | Uint8Array,
  session: SessionOptions,
  defaults: { readonly provider: string; readonly threads: number },
): Promise<Session> {
  const settings: InferenceSession.SessionOptions = {
    executionProviders: [defaults.provider],
    intraOpNumThreads: session.threads ?? defaults.threads,
    interOpNumThreads: 1,
    graphOptimizationLevel: session.optimize ?? "all",
    enableMemPattern: session.memoryPattern ?? true,
    // errors come back as exceptions: 4 keeps the runtime from printing them too
    logSeverityLevel: 4,
    ...(session.dims && { freeDimensionOverrides: session.dims }),
  };
  const opener = (graph: Graph): Promise<Session> => openPlaced(ort, placeWeights(graph), settings, session.profile);
  const reveal = (graph: Graph): Promise<BorderTypes> => inferredTypes(placeWeights(graph), settings);
  if (!(model instanceof Uint8Array)) return openCarrying(model, opener, reveal);
  try {
    return await openPlaced(ort, { bytes: model, data: [], remove() {} }, settings, session.profile);
  } catch (error) {
    if (!isTypeRefusal(error)) throw error;
    return openCarrying(readOnnx(memorySource(model, "model")), opener, reveal);
  }
}

async function openPlaced(
  ort: OrtNode,
  placed: Placed,
  settings: InferenceSession.SessionOptions,
  profile = false,
): Promise<Session> {
  const trace = profile ? profileFolder() : undefined;
  try {
    const create = {
      ...withPlaces(settings, placed),
      ...(trace && { enableProfiling: true, profileFilePrefix: trace.prefix }),
    };
    const released = (): void => {
      placed.remove();
      trace?.remove();
    };
    return await openSession(ort, placed.bytes, create, { released, ...(trace && { profile: trace.read }) });
  } finally {
    placed.remove();
  }
}

function withPlaces(settings: InferenceSession.SessionOptions, placed: Placed): InferenceSession.SessionOptions {
  const { folder, data } = placed;
  return {
    ...settings,
    ...(folder && { extra: { session: { model_external_initializers_file_folder_path: folder } } }),
    ...(data.length > 0 && { externalData: data }),
  };
}

/** Element types without a name in onnxruntime-node, by their number there (ONNXTensorElementDataType, not ONNX's own). */
const unnamedTypes: Readonly<Record<number, DType>> = {
  14: "complex64",
  15: "complex128",
  16: "bfloat16",
  17: "float8e4m3fn",
  18: "float8e4m3fnuz",
  19: "float8e5m2",
  20: "float8e5m2fnuz",
  23: "float4e2m1",
  24: "uint2",
  25: "int2",
  26: "float8e8m0",
};

/**
 * Inputs and outputs of the types that onnxruntime-node has no name for, as the runtime infers them. Its session throws
 * at those; the binding underneath tells them.
 */
async function inferredTypes(placed: Placed, settings: InferenceSession.SessionOptions): Promise<BorderTypes> {
  const { binding, initOrt } = await import("onnxruntime-node/dist/binding.js");
  initOrt();
  const session = new binding.InferenceSession();
  try {
    const { buffer, byteOffset, byteLength } = placed.bytes;
    session.loadModel(buffer as ArrayBuffer, byteOffset, byteLength, withPlaces(settings, placed));
  } catch (error) {
    return fail("ONNX Runtime", `refuses the model: ${messageOf(error).trim()}`, undefined, error);
  } finally {
    placed.remove();
  }
  try {
    const border = [...session.inputMetadata, ...session.outputMetadata];
    const typed = border.flatMap(({ name, isTensor, type }) => {
      const dtype = isTensor ? unnamedTypes[type] : undefined;
      return dtype ? [[name, dtype] as const] : [];
    });
    return new Map(typed);
  } finally {
    session.dispose();
  }
}
