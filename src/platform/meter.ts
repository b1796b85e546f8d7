/** How many bytes a stream takes under each compression. The platform provides it. */
export interface Compressor {
  /** gzip at level 6, what web servers use by default. */
  gzip(chunks: Iterable<Uint8Array>): Promise<number>;
  /** Brotli at quality 9 with a window of 16 MiB: near the best, in bearable time. */
  brotli(chunks: Iterable<Uint8Array>): Promise<number>;
}

/** The highest resident memory of the process; the platform provides it. */
export interface MemoryMeter {
  /** Forgets the highest value so far, where the system can. */
  reset(): void;
  /** Bytes. */
  peak(): number;
}
