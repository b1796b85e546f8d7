import { createHash, randomBytes } from "node:crypto";
import { realpathSync, statSync } from "node:fs";
import { chmod, type FileHandle, open, rename, rm } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import { fail, messageOf, PareError } from "../errors.ts";
import { onnxSize, planExternal, tensorLocations, writeOnnx } from "../formats/onnx/index.ts";
import type { Graph } from "../graph/graph.ts";
import { currentPath, externalSources } from "./node-load.ts";

/** Choices for {@link save}. */
export interface SaveOptions {
  /**
   * Whether weights go into a file beside the model. "auto": where the model they come from has them outside, and where
   * the model would pass 1.9 GB, near the 2 GiB that one ONNX file can hold.
   */
  readonly external?: "auto" | boolean;
  /** Aborted: the save stops, leaves nothing behind and throws the signal's reason. */
  readonly signal?: AbortSignal;
}

/** What {@link save} wrote. */
export interface Saved {
  readonly path: string;
  /** Bytes of all files together. */
  readonly bytes: number;
  /** The file of external data, where there is one. */
  readonly external?: string;
}

const autoBytes = 1.9e9;

/**
 * Writes a graph as an ONNX file. The file appears whole or not at all: it is written under a temporary name in the same
 * folder, flushed to disk and renamed. External data goes first, into a file named by its content
 * ("model.onnx.3fa94c21b0de.data"), so that a model already there keeps the data it refers to until it is replaced.
 * Weights are streamed: memory stays at a few chunks of 16 MiB.
 *
 * @throws PareError where the folder or the disk refuses, or where the graph's weights are still read from `path`
 */
export async function save(graph: Graph, path: string, options: SaveOptions = {}): Promise<Saved> {
  const target = targetOf(path);
  refuseOwnSource(graph, target, path);
  const { external = "auto", signal } = options;
  const files = new Transaction(dirname(target), signal);
  try {
    const outside = external === "auto" ? wantsExternal(graph) : external;
    const saved = outside ? await saveExternal(graph, target, files) : await saveWhole(graph, target, files);
    return { ...saved, path };
  } catch (error) {
    await files.rollback();
    if (signal?.aborted || error instanceof PareError) throw error;
    return fail(path, `can't be written (${messageOf(error)})`, hintFor(error), error);
  }
}

function hintFor(error: unknown): string {
  const code = (error as NodeJS.ErrnoException).code ?? "";
  if (["ENOSPC", "EDQUOT"].includes(code)) return "The disk is full: make room, or choose another folder";
  if (["EACCES", "EPERM", "EROFS"].includes(code)) return "Choose a folder that you may write to";
  return code === "ENOENT" ? "Make its folder first" : "Check the path";
}

/** The file to replace: `path`, or where it leads if it is a link. */
function targetOf(path: string): string {
  const there = statSync(path, { throwIfNoEntry: false });
  if (there && !there.isFile()) fail(path, "is not a file", "Give the path of the model file to write");
  // a rename would replace a write-protected file without asking
  if (there && !(there.mode & 0o222)) fail(path, "is write-protected", "Choose another name");
  return there ? realpathSync(path) : resolve(path);
}

function refuseOwnSource(graph: Graph, target: string, path: string): void {
  const sources = new Set([...graph.weights.values()].flatMap((weight) => tensorLocations.get(weight)?.source ?? []));
  for (const source of sources) {
    if (currentPath(source) === target) {
      fail(path, "the model's weights are still read from this file", "Write to another file");
    }
  }
}

function wantsExternal(graph: Graph): boolean {
  for (const weight of graph.weights.values()) {
    const at = tensorLocations.get(weight);
    if (at && externalSources.has(at.source)) return true;
  }
  return onnxSize(graph) > autoBytes;
}

async function saveWhole(graph: Graph, target: string, files: Transaction): Promise<Omit<Saved, "path">> {
  const model = await files.write(writeOnnx(graph, undefined, scratch()));
  await files.commit(model.temporary, target);
  return { bytes: model.bytes };
}

async function saveExternal(graph: Graph, target: string, files: Transaction): Promise<Omit<Saved, "path">> {
  const hash = createHash("sha256");
  const data = await files.write(tapped(planExternal(graph, "").chunks(scratch()), (chunk) => hash.update(chunk)));
  if (data.bytes === 0) {
    await files.discard(data.temporary);
    return saveWhole(graph, target, files);
  }
  const location = `${basename(target)}.${hash.digest("hex").slice(0, 12)}.data`;
  const model = await files.write(writeOnnx(graph, planExternal(graph, location).placed));
  const external = join(dirname(target), location);
  await files.commit(data.temporary, external);
  await files.commit(model.temporary, target);
  return { bytes: data.bytes + model.bytes, external };
}

/** Bytes of a weight copied at a time, and bytes gathered before each write: they stay in the processor's cache. */
const batchBytes = 1 << 20;
const scratch = (): Uint8Array => new Uint8Array(batchBytes);

/** Files written under temporary names and renamed when complete; what was not committed can be taken back. */
class Transaction {
  private readonly temporaries = new Set<string>();
  private readonly created = new Set<string>();
  private readonly folder: string;
  private readonly signal: AbortSignal | undefined;

  constructor(folder: string, signal: AbortSignal | undefined) {
    this.folder = folder;
    this.signal = signal;
  }

  /** Streams bytes into a new temporary file, and to disk. A chunk is done with before the next one is asked for. */
  async write(chunks: Iterable<Uint8Array>): Promise<{ temporary: string; bytes: number }> {
    const temporary = join(this.folder, `.pare-${randomBytes(6).toString("hex")}.tmp`);
    const file = await open(temporary, "wx");
    this.temporaries.add(temporary);
    let bytes = 0;
    try {
      const batch = new Uint8Array(batchBytes);
      let gathered = 0;
      for (const chunk of chunks) {
        this.signal?.throwIfAborted();
        if (gathered + chunk.length > batchBytes) {
          await writeAll(file, batch.subarray(0, gathered));
          gathered = 0;
        }
        if (chunk.length >= batchBytes) await writeAll(file, chunk);
        else {
          batch.set(chunk, gathered);
          gathered += chunk.length;
        }
        bytes += chunk.length;
      }
      await writeAll(file, batch.subarray(0, gathered));
      await file.sync();
    } finally {
      await file.close();
    }
    return { temporary, bytes };
  }

  /** Gives a temporary file its name, replacing what is there. */
  async commit(temporary: string, name: string): Promise<void> {
    this.signal?.throwIfAborted();
    const replaced = statSync(name, { throwIfNoEntry: false });
    if (replaced) await chmod(temporary, replaced.mode & 0o777);
    else this.created.add(name);
    await rename(temporary, name);
    this.temporaries.delete(temporary);
    await syncFolder(this.folder);
  }

  async discard(temporary: string): Promise<void> {
    await rm(temporary, { force: true });
    this.temporaries.delete(temporary);
  }

  /** Removes everything this transaction has added to the folder. */
  async rollback(): Promise<void> {
    for (const path of [...this.temporaries, ...this.created]) await rm(path, { force: true });
  }
}

function* tapped<T>(items: Iterable<T>, see: (item: T) => void): Generator<T> {
  for (const item of items) {
    see(item);
    yield item;
  }
}

async function writeAll(file: FileHandle, bytes: Uint8Array): Promise<void> {
  for (let from = 0; from < bytes.length; ) from += (await file.write(bytes, from)).bytesWritten;
}

/** A rename is on disk once its folder is; systems that can't sync a folder order it themselves. */
async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, "r").catch(() => undefined);
  await handle?.sync().catch(() => undefined);
  await handle?.close();
}
