import { readFileSync } from "node:fs";
import { gunzipSync } from "node:zlib";
import { expect, test } from "vitest";
import { load, runtime } from "../../src/platform/node.ts";
import { random } from "../../src/random.ts";
import { gram, solve } from "./linear.ts";
import { counts, makePictures } from "./make.ts";
import { accuracy } from "./model.ts";
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

test("the committed model reaches 97 % on pictures it was not fitted on", async () => {
  const model = await load(new URL("model.onnx", import.meta.url).pathname);
  const set = { pixels: committed("t10k", "images-idx3", 16), labels: committed("t10k", "labels-idx1", 8) };
  expect(await accuracy(model, set, await runtime())).toBeGreaterThanOrEqual(0.97);
});

test("solve gives back the solution of a ridge problem", () => {
  const stream = random(3);
  const x = Float64Array.from({ length: 20 * 4 }, () => stream.normal());
  const a = gram(x, 20, 4);
  const truth = [1, -2, 0.5, 3];
  const b = truth.map((_, i) => truth.reduce((sum, v, j) => sum + (a.data[i * 4 + j]! + (i === j ? 0.1 : 0)) * v, 0));
  const { data } = solve(a, { rows: 4, columns: 1, data: Float64Array.from(b) }, 0.1);
  for (const [i, v] of truth.entries()) expect(data[i]).toBeCloseTo(v, 9);
});
