import type { Thread } from "./thread.ts";

/** An entry of a folder. */
export interface FileEntry {
  readonly name: string;
  readonly kind: "file" | "folder";
  /** Bytes; 0 for a folder. */
  readonly size: number;
}

/** A decoded image: 8 bits a channel, channels interleaved, row by row. */
export interface Picture {
  readonly width: number;
  readonly height: number;
  /** 1 (grey) or 3 (RGB). */
  readonly channels: number;
  readonly data: Uint8Array;
}

/** What datasets need of the platform. Paths are joined with "/". */
export interface Files {
  /** Undefined where nothing is there. */
  stat(path: string): Promise<Omit<FileEntry, "name"> | undefined>;
  /** The entries of a folder, sorted by name. */
  list(path: string): Promise<readonly FileEntry[]>;
  /** `length` bytes from `offset`; all of the file by default. */
  read(path: string, offset?: number, length?: number): Promise<Uint8Array>;
  /** Rejects where the result would pass `most` bytes. */
  decompress(format: Compression, bytes: Uint8Array, most?: number): Promise<Uint8Array>;
  /** Decodes JPEG, PNG, WebP, ... upright, without alpha. */
  decodeImage(bytes: Uint8Array, path: string): Promise<Picture>;
  /** Loads a JavaScript or TypeScript module and gives its default export. */
  importModule(path: string): Promise<unknown>;
  /**
   * Starts a thread that imports the module at an address and calls its export `serve(port, files)`, with files like
   * these. Absent where there are no threads.
   *
   * @throws where the thread can't be started
   */
  thread?(module: string): Promise<Thread>;
}

/** How bytes are compressed: a file as a whole, or ("deflate", without a header) a part of an archive. */
export type Compression = "gzip" | "brotli" | "deflate";
