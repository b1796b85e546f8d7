import type { Graph } from "../graph/graph.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { chunksOf, encodeOnnx } from "./onnx/index.ts";

/** Digest of everything a graph holds, nested graphs included, 16 MiB of a weight in memory at a time. */
export async function graphDigest(graph: Graph): Promise<string> {
  const weights: [string, Tensor][] = [];
  const structure = encodeOnnx(graph, (name, weight) => {
    weights.push([name, weight]);
    return { location: "w", offset: 0 };
  });
  const parts = [await digest(structure)];
  for (const [name, weight] of weights) {
    if (weight.strings) continue;
    parts.push(name);
    for (const chunk of chunksOf(weight)) parts.push(await digest(chunk));
  }
  return digest(parts.join("\n"));
}

/** SHA-256 in hexadecimal. */
export async function digest(data: string | Uint8Array): Promise<string> {
  const bytes = typeof data === "string" ? new TextEncoder().encode(data) : data;
  const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes as Uint8Array<ArrayBuffer>));
  return Array.from(hash, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
