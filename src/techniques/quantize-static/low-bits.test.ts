import { describe, expect, test } from "vitest";
import { makeNode } from "../../graph/graph.ts";
import { type Tensor, toFloat32, toNumbers } from "../../tensor/tensor.ts";
import { quantizedAlone } from "./alone.ts";
import {
  classifier,
  contextOf,
  dataset,
  kernels,
  network,
  noise,
  outputs,
  quantize,
  ratio,
  samples,
} from "./testing.ts";

/** Depths of the layers between the ends: enough convolutions that some are not ends. */
const graph = classifier();
const plain = { target: "size", protect: false, equalize: false, method: "min-max" };

function codes(weights: ReadonlyMap<string, Tensor>, name: string): number[] {
  return toNumbers(weights.get(`${name}_quantized`)!);
}

describe("weights of fewer bits", () => {
  test.each([6, 5, 4, 3, 2])(
    "%s bits keep their integers in bytes, run on kernels, and cost what they must",
    async (weightBits) => {
      const { graph: quantized } = await quantize(graph, { ...plain, weightBits });
      const half = 2 ** (weightBits - 1);
      for (const name of ["wd", "w2"]) {
        const integers = codes(quantized.weights, name);
        expect([Math.min(...integers), Math.max(...integers)], name).toEqual([-half, half - 1]);
      }
      // the ends keep 8 bits
      for (const name of ["w1", "wf"]) expect(Math.max(...codes(quantized.weights, name).map(Math.abs))).toBe(127);
      expect(await kernels(quantized)).toMatchObject({ QLinearConv: 3, QGemm: 1 });
    },
  );

  test("errors grow as bits go, and scales of least squares beat those that cover all", async () => {
    const quality = async (settings: object): Promise<number> => {
      const { graph: quantized } = await quantize(graph, { ...plain, ...settings });
      return ratio(graph, quantized);
    };
    const by: number[] = [];
    for (const weightBits of [6, 4, 3, 2]) by.push(await quality({ weightBits }));
    expect(by).toEqual(by.toSorted((a, b) => b - a));
    expect(await quality({ weightBits: 3 })).toBeGreaterThan(await quality({ weightBits: 3, weightScales: "min-max" }));
    expect(await quality({ weightBits: 3, keepEnds: false })).toBeLessThan(await quality({ weightBits: 3 }));
    expect(await quality({ weightBits: 3, weightScales: "weighted" })).toBeGreaterThan(3);
  });

  test.each([
    [4, "int4", 21],
    [3, "int4", 21],
    [2, "int2", 25],
  ])("%s bits can be packed as %s", async (weightBits, dtype, opset) => {
    const settings = { ...plain, weightBits };
    const { graph: bytes } = await quantize(graph, settings);
    const { graph: packed } = await quantize(graph, { ...settings, packed: true });
    expect(packed.opsets[""]).toBe(opset);
    expect(packed.weights.get("w2_quantized")!.dtype).toBe(dtype);
    expect(packed.weights.get("w1_quantized")!.dtype).toBe("int8");
    expect(codes(packed.weights, "w2")).toEqual(codes(bytes.weights, "w2"));
    expect(await kernels(packed)).toEqual(await kernels(bytes));
    expect(await ratio(bytes, packed)).toBeGreaterThan(90);
  });

  test("options that contradict each other are refused", async () => {
    await expect(quantize(graph, { weightBits: 6, packed: true })).rejects.toThrow("4 bits or fewer");
    await expect(quantize(graph, { activationBits: 4, activationType: "int8" })).rejects.toThrow("held in uint8");
  });
});

describe("activations of fewer bits", () => {
  test("they are bounded between kernels, and the ends keep 8 bits", async () => {
    const settings = { ...plain, method: "mse", activationBits: 4 };
    const { graph: quantized } = await quantize(graph, settings);
    expect(await kernels(quantized)).toMatchObject({ QLinearConv: 3, QGemm: 1 });
    const seen = {
      ...quantized,
      outputs: quantized.nodes.filter(({ op }) => op === "Clip").map(({ outputs: [name] }) => ({ name: name! })),
    };
    expect(seen.outputs.length).toBeGreaterThan(2);
    const spans = await Promise.all(
      seen.outputs.map(async (output) => {
        const [values] = await outputs({ ...seen, outputs: [output] }, samples.slice(0, 4));
        return Math.max(...values!) - Math.min(...values!);
      }),
    );
    expect(Math.max(...spans)).toBe(15);
    expect(quantized.nodes.filter(({ op }) => op === "QuantizeLinear").length).toBeGreaterThan(seen.outputs.length);
    const eight = await ratio(graph, (await quantize(graph, { ...settings, activationBits: 8 })).graph);
    const six = await ratio(graph, (await quantize(graph, { ...settings, activationBits: 6 })).graph);
    expect(eight).toBeGreaterThan(six);
    expect(six).toBeGreaterThan(await ratio(graph, quantized));
  });

  test("QOperator form bounds them as well", async () => {
    const settings = { ...plain, activationBits: 4 };
    const { graph: qdq } = await quantize(graph, settings);
    const { graph: qoperator } = await quantize(graph, { ...settings, format: "qoperator" });
    expect(qoperator.nodes.map(({ op }) => op)).not.toContain("Conv");
    expect(await ratio(qdq, qoperator)).toBeGreaterThan(20);
  });
});

test("a product's weight is weighed by its inputs too, and gets no bias from it", async () => {
  const product = network({
    nodes: [
      makeNode("Flatten", ["x"], ["f"]),
      makeNode("MatMul", ["f", "wa"], ["a"], {}, "first"),
      makeNode("Relu", ["a"], ["r"]),
      makeNode("MatMul", ["r", "wb"], ["b"], {}, "middle"),
      makeNode("Relu", ["b"], ["s"]),
      makeNode("MatMul", ["s", "wc"], ["y"], {}, "last"),
    ],
    weights: { wa: noise([432, 16], 0.1), wb: noise([16, 16]), wc: noise([16, 4]) },
  });
  // one input of the middle layer is far larger than the others
  const wa = toFloat32(product.weights.get("wa")!);
  for (let k = 0; k < 432; k++) wa[k * 16]! *= 30;
  const quality = async (weightScales: string): Promise<number> => {
    const { graph: quantized } = await quantize(product, {
      ...plain,
      weightBits: 2,
      weightScales,
      biasCorrection: true,
    });
    expect(quantized.nodes.filter(({ op }) => op === "MatMul").every(({ inputs }) => inputs.length === 2)).toBe(true);
    return ratio(product, quantized);
  };
  expect(await quality("weighted")).toBeGreaterThan((await quality("mse")) + 1);
});

describe("bits of single layers", () => {
  const settings = { ...plain, biasCorrection: false };

  test("layers that are named have their own bits, ends too, and the last pattern counts", async () => {
    const { graph: quantized } = await quantize(graph, {
      ...settings,
      weightBits: 6,
      layerBits: { "*wise": 4, pointwise: 3, wf: 5 },
    });
    const reach = (name: string): number => Math.max(...codes(quantized.weights, name)) + 1;
    // the first layer is an end that nobody names
    expect(["w1", "wd", "w2", "wf"].map(reach)).toEqual([128, 8, 4, 16]);
    expect(await kernels(quantized)).toMatchObject({ QLinearConv: 3, QGemm: 1 });
    const same = await quantize(graph, { ...settings, weightBits: 4, layerBits: { "*": 8 } });
    const even = await quantize(graph, { ...settings, weightScales: "mse" });
    expect(codes(same.graph.weights, "wd")).toEqual(codes(even.graph.weights, "wd"));
  });

  test("only what has 4 bits or fewer is packed, whatever the others have", async () => {
    const layerBits = { depthwise: 4, pointwise: 2 };
    const { graph: packed } = await quantize(graph, { ...settings, layerBits, packed: true });
    const dtypes = ["w1", "wd", "w2", "wf"].map((name) => packed.weights.get(`${name}_quantized`)!.dtype);
    expect(dtypes).toEqual(["int8", "int4", "int2", "int8"]);
    expect(packed.opsets[""]).toBe(25);
    const { graph: bytes } = await quantize(graph, { ...settings, layerBits });
    expect(await ratio(bytes, packed)).toBeGreaterThan(90);
    expect(await kernels(packed)).toEqual(await kernels(bytes));
  });

  test("what layers read has the most bits that any of them wants", async () => {
    const seen = async (layerActivationBits: Record<string, number>): Promise<number[]> => {
      const { graph: quantized } = await quantize(graph, { ...settings, layerActivationBits });
      const bound = (value: string): number => toNumbers(quantized.weights.get(`${value}_most`)!)[0]!;
      return ["r1", "rd"].map((value) => (quantized.weights.has(`${value}_most`) ? bound(value) : 255));
    };
    expect(await seen({ depthwise: 4 })).toEqual([15, 255]);
    expect(await seen({ "/depth|point/": 6, pointwise: 4 })).toEqual([63, 15]);
    const both = network({
      nodes: [
        makeNode("Conv", ["x", "w1"], ["c"], {}, "first"),
        makeNode("Relu", ["c"], ["r"]),
        makeNode("Conv", ["r", "wa"], ["a"], {}, "left"),
        makeNode("Conv", ["r", "wb"], ["b"], {}, "right"),
        makeNode("Add", ["a", "b"], ["y"]),
      ],
      weights: { w1: noise([8, 3, 3, 3]), wa: noise([8, 8, 1, 1]), wb: noise([8, 8, 1, 1]) },
    });
    const bits = { left: 4, right: 6 };
    const { graph: shared } = await quantize(both, { ...settings, layerActivationBits: bits });
    expect(toNumbers(shared.weights.get("r_most")!)).toEqual([63]);
    const { graph: free } = await quantize(both, { ...settings, layerActivationBits: { left: 4 } });
    expect(free.weights.has("r_most")).toBe(false);
  });

  test("patterns that no layer fits are refused, and bits that can't be", async () => {
    await expect(quantize(graph, { layerBits: { depthwize: 4 } })).rejects.toThrow(
      /--layer-bits 'depthwize'.*depthwise/,
    );
    await expect(quantize(graph, { layerActivationBits: { Add: 4 } })).rejects.toThrow("--layer-activation-bits 'Add'");
    await expect(quantize(graph, { layerBits: { w2: 6 }, packed: true })).rejects.toThrow("4 bits or fewer");
    const signed = { layerActivationBits: { depthwise: 4 }, activationType: "int8" };
    await expect(quantize(graph, signed)).rejects.toThrow("held in uint8");
  });

  test("learned rounding leaves the layers of 8 bits alone", async () => {
    const product = network({
      nodes: [
        makeNode("Flatten", ["x"], ["f"]),
        makeNode("MatMul", ["f", "wa"], ["a"], {}, "wide"),
        makeNode("MatMul", ["a", "wb"], ["y"], {}, "narrow"),
      ],
      weights: { wa: noise([432, 32], 0.1), wb: noise([32, 4]) },
    });
    // inputs that go together, so that weights can make up for each other
    const wa = toFloat32(product.weights.get("wa")!);
    for (let at = 0; at < wa.length; at++) wa[at] = wa[at - (at % 32) + (at % 4)]!;
    const bits = { ...settings, layerBits: { narrow: 3 } };
    const { graph: nearest } = await quantize(product, bits);
    const learning = { rounding: "adaround", roundingSteps: 300, roundingRate: 0.05, roundingSamples: 24 };
    const { graph: learned, log } = await quantize(product, { ...bits, ...learning });
    expect(codes(learned.weights, "wa")).toEqual(codes(nearest.weights, "wa"));
    expect(log).toContain("wide: rounded to nearest");
    expect(log.some((line) => /^narrow: .* dB less error/.test(line))).toBe(true);
  });
});

test("layers alone are left where the operator set of packed weights is out of reach", async () => {
  const noisy = network({
    nodes: [
      makeNode("Conv", ["x", "w"], ["c"], {}, "layer"),
      makeNode("RandomUniformLike", ["c"], ["r"], {}, "noise"),
      makeNode("Add", ["c", "r"], ["y"]),
    ],
    weights: { w: noise([16, 3, 3, 3]) },
  });
  const graphs = async (settings: Record<string, unknown>, skips = new Map<string, string>()): Promise<number> => {
    let count = 0;
    const context = contextOf(dataset(), skips);
    for await (const made of quantizedAlone(noisy, { target: "size", ...settings }, [new Set(["layer"])], context))
      if (made) count++;
    return count;
  };
  expect(await graphs({})).toBe(1);
  const skips = new Map<string, string>();
  expect(await graphs({ weightBits: 2, packed: true }, skips)).toBe(0);
  expect(skips.get("layer")).toMatch(/^convert to operator set 25: .*noise/);
});

test("fewer bits than 7 are portable as they are", async () => {
  const { graph: portable } = await quantize(graph, { ...plain, weightBits: 4, portable: true });
  expect(Math.min(...codes(portable.weights, "wd"))).toBe(-8);
  expect(Math.max(...codes(portable.weights, "w1").map(Math.abs))).toBe(64);
});
