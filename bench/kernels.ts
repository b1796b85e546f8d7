/**
 * What a format does to the time of one layer, by the provider that runs it: `npx tsx bench/kernels.ts`
 *
 * Each layer is a graph of its own, quantized by pare's techniques and timed beside its float form in runs that take
 * turns, one thread. WebAssembly is onnxruntime-web's, in Node.
 */
import { measureLatency } from "../src/analysis/latency.ts";
import type { Dataset } from "../src/data/dataset.ts";
import { datasetOf } from "../src/data/samples.ts";
import { messageOf } from "../src/errors.ts";
import { type Graph, makeGraph, makeNode } from "../src/graph/graph.ts";
import { runtime } from "../src/platform/node.ts";
import type { Runtime } from "../src/platform/runtime.ts";
import { random } from "../src/random.ts";
import { techniques } from "../src/techniques/index.ts";
import { testContext } from "../src/techniques/testing.ts";
import { float32, sizeOf, type Tensor } from "../src/tensor/tensor.ts";
import { record, table } from "./document.ts";

const stream = random(1);
const draw = (shape: readonly number[], scale = 1): Tensor =>
  float32(
    shape,
    Float32Array.from({ length: sizeOf(shape) }, () => scale * stream.normal()),
  );

/** A product or a convolution as a graph of its own. */
function layer(op: "MatMul" | "Conv", x: readonly number[], w: readonly number[], attributes = {}): Graph {
  return makeGraph({
    nodes: [makeNode(op, ["x", "w"], ["y"], attributes, "layer")],
    weights: new Map([["w", draw(w, 1 / Math.sqrt(sizeOf(w) / w[op === "Conv" ? 0 : 1]!))]]),
    inputs: [{ name: "x", type: { kind: "tensor", dtype: "float32", shape: [...x] } }],
    outputs: [{ name: "y" }],
  });
}

const around = { pads: [1, 1, 1, 1] };
const layers: Readonly<Record<string, Graph>> = {
  "MatMul 1024 x 1024, 1 row": layer("MatMul", [1, 1024], [1024, 1024]),
  "MatMul 1024 x 1024, 64 rows": layer("MatMul", [64, 1024], [1024, 1024]),
  "Conv 3x3, 16 channels, 32x32": layer("Conv", [1, 16, 32, 32], [16, 16, 3, 3], around),
  "Conv 3x3, 64 channels, 56x56": layer("Conv", [1, 64, 56, 56], [64, 64, 3, 3], around),
  "Conv 1x1, 256 channels, 14x14": layer("Conv", [1, 256, 14, 14], [256, 256, 1, 1]),
  "Conv 3x3 depthwise, 96 channels, 56x56": layer("Conv", [1, 96, 56, 56], [96, 1, 3, 3], { ...around, group: 96 }),
};

const every = { minElements: 1 };
const formats: Readonly<Record<string, readonly [technique: string, options: Readonly<Record<string, unknown>>]>> = {
  int8: ["quantize-static", { target: "size", depthwise: "quantize", protect: false, method: "min-max" }],
  dynamic8: ["quantize-dynamic", { conv: "integer" }],
  weights8: ["quantize-weights", { bits: 8, granularity: "channel", ...every }],
  weights4: ["quantize-weights", { bits: 4, ...every }],
  weights2: ["quantize-weights", { bits: 2, ...every }],
  fp16: ["convert-float", {}],
};

/** Samples for calibration: noise, as the layers' inputs. */
function noise(shape: readonly number[]): Dataset {
  const read = async (indices: readonly number[]) => ({ inputs: { x: draw(shape) }, size: indices.length });
  return datasetOf("noise", new Map([["all", { count: 8, read }]]));
}

/** Float time over the format's; the reason where there is none. */
async function faster(graph: Graph, format: string, engine: Runtime): Promise<string> {
  const [technique, options] = formats[format]!;
  const type = graph.inputs[0]!.type;
  const shape = type?.kind === "tensor" ? (type.shape as readonly number[]) : [];
  try {
    const context = { ...testContext(engine), data: noise(shape) };
    const made = await techniques[technique]!(options).apply(graph, context);
    if (made === graph) return "-";
    const models = [
      { name: "float", graph },
      { name: format, graph: made },
    ];
    const { models: timed } = await measureLatency(models, engine, { x: draw(shape) }, { seconds: 1, seed: 1 });
    return `${(1 / timed[1]!.ratio!).toFixed(2)}x`;
  } catch (error) {
    console.error(`${format}: ${messageOf(error)}`);
    return "fails";
  }
}

const parts: string[] = [];
for (const provider of ["cpu", "wasm"]) {
  const engine = await runtime({ provider, threads: 1 });
  const rows: string[][] = [];
  for (const [name, graph] of Object.entries(layers)) {
    const row = [name];
    for (const format of Object.keys(formats)) row.push(await faster(graph, format, engine));
    console.log(provider, row.join(" | "));
    rows.push(row);
  }
  parts.push(`### ${engine.name}, ${provider}`, table(["layer", ...Object.keys(formats)], rows));
}
const body = `How many times faster than float one layer is in a format, conversions of its input and output included, one thread.
Above 1 a format pays in time. \`pare quantize --target ms=...\` measures the same for the layers of the model at hand.

${parts.join("\n\n")}`;
record("kernels", "What pays where", "npx tsx bench/kernels.ts", body);
