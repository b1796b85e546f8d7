import { fail, messageOf, PareError } from "../../errors.ts";
import type { DType } from "../../tensor/dtype.ts";
import { lazyTensor, sizeOf, type Tensor } from "../../tensor/tensor.ts";
import type { ByteSource } from "../source.ts";

/** An HDF5 file, open for reading. Paths are joined with "/". */
export interface Hdf5 {
  readonly name: string;
  /** An attribute that is text or a list of texts; undefined where it is absent or neither. */
  texts(path: string, attribute: string): readonly string[] | undefined;
  has(path: string): boolean;
  /**
   * A dataset as a lazy tensor, read from the file in blocks.
   *
   * @throws PareError where there is none, or it is of a type other than little-endian floats
   */
  dataset(path: string): Tensor;
}

type H5wasm = typeof import("h5wasm");

/** The part of Emscripten's file system that serves a file from a {@link ByteSource}. */
interface FileNode {
  usedBytes: number;
  stream_ops: Record<string, unknown>;
  node_ops: Record<string, (...args: never[]) => unknown>;
}
interface FileSystem {
  createFile(parent: string, name: string, properties: object, canRead: boolean, canWrite: boolean): FileNode;
  unlink(path: string): void;
}

/** The signature of HDF5 (HDF5 File Format Specification 3.0, II.A); it stands at 0, or at 512, 1024, 2048, ... */
const signature = [0x89, 0x48, 0x44, 0x46, 0x0d, 0x0a, 0x1a, 0x0a];
/** Rows are copied through the library in blocks of about this many bytes: its memory never shrinks. */
const blockBytes = 2 ** 24;
/** Deflate packs at most 1032 to 1: a dataset that claims more than this many times the file is a lie. */
const mostPacked = 1040;
const floats: Readonly<Record<number, DType>> = { 2: "float16", 4: "float32", 8: "float64" };

/** Whether a file is HDF5, by its signature. */
export function isHdf5(source: ByteSource): boolean {
  for (let at = 0; at + signature.length <= source.size && at <= 2 ** 16; at = at === 0 ? 512 : at * 2) {
    const bytes = source.read(at, signature.length);
    if (signature.every((byte, i) => bytes[i] === byte)) return true;
  }
  return false;
}

/** Closes what nobody reads any more. */
const open = new FinalizationRegistry<() => void>((close) => {
  try {
    close();
  } catch {
    // the library gave up earlier
  }
});

let opened = 0;

/**
 * Opens an HDF5 file with h5wasm, an optional dependency. The library sees this one file and nothing else of the system,
 * and reads from the source what it needs when it needs it.
 *
 * @throws PareError where h5wasm is missing or the file is damaged
 */
export async function openHdf5(source: ByteSource): Promise<Hdf5> {
  const h5 = await importH5wasm(source.name);
  const library = await h5.ready;
  const files = library.FS as unknown as FileSystem;
  const path = `/pare-${opened++}.h5`;
  serve(files.createFile("/", path.slice(1), {}, true, false), source);
  const guarded = <T>(what: string, read: () => T): T => {
    // otherwise the library prints what goes wrong
    library.activate_throwing_error_handler();
    try {
      return read();
    } catch (error) {
      if (error instanceof PareError) throw error;
      return fail(source.name, `${what} can't be read (${reasonOf(error)})`, "The file is damaged or cut short", error);
    } finally {
      library.deactivate_throwing_error_handler();
    }
  };
  const file = guarded("it", () => {
    try {
      return new h5.File(path, "r");
    } catch (error) {
      files.unlink(path);
      throw error;
    }
  });
  const handle = { file };
  const { file_id } = file;
  open.register(handle, () => {
    library.close_file(file_id);
    files.unlink(path);
  });
  const attributes = (at: string): Record<string, { readonly value: unknown }> => {
    const entity = handle.file.get(at);
    return entity && "attrs" in entity ? entity.attrs : {};
  };
  return {
    name: source.name,
    texts: (at, attribute) =>
      guarded(`attribute '${attribute}' of '${at}'`, () => textsOf(attributes(at)[attribute]?.value)),
    has: (at) => guarded(`'${at}'`, () => handle.file.get(at) !== null),
    dataset: (at) => guarded(`'${at}'`, () => datasetOf(h5, handle, at, source, guarded)),
  };
}

async function importH5wasm(who: string): Promise<H5wasm> {
  try {
    return await import("h5wasm");
  } catch (error) {
    const hint = "Install it: npm install h5wasm";
    return fail(who, `reading Keras files needs the package h5wasm (${messageOf(error)})`, hint, error);
  }
}

/** Lets a file of the library's own file system take its bytes from a source. */
function serve(node: FileNode, source: ByteSource): void {
  const refuse = (): never => fail(source.name, "the HDF5 library tried to write to it");
  node.usedBytes = source.size;
  node.stream_ops = {
    ...node.stream_ops,
    write: refuse,
    read(_stream: unknown, buffer: Int8Array, at: number, length: number, position: number): number {
      const count = Math.max(0, Math.min(length, source.size - position));
      buffer.set(source.read(position, count), at);
      return count;
    },
  };
  const { getattr } = node.node_ops;
  node.node_ops = {
    ...node.node_ops,
    getattr: (...args) => ({ ...(getattr?.(...args) as object), size: source.size }),
  };
}

/** The innermost line of the library's report: "#006: H5Fsuper.c line 577 in H5F__super_read(): truncated file: ..." */
function reasonOf(error: unknown): string {
  const message = messageOf(error);
  return [...message.matchAll(/^ *#\d+: .*?\(\): (.*)$/gm)].at(-1)?.[1] ?? message;
}

/** Text, or a list of texts, as a list; stored at fixed width they may come padded with zeros. */
function textsOf(value: unknown): readonly string[] | undefined {
  const list = Array.isArray(value) ? value : typeof value === "string" ? [value] : undefined;
  return list?.every((item) => typeof item === "string") ? list.map((text) => text.replace(/\0+$/, "")) : undefined;
}

function datasetOf(
  h5: H5wasm,
  handle: { readonly file: InstanceType<H5wasm["File"]> },
  path: string,
  source: ByteSource,
  guarded: <T>(what: string, read: () => T) => T,
): Tensor {
  const found = handle.file.get(path);
  if (!(found instanceof h5.Dataset)) return fail(source.name, `it lacks the dataset '${path}'`, "It is damaged");
  const { metadata, path: full } = found;
  const { size, type, littleEndian } = metadata;
  const dtype = floats[size];
  if (type !== h5.Module.H5T_class_t.H5T_FLOAT.value || !dtype || !littleEndian) {
    return fail(source.name, `'${path}' does not hold little-endian floats`, "Save the weights as float32");
  }
  const shape = (metadata.shape ?? []).map(Number);
  const bytes = sizeOf(shape, `${source.name}: '${path}'`) * size;
  if (bytes > mostPacked * source.size) {
    fail(source.name, `'${path}' claims ${bytes} bytes, the file has ${source.size}`, "It is damaged");
  }
  let kept: WeakRef<Uint8Array> | undefined;
  return lazyTensor(dtype, shape, (offset, length) => {
    const data = kept?.deref() ?? guarded(`'${path}'`, () => readRows(h5, handle.file.file_id, full, shape, size));
    kept = new WeakRef(data);
    return data.subarray(offset, offset + length);
  });
}

/** All of a dataset, copied out of the library's memory block by block along the first axis. */
function readRows(h5: H5wasm, file: bigint, path: string, shape: readonly number[], size: number): Uint8Array {
  const library = h5.Module;
  const [rows, ...rest] = shape.length === 0 ? [1] : (shape as [number, ...number[]]);
  const rowBytes = rest.reduce((a, b) => a * b, size);
  const out = new Uint8Array(rows * rowBytes);
  if (out.length === 0) return out;
  const step = Math.max(1, Math.min(rows, Math.floor(blockBytes / rowBytes)));
  const pointer = library._malloc(step * rowBytes);
  if (pointer === 0) throw new Error(`no memory for ${step * rowBytes} bytes`);
  try {
    for (let row = 0; row < rows; row += step) {
      const count = Math.min(step, rows - row);
      const block = [count, ...rest].map(BigInt);
      const start = [row, ...rest.map(() => 0)].map(BigInt);
      const whole = shape.length === 0 ? null : block;
      const status = library.get_dataset_data(
        file,
        path,
        whole,
        whole && start,
        whole && block.map(() => 1n),
        BigInt(pointer),
      );
      if (status < 0) throw new Error(`HDF5 status ${status}`);
      out.set(library.HEAPU8.subarray(pointer, pointer + count * rowBytes), row * rowBytes);
    }
  } finally {
    library._free(pointer);
  }
  return out;
}
