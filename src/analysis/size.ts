import { writeOnnx } from "../formats/onnx/index.ts";
import type { Graph } from "../graph/graph.ts";
import type { Compressor, MemoryMeter } from "../platform/meter.ts";

/** Bytes of a model, as a file and as a download. */
export interface SizeResult {
  readonly raw: number;
  readonly gzip: number;
  readonly brotli: number;
}

/** The bytes a model takes on disk and on the wire. Streamed: no copy of the model is held. */
export async function measureSize(graph: Graph, compressor: Compressor): Promise<SizeResult> {
  let raw = 0;
  for (const chunk of writeOnnx(graph)) raw += chunk.length;
  return { raw, gzip: await compressor.gzip(writeOnnx(graph)), brotli: await compressor.brotli(writeOnnx(graph)) };
}

/** Bytes by which resident memory at its peak exceeded that before `work`, and what the work gave. */
export async function measurePeak<T>(
  meter: MemoryMeter,
  work: () => Promise<T>,
): Promise<{ bytes: number; result: T }> {
  meter.reset();
  const before = meter.peak();
  const result = await work();
  return { bytes: Math.max(0, meter.peak() - before), result };
}
