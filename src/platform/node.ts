import { closeSync, fstatSync, openSync, readSync, realpathSync, statSync } from "node:fs";
import { cpus } from "node:os";
import { basename, dirname, isAbsolute, relative, resolve } from "node:path";
import type { InferenceSession } from "onnxruntime-node";
import { fail, messageOf } from "../errors.ts";
import { encodeOnnx, readOnnx, tensorLocations } from "../formats/onnx/index.ts";
import type { ByteSource } from "../formats/source.ts";
import type { Graph } from "../graph/graph.ts";
import { openSession } from "./ort.ts";
import type { Runtime } from "./runtime.ts";

const handles = new FinalizationRegistry<number>((fd) => {
  try {
    closeSync(fd);
  } catch {
    // already closed
  }
});

/**
 * A file as a source of bytes. It stays open, so a file replaced meanwhile is still read as it was, until the source
 * is garbage.
 *
 * @throws PareError if the file can't be opened or read
 */
export function fileSource(path: string): ByteSource {
  let fd: number;
  try {
    fd = openSync(path, "r");
  } catch (error) {
    return fail(path, `can't be opened (${messageOf(error)})`, "Check the path", error);
  }
  const stat = fstatSync(fd);
  if (!stat.isFile()) {
    closeSync(fd);
    fail(path, "is not a file", "Give the path of a model file");
  }
  const source: ByteSource = {
    name: path,
    size: stat.size,
    read(offset, length) {
      if (offset < 0 || length < 0 || offset + length > stat.size) {
        fail(path, `bytes ${offset} to ${offset + length} lie beyond its end at ${stat.size}`, "The file is cut short");
      }
      const out = new Uint8Array(length);
      for (let done = 0; done < length; ) {
        const got = readSync(fd, out, done, Math.min(length - done, 1 << 30), offset + done);
        if (got === 0)
          fail(path, `ended at byte ${offset + done} while being read`, "Something shortened it meanwhile");
        done += got;
      }
      return out;
    },
  };
  handles.register(source, fd);
  return source;
}

/**
 * Opens a model file. Weights stay on disk until they are asked for.
 *
 * @param path an ONNX file; its external data is looked for in its folder and nowhere else
 * @throws PareError if the file is missing, damaged or not a model
 */
export async function load(path: string): Promise<Graph> {
  const source = fileSource(path);
  const opened = new Map<string, ByteSource>();
  return readOnnx(source, (location) => {
    const known = opened.get(location);
    if (known) return known;
    const made = fileSource(externalPath(path, location));
    opened.set(location, made);
    return made;
  });
}

/** The path of external data, refused if it leaves the model's folder (by "..", an absolute path or a symbolic link). */
function externalPath(model: string, location: string): string {
  const folder = realpathSync(dirname(model));
  const outside = (path: string): boolean => {
    const from = relative(folder, path);
    return from === "" || from.startsWith("..") || isAbsolute(from);
  };
  const target = resolve(folder, location);
  const refuse = (): never =>
    fail(model, `external data '${location}' lies outside the model's folder`, "It was not opened");
  if (isAbsolute(location) || location.includes("\0") || outside(target)) refuse();
  if (!statSync(target, { throwIfNoEntry: false })) {
    fail(model, `its external data '${location}' is missing`, "Put that file beside the model");
  }
  if (outside(realpathSync(target))) refuse();
  return target;
}

/** Choices for {@link runtime}. */
export interface NodeRuntimeOptions {
  /** Execution provider of onnxruntime-node; "cpu" by default. */
  readonly provider?: string;
  /** Threads inside an operator; all cores by default. */
  readonly threads?: number;
}

/**
 * ONNX Runtime in Node (onnxruntime-node). A session of a graph whose weights still lie in a file has the runtime map
 * them from there: nothing is copied.
 */
export async function runtime(options: NodeRuntimeOptions = {}): Promise<Runtime> {
  const ort = await import("onnxruntime-node");
  const { provider = "cpu", threads = cpus().length } = options;
  return {
    name: `onnxruntime-node ${ort.env.versions.node ?? ""}`.trim(),
    provider,
    threads,
    async open(model, session = {}) {
      const { bytes, folder } = model instanceof Uint8Array ? { bytes: model, folder: undefined } : skeleton(model);
      const create: InferenceSession.SessionOptions = {
        executionProviders: [provider],
        intraOpNumThreads: session.threads ?? threads,
        interOpNumThreads: 1,
        graphOptimizationLevel: session.optimize ?? "all",
        logSeverityLevel: 3,
        ...(session.dims && { freeDimensionOverrides: session.dims }),
        ...(folder && { extra: { session: { model_external_initializers_file_folder_path: folder } } }),
      };
      return openSession(ort, bytes, create);
    },
  };
}

/** The model's bytes without the weights that the runtime can map from one folder. */
function skeleton(graph: Graph): { bytes: Uint8Array; folder?: string } {
  const mapped = new Map<string, number>();
  for (const weight of graph.weights.values()) {
    const at = tensorLocations.get(weight);
    if (at) mapped.set(dirname(at.source.name), (mapped.get(dirname(at.source.name)) ?? 0) + weight.byteLength);
  }
  const [folder] = [...mapped].sort((a, b) => b[1] - a[1])[0] ?? [];
  if (folder === undefined) return { bytes: encodeOnnx(graph) };
  const bytes = encodeOnnx(graph, (_, weight) => {
    const at = tensorLocations.get(weight);
    if (!at || dirname(at.source.name) !== folder) return undefined;
    return { location: basename(at.source.name), offset: at.offset };
  });
  return { bytes, folder: resolve(folder) };
}
