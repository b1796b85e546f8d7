import { readFileSync } from "node:fs";
import { gunzipSync } from "node:zlib";
import { expect, test } from "vitest";
import { evaluate } from "../../src/analysis/index.ts";
import { load, runtime } from "../../src/platform/node.ts";
import { counts } from "./make.ts";
import { digitsData, makePictures } from "./pictures.ts";
import { side } from "./render.ts";

function committed(split: string, kind: string, header: number): Uint8Array {
  return gunzipSync(readFileSync(new URL(`${split}-${kind}-ubyte.gz`, import.meta.url))).subarray(header);
}

test.each(["train", "t10k"] as const)("the committed %s pictures are what the generator makes", (split) => {
  const { pixels, labels } = makePictures(split, 100);
  const images = committed(split, "images-idx3", 16);
  expect(images.length).toBe(counts[split] * side * side);
  expect(Buffer.from(images.subarray(0, pixels.length)).equals(pixels)).toBe(true);
  expect(Buffer.from(committed(split, "labels-idx1", 8).subarray(0, 100)).equals(labels)).toBe(true);
});

test("the committed model reads 99.5 % of the pictures it was not trained on", async () => {
  const graph = await load(new URL("model.onnx", import.meta.url).pathname);
  const test = { pixels: committed("t10k", "images-idx3", 16), labels: committed("t10k", "labels-idx1", 8) };
  const { models } = await evaluate([{ name: "digits", graph }], digitsData({ test }), await runtime());
  expect(models[0]!.scores[0]).toMatchObject({ metric: "top-1" });
  expect(models[0]!.scores[0]!.value).toBeGreaterThanOrEqual(0.995);
});
