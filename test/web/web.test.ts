import { build } from "esbuild";
import { describe, expect, test } from "vitest";
import { encodeOnnx } from "../../src/formats/onnx/index.ts";
import { runtime } from "../../src/platform/node.ts";
import { noiseImages, smallNetwork } from "./model.ts";
import { inChromium, testBrowser } from "./page.ts";
import compress, { type Job, type Outcome } from "./pages/compress.ts";
import predict, { type Prediction } from "./pages/predict.ts";

const node = await runtime({ threads: 1 });

describe("the library in a browser", () => {
  test("bundles without Node's modules", async () => {
    const contents = `export * from "./src/index.ts"; export * as web from "./src/platform/web.ts";`;
    const { metafile } = await build({
      stdin: { contents, resolveDir: new URL("../..", import.meta.url).pathname },
      bundle: true,
      format: "esm",
      platform: "browser",
      write: false,
      metafile: true,
      outdir: "bundle",
      logLevel: "silent",
    });
    const external = Object.values(metafile.inputs).flatMap(({ imports }) => imports.filter((i) => i.external));
    // "<runtime>" is esbuild's own helper code
    expect(external.map(({ path }) => path).filter((path) => path !== "<runtime>")).toEqual([]);
    expect(Object.keys(metafile.inputs).filter((path) => path.includes("onnxruntime-node"))).toEqual([]);
    expect(Object.keys(metafile.inputs)).toContain("src/platform/web.ts");
  });

  test.runIf(testBrowser)("a model predicts in the page what it predicts in Node", async () => {
    const args: Prediction = { model: encodeOnnx(smallNetwork()), samples: noiseImages(8) };
    const here = await predict(node, args);
    const there = await inChromium<Prediction, number[]>("predict", args);
    expect(there).toHaveLength(80);
    // both sum in float32, in different orders
    for (const [i, logit] of there.entries()) expect(logit).toBeCloseTo(here[i]!, 4);
  });
});

describe.runIf(testBrowser)("compression in a browser", () => {
  const jobs: [technique: string, options: Readonly<Record<string, unknown>>][] = [
    ["simplify", {}],
    ["convert-float", {}],
    ["quantize-dynamic", {}],
    ["quantize-static", {}],
    ["quantize-weights", { bits: 4 }],
    ["quantize-weights", { bits: 8, granularity: "channel", format: "dequantize" }],
  ];

  test.each(jobs)("%s %o gives the bytes and the logits that Node gives on WASM", async (technique, options) => {
    const samples = noiseImages(32);
    const args: Job = { model: encodeOnnx(smallNetwork()), samples, technique, options };
    const wasm = await runtime({ provider: "wasm", threads: 2 });
    const { model } = await compress(wasm, args);
    const there = await inChromium<Job, Outcome>("compress", args);
    expect(there.model).toEqual(model);
    expect(there.model).not.toEqual(args.model);
    const logits = await inChromium<Prediction, number[]>("predict", { model, samples });
    expect(logits).toEqual(await predict(wasm, { model, samples }));
  });
});
