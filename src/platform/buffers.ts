import type { ExternalSlot } from "../formats/onnx/index.ts";
import type { Graph } from "../graph/graph.ts";
import type { Tensor } from "../tensor/tensor.ts";

/** External data that lies in memory, as both ONNX Runtime packages take it. */
export interface BufferedWeights {
  placed(name: string, weight: Tensor): ExternalSlot | undefined;
  readonly data: readonly { readonly path: string; readonly data: Uint8Array }[];
}

/** Hands a graph's weights of at least `minBytes` to the runtime as buffers of their own, outside the model's bytes. */
export function bufferWeights(graph: Graph, minBytes: number): BufferedWeights {
  const names = new Map<Tensor, string>();
  for (const weight of graph.weights.values()) {
    if (weight.strings || weight.byteLength < minBytes || names.has(weight)) continue;
    names.set(weight, `weight-${names.size}`);
  }
  return {
    placed(_, weight) {
      const location = names.get(weight);
      return location === undefined ? undefined : { location, offset: 0 };
    },
    data: [...names].map(([weight, path]) => ({ path, data: weight.bytes() })),
  };
}
