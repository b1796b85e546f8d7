import { makeGraph, makeNode } from "../graph/graph.ts";
import { float32 } from "../tensor/tensor.ts";
import type { Runtime } from "./runtime.ts";

const known = new WeakMap<Runtime, Promise<number | undefined>>();

/**
 * Channels in a block of the layout that the runtime's fastest convolutions use on this processor (16 with AVX-512, 8
 * with AVX2); undefined where the runtime has no such layout.
 */
export function channelBlock(runtime: Runtime): Promise<number | undefined> {
  const block = known.get(runtime) ?? probe(runtime);
  known.set(runtime, block);
  return block;
}

/** Reorders a pixel of four channels and looks how many come out. */
async function probe(runtime: Runtime): Promise<number | undefined> {
  if (runtime.provider !== "cpu") return undefined;
  const graph = makeGraph({
    nodes: [makeNode("com.microsoft.nchwc:ReorderInput", ["x"], ["y"])],
    inputs: [{ name: "x", type: { kind: "tensor", dtype: "float32", shape: [1, 4, 1, 1] } }],
    outputs: [{ name: "y" }],
    opsets: { "": 21, "com.microsoft.nchwc": 1 },
  });
  try {
    const session = await runtime.open(graph);
    const { y } = await session.run({ x: float32([1, 4, 1, 1], [1, 2, 3, 4]) });
    await session.release();
    return y!.shape[1]! > 4 ? y!.shape[1] : undefined;
  } catch {
    return undefined;
  }
}
