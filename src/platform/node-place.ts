import { closeSync, mkdtempSync, openSync, realpathSync, rmSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, parse, relative, sep } from "node:path";
import {
  type ExternalPlan,
  type ExternalSlot,
  encodeOnnx,
  planExternal,
  tensorLocations,
} from "../formats/onnx/index.ts";
import type { ByteSource } from "../formats/source.ts";
import type { Graph } from "../graph/graph.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { bufferWeights } from "./buffers.ts";
import { currentPath } from "./node-load.ts";

/** Bytes of a weight copied at a time: they stay in the processor's cache. */
const chunkBytes = 2 ** 20;

/** A graph made ready for ONNX Runtime: a model without its large weights, and where the runtime finds those. */
export interface Placed {
  readonly bytes: Uint8Array;
  /** The folder that locations of external data count from. */
  readonly folder?: string;
  /** External data in memory. */
  readonly data: readonly { readonly path: string; readonly data: Uint8Array }[];
  /** Deletes temporary files; the session, once open, does without their names. */
  remove(): void;
}

/** Smaller weights go into the model's bytes: shape inference reads them. */
const smallBytes = 4096;

/**
 * Weights that lie in no file and together pass this size are written to a temporary file for the runtime to map.
 * Opening 616 MB of them took 1.6 s and 1280 MB at the peak inside the model's bytes, 1.4 s and 679 MB as buffers,
 * 0.8 s and 177 MB through the file.
 */
const spillBytes = 2 ** 26;

/**
 * Points the runtime to the weights where they lie, so that it maps them and nothing is copied.
 * All files are named relative to the root of the file system, because it takes one folder only.
 */
export function placeWeights(graph: Graph): Placed {
  const slots = new Map<Tensor, ExternalSlot>();
  const loose = new Map<string, Tensor>();
  let looseBytes = 0;
  let root: string | undefined;
  const paths = new Map<ByteSource, string | undefined>();
  const pathOf = (source: ByteSource): string | undefined => {
    if (!paths.has(source)) paths.set(source, currentPath(source));
    return paths.get(source);
  };
  const at = (path: string, offset: number): ExternalSlot | undefined => {
    root ??= parse(path).root;
    if (parse(path).root !== root) return undefined;
    return { location: relative(root, path).replaceAll(sep, "/"), offset };
  };
  for (const [name, weight] of graph.weights) {
    if (weight.strings || weight.byteLength < smallBytes) continue;
    const location = tensorLocations.get(weight);
    const path = location && pathOf(location.source);
    const slot = path === undefined ? undefined : at(path, location!.offset);
    if (slot) slots.set(weight, slot);
    else {
      loose.set(name, weight);
      looseBytes += weight.byteLength;
    }
  }
  const spilled = looseBytes > spillBytes ? spill({ ...graph, weights: loose }, at) : undefined;
  const bytes = encodeOnnx(graph, (name, weight) => slots.get(weight) ?? spilled?.placed(name, weight));
  return {
    bytes,
    ...(root !== undefined && { folder: root }),
    data: spilled?.data ?? [],
    remove: () => spilled?.remove(),
  };
}

interface Spilled extends Pick<ExternalPlan, "placed">, Pick<Placed, "data" | "remove"> {}

const noRoom: ReadonlySet<string> = new Set(["ENOSPC", "EDQUOT", "EFBIG"]);

/** Writes weights to a temporary file; where that fails (no room), hands them over as buffers. */
function spill(graph: Graph, at: (path: string, offset: number) => ExternalSlot | undefined): Spilled {
  const folder = mkdtempSync(join(realpathSync(tmpdir()), "pare-weights-"));
  const remove = (): void => rmSync(folder, { recursive: true, force: true });
  const path = join(folder, "weights");
  const slot = at(path, 0);
  if (slot) {
    const plan = planExternal(graph, slot.location, smallBytes);
    try {
      const fd = openSync(path, "wx");
      try {
        for (const chunk of plan.chunks(new Uint8Array(chunkBytes)))
          for (let done = 0; done < chunk.length; ) done += writeSync(fd, chunk, done);
      } finally {
        closeSync(fd);
      }
      return { placed: plan.placed, data: [], remove };
    } catch (error) {
      remove();
      if (!noRoom.has((error as NodeJS.ErrnoException).code ?? "")) throw error;
    }
  }
  remove();
  return { ...bufferWeights(graph, smallBytes), remove };
}
