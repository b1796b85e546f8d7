import { type Graph, type Subgraph, subgraphsOf } from "../../graph/graph.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import type { ExternalSlot } from "./tensors.ts";
import { chunksOf } from "./write.ts";

/** A layout of weights in a file of their own, beside the model. */
export interface ExternalPlan {
  /** Where a weight lies in the file; undefined for those that stay in the model. Give it to `writeOnnx`. */
  placed(name: string, weight: Tensor): ExternalSlot | undefined;
  /** The file's bytes, at most 16 MiB at a time, each weight read when its turn comes. */
  chunks(scratch?: Uint8Array): Generator<Uint8Array>;
  /** Size of the file; 0 where nothing is worth storing outside. */
  readonly byteLength: number;
}

const pageBytes = 4096;
const lineBytes = 64;
const largeTensor = 1 << 16;

/**
 * Lays out a graph's weights, those of nested subgraphs included, for storage as external data (ONNX, "External Data Files"). Weights of 64 KiB and more
 * begin on a page, so that runtimes can map them; the others on a cache line. A tensor used under several names is
 * stored once.
 *
 * @param location name of the file, relative to the model's folder
 * @param minBytes smaller weights, and strings, stay in the model
 */
export function planExternal(graph: Graph, location: string, minBytes = 1024): ExternalPlan {
  const slots = new Map<Tensor, ExternalSlot>();
  let end = 0;
  for (const weight of allWeights(graph)) {
    if (weight.strings || weight.byteLength < minBytes || weight.byteLength === 0 || slots.has(weight)) continue;
    const alignment = weight.byteLength >= largeTensor ? pageBytes : lineBytes;
    const offset = Math.ceil(end / alignment) * alignment;
    slots.set(weight, { location, offset });
    end = offset + weight.byteLength;
  }
  return {
    placed: (_, weight) => slots.get(weight),
    byteLength: end,
    *chunks(scratch) {
      let at = 0;
      for (const [weight, { offset }] of slots) {
        if (offset > at) yield new Uint8Array(offset - at);
        yield* chunksOf(weight, scratch);
        at = offset + weight.byteLength;
      }
    },
  };
}

function* allWeights(graph: Subgraph): Generator<Tensor> {
  yield* graph.weights.values();
  for (const node of graph.nodes) for (const subgraph of subgraphsOf(node)) yield* allWeights(subgraph);
}
