import { Readable, Writable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { constants, createBrotliCompress, createGzip } from "node:zlib";
import type { Compressor } from "./meter.ts";

/** Sizes under compression, by zlib and Brotli of Node. */
export const nodeCompressor: Compressor = {
  gzip: (chunks) => throughSize(chunks, createGzip({ level: 6 })),
  brotli: (chunks) =>
    throughSize(
      chunks,
      createBrotliCompress({ params: { [constants.BROTLI_PARAM_QUALITY]: 9, [constants.BROTLI_PARAM_LGWIN]: 24 } }),
    ),
};

async function throughSize(chunks: Iterable<Uint8Array>, compressor: NodeJS.ReadWriteStream): Promise<number> {
  let bytes = 0;
  const count = new Writable({
    write(chunk: Uint8Array, _, done) {
      bytes += chunk.length;
      done();
    },
  });
  await pipeline(Readable.from(chunks), compressor, count);
  return bytes;
}
