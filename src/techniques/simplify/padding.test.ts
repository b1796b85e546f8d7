import { describe, expect, test } from "vitest";
import { float, type Graph, makeGraph, makeNode } from "../../graph/graph.ts";
import { runtime } from "../../platform/node.ts";
import { float32, int64, type Tensor } from "../../tensor/tensor.ts";
import { normal, operators, outputOf, testContext } from "../testing.ts";
import { simplify } from "./index.ts";

const onnx = await runtime({ threads: 1 });

interface Case {
  /** Inputs of the Pad behind its first. */
  readonly inputs?: readonly string[];
  readonly pad?: Parameters<typeof makeNode>[3];
  readonly conv?: Parameters<typeof makeNode>[3];
  readonly weights?: Readonly<Record<string, Tensor>>;
  readonly opset?: number;
}

function paddedConvolution({ inputs = ["amounts"], pad, conv, weights, opset = 18 }: Case): Graph {
  return makeGraph({
    nodes: [makeNode("Pad", ["x", ...inputs], ["p"], pad), makeNode("Conv", ["p", "w"], ["y"], conv, "conv")],
    weights: new Map(Object.entries({ w: normal([4, 4, 3, 3]), amounts: int64([0, 0, 0, 0, 0, 0, 1, 2]), ...weights })),
    inputs: [{ name: "x", type: { kind: "tensor", dtype: "float32", shape: ["batch", 4, 6, 6] } }],
    outputs: [{ name: "y", type: { kind: "tensor", dtype: "float32" } }],
    opsets: { "": opset },
  });
}

const zero = float32([], [0]);
const folded: Readonly<Record<string, [Case, pads: number[]]>> = {
  "zeros below and right": [{}, [0, 0, 1, 2]],
  "added to the convolution's own": [{ conv: { pads: [1, 0, 2, 3] } }, [1, 0, 3, 5]],
  "before a convolution that is VALID": [{ conv: { auto_pad: "VALID", strides: [2, 2] } }, [0, 0, 1, 2]],
  "as an attribute": [{ inputs: [], pad: { pads: [0, 0, 2, 1, 0, 0, 0, 1] }, opset: 9 }, [2, 1, 0, 1]],
  "of given axes": [
    { inputs: ["few", "zero", "axes"], weights: { few: int64([1, 2, 3, 4]), zero, axes: int64([-1, 2]) } },
    [2, 1, 4, 3],
  ],
};

const kept: Readonly<Record<string, Case>> = {
  "of other values": { inputs: ["amounts", "one"], weights: { one: float32([], [1]) } },
  "of other values, by attribute": {
    ...{ inputs: [], opset: 9 },
    pad: { pads: [0, 0, 1, 1, 0, 0, 1, 1], value: float(1) },
  },
  "of channels": { weights: { amounts: int64([0, 1, 0, 0, 0, 0, 0, 0]), w: normal([4, 5, 3, 3]) } },
  "that crops": { weights: { amounts: int64([0, 0, -1, 0, 0, 0, 1, 0]) } },
  "that reflects": { pad: { mode: "reflect" } },
  "before a convolution that pads by size": { conv: { auto_pad: "SAME_UPPER" } },
};

describe("padding before a convolution", () => {
  for (const [name, [given, pads]] of Object.entries(folded)) {
    test(`is the convolution's: ${name}`, async () => {
      const graph = paddedConvolution(given);
      const result = await simplify().apply(graph, testContext(onnx));
      expect(operators(result.nodes)).toBe("Conv 1");
      expect(result.nodes[0]).toMatchObject({ name: "conv", attributes: { pads: { value: pads } } });
      const feeds = { x: normal([2, 4, 6, 6]) };
      expect(await outputOf(onnx, result, feeds)).toEqual(await outputOf(onnx, graph, feeds));
    });
  }

  test.each(Object.entries(kept))("stays a node: %s", async (_, given) => {
    const graph = paddedConvolution(given);
    expect(operators((await simplify().apply(graph, testContext(onnx))).nodes)).toBe("Conv 1, Pad 1");
  });

  test("stays for others that read it", async () => {
    const graph = paddedConvolution({});
    const both = { ...graph, outputs: [...graph.outputs, { name: "p", type: graph.outputs[0]!.type! }] };
    const result = await simplify().apply(both, testContext(onnx));
    expect(operators(result.nodes)).toBe("Conv 1, Pad 1");
    expect(result.nodes.find(({ op }) => op === "Conv")!.inputs[0]).toBe("x");
  });
});
