import type { Graph } from "../graph/graph.ts";
import { encodeOnnx } from "./onnx/index.ts";

/** Digest of everything a graph holds, one weight in memory at a time. */
export async function graphDigest(graph: Graph): Promise<string> {
  const parts = [await digest(encodeOnnx(graph, () => ({ location: "w", offset: 0 })))];
  for (const [name, weight] of graph.weights) {
    if (!weight.strings) parts.push(name, await digest(weight.bytes()));
  }
  return digest(parts.join("\n"));
}

/** SHA-256 in hexadecimal. */
export async function digest(data: string | Uint8Array): Promise<string> {
  const bytes = typeof data === "string" ? new TextEncoder().encode(data) : data;
  const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes as Uint8Array<ArrayBuffer>));
  return Array.from(hash, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
