import { open, readdir, stat } from "node:fs/promises";
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { promisify } from "node:util";
import { brotliDecompress, gunzip, inflateRaw, type ZlibOptions } from "node:zlib";
import { fail, messageOf } from "../errors.ts";
import type { Compression, FileEntry, Files, Picture } from "./files.ts";
import { startThread } from "./node-thread.ts";

/** Bytes unpacked at a time: the default of 16 KiB cuts a large array into hundreds of buffers. */
const chunkSize = 2 ** 20;

type Unpack<Options> = (bytes: Uint8Array, options: Options) => Promise<Uint8Array>;

const inflate: Record<Compression, Unpack<ZlibOptions>> = {
  gzip: promisify(gunzip) as Unpack<ZlibOptions>,
  brotli: promisify(brotliDecompress) as Unpack<ZlibOptions>,
  deflate: promisify(inflateRaw) as Unpack<ZlibOptions>,
};

/** The file system of this machine, for datasets. Images are decoded by `sharp`, an optional peer. */
export const nodeFiles: Files = {
  async stat(path) {
    const found = await stat(path).catch(() => undefined);
    if (!found) return undefined;
    return found.isDirectory() ? { kind: "folder", size: 0 } : { kind: "file", size: found.size };
  },
  async list(path) {
    const entries = await readdir(path, { withFileTypes: true });
    const listed = entries.map(async (entry): Promise<FileEntry | undefined> => {
      if (entry.name.startsWith(".")) return undefined;
      const found = await nodeFiles.stat(`${path}/${entry.name}`);
      return found && { name: entry.name, ...found };
    });
    return (await Promise.all(listed))
      .filter((entry) => entry !== undefined)
      .sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0));
  },
  async read(path, offset = 0, length) {
    const file = await open(path).catch((error: unknown) =>
      fail(path, `can't be opened (${messageOf(error)})`, "Check the path", error),
    );
    try {
      const wanted = length ?? (await file.stat()).size - offset;
      const out = new Uint8Array(wanted);
      for (let done = 0; done < wanted; ) {
        const { bytesRead } = await file.read(out, done, wanted - done, offset + done);
        if (bytesRead === 0) fail(path, `ended at byte ${offset + done} while being read`, "The file is cut short");
        done += bytesRead;
      }
      return out;
    } finally {
      await file.close();
    }
  },
  decompress: (format, bytes, most) =>
    inflate[format](bytes, { chunkSize, ...(most !== undefined && { maxOutputLength: Math.max(1, most) }) }),
  decodeImage,
  thread: startThread,
  async importModule(path) {
    try {
      const module = (await import(pathToFileURL(resolve(path)).href)) as { default?: unknown };
      return module.default;
    } catch (error) {
      const typescript = (error as NodeJS.ErrnoException).code === "ERR_UNKNOWN_FILE_EXTENSION";
      const hint = typescript
        ? "Node reads TypeScript from 22.18 on: update it, or compile the module"
        : "Mend the module";
      return fail(path, `can't be loaded: ${messageOf(error)}`, hint, error);
    }
  },
};

async function decodeImage(bytes: Uint8Array, path: string): Promise<Picture> {
  const { default: sharp } = await import("sharp").catch((error: unknown) =>
    fail(path, "is an image, and images need the package 'sharp'", "Run: npm install sharp", error),
  );
  try {
    const image = sharp(bytes).autoOrient().removeAlpha().toColourspace("srgb");
    const { data, info } = await image.raw().toBuffer({ resolveWithObject: true });
    return { width: info.width, height: info.height, channels: info.channels, data: new Uint8Array(data) };
  } catch (error) {
    return fail(path, `can't be decoded: ${messageOf(error)}`, "The image is damaged, or of an unknown format", error);
  }
}
