import { fail } from "../errors.ts";

/** Random-access bytes: a file, a buffer, a Blob behind a synchronous handle. */
export interface ByteSource {
  /** For messages: a path or a description. */
  readonly name: string;
  readonly size: number;
  /**
   * Exactly `length` bytes from `offset`; may be a view, never write to it.
   *
   * @param scratch memory of `length` bytes that the result may be put into
   * @throws PareError beyond the end or where reading fails
   */
  read(offset: number, length: number, scratch?: Uint8Array): Uint8Array;
}

/** Bytes in memory as a source (not copied). */
export function memorySource(given: Uint8Array, name = "buffer"): ByteSource {
  // Node's Buffer is a Uint8Array whose slice() does not copy: callers get the plain kind
  const bytes = new Uint8Array(given.buffer, given.byteOffset, given.byteLength);
  return {
    name,
    size: bytes.length,
    read(offset, length) {
      if (offset < 0 || length < 0 || offset + length > bytes.length) {
        fail(
          name,
          `bytes ${offset} to ${offset + length} lie beyond its end at ${bytes.length}`,
          "The file is cut short",
        );
      }
      return bytes.subarray(offset, offset + length);
    },
  };
}
