import type { InferenceSession } from "onnxruntime-common";
import { fail, messageOf, PareError } from "../errors.ts";
import { isKeras, type KerasOptions, readKeras } from "../formats/keras/index.ts";
import { encodeOnnx, readOnnx, writeOnnx } from "../formats/onnx/index.ts";
import { type ByteSource, memorySource } from "../formats/source.ts";
import type { Graph } from "../graph/graph.ts";
import { bufferWeights } from "./buffers.ts";
import { isTypeRefusal, openCarrying } from "./carry.ts";
import { openSession } from "./ort.ts";
import type { Runtime, Session, SessionOptions, Tensors } from "./runtime.ts";

/** Bytes, or where to get them: a Blob (a File of an input element, say), a URL. */
export type Bytes = Uint8Array | ArrayBuffer | Blob | URL | string;

/** Choices for {@link load}. */
export interface LoadOptions extends KerasOptions {
  /** Files of external data by the location the model gives; for a model from a URL they are fetched from its folder. */
  readonly external?: Readonly<Record<string, Bytes>>;
}

/**
 * Opens a model. In a worker a Blob's weights stay in the Blob until they are asked for; elsewhere the bytes are held in
 * memory, not copied.
 *
 * @throws PareError if it can't be fetched, is damaged, or needs external data that is not at hand
 */
export async function load(model: Bytes, options: LoadOptions = {}): Promise<Graph> {
  const source = await sourceOf(model);
  if (isKeras(source)) return readKeras(source, options);
  const known = new Map<string, ByteSource>();
  for (;;) {
    let wanted: string | undefined;
    try {
      return readOnnx(source, (location) => {
        const found = known.get(location);
        if (found) return found;
        wanted = location;
        return fail(source.name, `external data '${location}' is needed and not at hand`, "Pass it in `external`");
      });
    } catch (error) {
      if (wanted === undefined) throw error;
      known.set(wanted, await externalSource(wanted, model, options, error));
    }
  }
}

async function externalSource(location: string, model: Bytes, options: LoadOptions, error: unknown) {
  const given = options.external?.[location];
  if (given !== undefined) return sourceOf(given);
  if (!(model instanceof URL || typeof model === "string")) throw error;
  const base = new URL(model, globalThis.location?.href);
  const target = new URL(location, base);
  if (!target.href.startsWith(new URL(".", base).href)) {
    fail(base.href, `external data '${location}' lies outside the model's folder`, "It was not fetched");
  }
  return sourceOf(target);
}

async function sourceOf(bytes: Bytes): Promise<ByteSource> {
  if (bytes instanceof Uint8Array) return memorySource(bytes, "model");
  if (bytes instanceof ArrayBuffer) return memorySource(new Uint8Array(bytes), "model");
  if (bytes instanceof Blob) return blobSource(bytes);
  const name = String(bytes);
  let response: Response;
  try {
    response = await fetch(bytes);
  } catch (error) {
    return fail(name, `can't be fetched (${messageOf(error)})`, "Check the address", error);
  }
  if (!response.ok) fail(name, `can't be fetched (status ${response.status})`, "Check the address");
  return memorySource(new Uint8Array(await response.arrayBuffer()), name);
}

/** Reads files synchronously; exists in workers only (W3C File API), and TypeScript's DOM library leaves it out. */
declare const FileReaderSync: { new (): { readAsArrayBuffer(blob: Blob): ArrayBuffer } } | undefined;

async function blobSource(blob: Blob): Promise<ByteSource> {
  const name = "name" in blob ? String(blob.name) : "model";
  if (typeof FileReaderSync === "undefined") return memorySource(new Uint8Array(await blob.arrayBuffer()), name);
  const reader = new FileReaderSync();
  return {
    name,
    size: blob.size,
    read(offset, length) {
      if (offset < 0 || length < 0 || offset + length > blob.size) {
        fail(name, `bytes ${offset} to ${offset + length} lie beyond its end at ${blob.size}`, "The file is cut short");
      }
      return new Uint8Array(reader.readAsArrayBuffer(blob.slice(offset, offset + length)));
    },
  };
}

/**
 * Writes a graph as an ONNX file, weights included. The browser may keep a Blob on disk, so weights pass through memory
 * one chunk of 16 MiB at a time.
 *
 * @throws PareError if the model passes the 2 GiB that one ONNX file can hold
 */
export async function save(graph: Graph): Promise<Blob> {
  const parts: Blob[] = [];
  for (const chunk of writeOnnx(graph)) parts.push(new Blob([chunk as Uint8Array<ArrayBuffer>]));
  return new Blob(parts, { type: "application/octet-stream" });
}

/** Choices for {@link runtime}. */
export interface WebRuntimeOptions {
  /** "wasm" (the processor) by default. */
  readonly provider?: "wasm" | "webgpu" | "webnn";
  /**
   * Threads inside an operator; all cores by default where the page is isolated from other origins, else 1. The first
   * session of a page fixes it for all.
   */
  readonly threads?: number;
  /** The folder from which onnxruntime-web's .wasm and .mjs files are served; beside its script by default. */
  readonly wasmPaths?: string;
}

type OrtWeb = typeof import("onnxruntime-web");

/** Weights that together pass this size are handed over as buffers, which saves a copy inside the model's bytes. */
const inlineBytes = 2 ** 26;
const smallBytes = 4096;

/**
 * ONNX Runtime in the browser (onnxruntime-web, an optional peer dependency). The provider "wasm" works in Node too.
 *
 * @throws PareError where onnxruntime-web is missing or the provider does not work here
 */
export async function runtime(options: WebRuntimeOptions = {}): Promise<Runtime> {
  const { provider = "wasm", threads = defaultThreads(), wasmPaths } = options;
  if (!Number.isSafeInteger(threads) || threads < 1) fail("runtime", `threads must be a count, got ${threads}`);
  const ort = await importOrt(provider);
  const { wasm, versions } = ort.env;
  if (wasmPaths !== undefined) wasm.wasmPaths = wasmPaths;
  if (!wasm.numThreads) wasm.numThreads = threads;
  if (provider === "webgpu" && !("gpu" in (globalThis.navigator ?? {}))) {
    fail("runtime", "this browser offers no WebGPU", "Use the provider 'wasm'");
  }
  return {
    name: `onnxruntime-web ${versions.web ?? ""}`.trim(),
    provider,
    threads: wasm.numThreads,
    open: (model, session = {}) => open(ort, model, session, provider),
  };
}

function defaultThreads(): number {
  return globalThis.crossOriginIsolated ? (globalThis.navigator?.hardwareConcurrency ?? 1) : 1;
}

async function importOrt(provider: string): Promise<OrtWeb> {
  try {
    // the build without graphics loads half the bytes; pages and workers have a location, Node has one build only
    if (provider === "wasm" && typeof globalThis.location === "object") return await import("onnxruntime-web/wasm");
    return await import("onnxruntime-web");
  } catch (error) {
    const missing = /Cannot find|Failed to resolve/i.test(messageOf(error));
    return fail("runtime", `onnxruntime-web can't be loaded (${messageOf(error)})`, missing ? installHint : "", error);
  }
}

const installHint = "Install it: npm install onnxruntime-web";

async function open(
  ort: OrtWeb,
  model: Graph | Uint8Array,
  session: SessionOptions,
  provider: string,
): Promise<Session> {
  if (session.profile) fail("onnxruntime-web", "it hands out no profile", "Profile with onnxruntime-node");
  const settings: InferenceSession.SessionOptions = {
    executionProviders: [provider],
    graphOptimizationLevel: session.optimize ?? "all",
    enableMemPattern: session.memoryPattern ?? true,
    // errors come back as exceptions: 4 keeps the runtime from printing them too
    logSeverityLevel: 4,
    ...(session.dims && { freeDimensionOverrides: session.dims }),
  };
  const opener = (graph: Graph): Promise<Session> => {
    let total = 0;
    for (const { byteLength } of graph.weights.values()) total += byteLength;
    if (total <= inlineBytes) return openSession(ort, encodeOnnx(graph), settings);
    const { placed, data } = bufferWeights(graph, smallBytes);
    return openSession(ort, encodeOnnx(graph, placed), { ...settings, externalData: data });
  };
  try {
    const opened =
      model instanceof Uint8Array ? await openSession(ort, model, settings) : await openCarrying(model, opener);
    return filling(opened);
  } catch (error) {
    if (/no available backend found/.test(messageOf(error))) {
      const hint = "Serve its .wasm and .mjs files beside the page, or say in 'wasmPaths' where they are";
      fail("onnxruntime-web", `it can't start (${messageOf(error)})`, hint, error);
    }
    if (!(error instanceof PareError) || !isTypeRefusal(error)) throw error;
    const hint = "Ask for other outputs, or declare their types in the graph";
    return fail("onnxruntime-web", `it can't hand out one of the model's outputs (${error.message})`, hint, error);
  }
}

/** onnxruntime-web 1.30 leaves the memory of outputs that it is given as it was: here they are filled after the run. */
function filling(session: Session): Session {
  return {
    ...session,
    async run(feeds, fetch) {
      if (!fetch || Array.isArray(fetch)) return session.run(feeds, fetch);
      const targets = fetch as Tensors;
      const results = await session.run(feeds, Object.keys(targets));
      for (const [name, target] of Object.entries(targets)) {
        const { dtype, shape, ...result } = results[name]!;
        if (dtype !== target.dtype || shape.join() !== target.shape.join()) {
          const given = `${target.dtype} of shape [${target.shape.join(", ")}]`;
          fail("session", `the output '${name}' is ${dtype} of shape [${shape.join(", ")}], got a tensor of ${given}`);
        }
        target.bytes().set(result.bytes());
      }
      return { ...targets };
    },
  };
}
