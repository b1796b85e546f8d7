import { expect, test } from "vitest";
import type { Batch, Dataset } from "../data/dataset.ts";
import { makeGraph, makeNode } from "../graph/graph.ts";
import { runtime } from "../platform/node.ts";
import { random } from "../random.ts";
import { float32, int64 } from "../tensor/tensor.ts";
import { finetune } from "./finetune.ts";

const [vocabulary, length, width] = [12, 6, 16];
const maskToken = vocabulary - 1;

/** Runs of ids one after the other: a hidden one follows from any that is seen. */
const data: Dataset = {
  name: "runs",
  splits: ["train", "val"],
  size: (split) => (split === "val" ? 64 : 512),
  async *batches({ batch, seed = 0, split, skip = 0, limit = Number.POSITIVE_INFINITY }) {
    const r = random(seed);
    const count = Math.min(data.size(split)! - skip, limit);
    for (let at = 0; at < count; at += batch) {
      const ids = Array.from({ length: batch }, () => r.int(vocabulary - 1)).flatMap((first) =>
        Array.from({ length }, (_, t) => (first + t) % (vocabulary - 1)),
      );
      yield { inputs: { ids: int64(ids, [batch, length]) }, size: batch } satisfies Batch;
    }
  },
};

/** Scores of every place from the embeddings of all places. */
function network() {
  const r = random(2);
  const draw = (shape: readonly number[]) => {
    const size = shape.reduce((a, b) => a * b, 1);
    return float32(
      shape,
      Float32Array.from({ length: size }, () => r.normal() / Math.sqrt(shape[0]!)),
    );
  };
  return makeGraph({
    nodes: [
      makeNode("Gather", ["embedding", "ids"], ["embedded"]),
      makeNode("Reshape", ["embedded", "flat"], ["row"]),
      makeNode("MatMul", ["row", "w1"], ["h"]),
      makeNode("Tanh", ["h"], ["a"]),
      makeNode("MatMul", ["a", "w2"], ["scores"]),
      makeNode("Reshape", ["scores", "places"], ["logits"]),
    ],
    weights: new Map([
      ["embedding", draw([vocabulary, width])],
      ["w1", draw([length * width, 64])],
      ["w2", draw([64, length * vocabulary])],
      ["flat", int64([-1, length * width])],
      ["places", int64([-1, length, vocabulary])],
    ]),
    inputs: [{ name: "ids", type: { kind: "tensor", dtype: "int64", shape: ["n", length] } }],
    outputs: [{ name: "logits", type: { kind: "tensor", dtype: "float32", shape: ["n", length, vocabulary] } }],
  });
}

test("a masked language model learns to fill in what is hidden, from tokens without labels", async () => {
  const options = { maskToken, epochs: 12, batch: 64, optimizer: "adam", rate: 0.01, decay: 0 } as const;
  const { records, best } = await finetune(network(), options, { runtime: await runtime({ threads: 1 }), data });
  expect(records[0]!.metric).toBe("perplexity");
  expect(records[0]!.loss).toBeGreaterThan(1);
  expect(records.at(-1)!.loss).toBeLessThan(0.4);
  expect(records.at(-1)!.accuracy).toBeGreaterThan(0.85);
  expect(best.score).toBeLessThan(1.5);
});
