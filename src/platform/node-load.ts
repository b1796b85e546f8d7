import { closeSync, constants, fstatSync, openSync, readSync, realpathSync, type Stats, statSync } from "node:fs";
import { dirname, isAbsolute, relative, resolve } from "node:path";
import { fail, messageOf } from "../errors.ts";
import { isKeras, type KerasOptions, readKeras } from "../formats/keras/index.ts";
import { readOnnx } from "../formats/onnx/index.ts";
import type { ByteSource } from "../formats/source.ts";
import type { Graph } from "../graph/graph.ts";

const handles = new FinalizationRegistry<number>((fd) => {
  try {
    closeSync(fd);
  } catch {
    // already closed
  }
});

const opened = new WeakMap<ByteSource, Stats>();

/** Sources that were opened as external data of a model. */
export const externalSources = new WeakSet<ByteSource>();

// without O_NONBLOCK (absent on Windows), opening a named pipe would wait for a writer
const openFlags = constants.O_RDONLY | (constants.O_NONBLOCK ?? 0);

/**
 * A file as a source of bytes. It stays open, so a file replaced meanwhile is still read as it was, until the source
 * is garbage.
 *
 * @throws PareError if the file can't be opened or read
 */
export function fileSource(path: string): ByteSource {
  let fd: number;
  try {
    fd = openSync(path, openFlags);
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
    read(offset, length, scratch = new Uint8Array(length)) {
      if (offset < 0 || length < 0 || offset + length > stat.size) {
        fail(path, `bytes ${offset} to ${offset + length} lie beyond its end at ${stat.size}`, "The file is cut short");
      }
      for (let done = 0; done < length; ) {
        const got = readSync(fd, scratch, done, Math.min(length - done, 1 << 30), offset + done);
        if (got === 0)
          fail(path, `ended at byte ${offset + done} while being read`, "Something shortened it meanwhile");
        done += got;
      }
      return scratch;
    },
  };
  handles.register(source, fd);
  opened.set(source, stat);
  return source;
}

/** The path where a source's file lies, links resolved; undefined if it is no file, or another lies there by now. */
export function currentPath(source: ByteSource): string | undefined {
  const then = opened.get(source);
  const now = then && statSync(source.name, { throwIfNoEntry: false });
  if (!then || !now) return undefined;
  const same = now.dev === then.dev && now.ino === then.ino && now.size === then.size && now.mtimeMs === then.mtimeMs;
  return same ? realpathSync(source.name) : undefined;
}

/** Choices for {@link load}: those for Keras models. */
export type LoadOptions = KerasOptions;

/**
 * Opens a model file. Weights stay on disk until they are asked for.
 *
 * @param path an ONNX file, whose external data is looked for in its folder and nowhere else; or a model that Keras
 *   saved (`.h5`, `.keras`). Which of them is told by the content
 * @throws PareError if the file is missing, damaged or not a model
 */
export async function load(path: string, options: LoadOptions = {}): Promise<Graph> {
  const source = fileSource(path);
  if (isKeras(source)) return readKeras(source, options);
  const known = new Map<string, ByteSource>();
  return readOnnx(source, (location) => {
    const made = known.get(location) ?? fileSource(externalPath(path, location));
    known.set(location, made);
    externalSources.add(made);
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
