import { fail } from "../errors.ts";
import type { Compression, Files } from "../platform/files.ts";

export type * from "../platform/files.ts";

/** A file of a dataset, looked at through its compression. */
export interface DataFile {
  readonly path: string;
  /** Name without folder and without the ending of the compression. */
  readonly name: string;
  /** Bytes after decompression. */
  size(): Promise<number>;
  /** @throws PareError beyond the end */
  read(offset: number, length: number): Promise<Uint8Array>;
}

const cacheBytes = 2 ** 28;

/**
 * Opens files, decompressed where their name ends in .gz or .br. Plain files are read in ranges; compressed ones are
 * decompressed whole and kept while they and the others last used fit 256 MiB.
 */
export function fileOpener(files: Files): (path: string) => DataFile {
  const kept = new Map<string, Promise<Uint8Array>>();
  const sizes = new Map<string, number>();
  const whole = (path: string, format: Compression): Promise<Uint8Array> => {
    const known = kept.get(path);
    kept.delete(path);
    const bytes = known ?? files.read(path).then((packed) => decompressed(files, path, format, packed));
    kept.set(path, bytes);
    bytes.then(
      ({ length }) => {
        sizes.set(path, length);
        let held = [...kept.keys()].reduce((sum, key) => sum + (sizes.get(key) ?? 0), 0);
        for (const key of kept.keys()) {
          if (held <= cacheBytes || key === path) break;
          held -= sizes.get(key) ?? 0;
          kept.delete(key);
        }
      },
      () => kept.delete(path),
    );
    return bytes;
  };
  return (path) => {
    const format = compressionOf(path);
    const size = async (): Promise<number> => {
      if (format) return (await whole(path, format)).length;
      return (await files.stat(path))?.size ?? fail(path, "there is no such file", "Check the path");
    };
    return {
      path,
      name: path.slice(path.lastIndexOf("/") + 1).replace(/\.(gz|br)$/i, ""),
      size,
      async read(offset, length) {
        const total = await size();
        if (offset + length > total) {
          fail(path, `bytes ${offset} to ${offset + length} lie beyond its end at ${total}`, "The file is cut short");
        }
        return format
          ? (await whole(path, format)).subarray(offset, offset + length)
          : files.read(path, offset, length);
      },
    };
  };
}

function compressionOf(path: string): Compression | undefined {
  if (/\.gz$/i.test(path)) return "gzip";
  return /\.br$/i.test(path) ? "brotli" : undefined;
}

async function decompressed(files: Files, path: string, format: Compression, packed: Uint8Array): Promise<Uint8Array> {
  try {
    return await files.decompress(format, packed);
  } catch (error) {
    return fail(path, `is not whole ${format} data`, "The file is damaged or cut short", error);
  }
}
