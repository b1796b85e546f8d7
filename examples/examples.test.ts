import { execFile } from "node:child_process";
import { mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterAll, expect, test } from "vitest";

const folder = mkdtempSync(join(tmpdir(), "pare-examples-"));
afterAll(() => rmSync(folder, { recursive: true }));

async function runExample(name: string): Promise<{ text: string; bytes: number }> {
  const script = fileURLToPath(new URL(`${name}.ts`, import.meta.url));
  const output = join(folder, `${name}.onnx`);
  const { stdout } = await promisify(execFile)(process.execPath, ["--import", "tsx", script, output]);
  return { text: stdout, bytes: statSync(output).size };
}

const original = statSync(fileURLToPath(new URL("digits/model.onnx", import.meta.url))).size;

test("quantize", async () => {
  const { text, bytes } = await runExample("quantize");
  const [before, after] = [...text.matchAll(/top-1 ([\d.]+)/g)].map(([, value]) => Number(value));
  expect(before).toBeGreaterThan(0.95);
  expect(after).toBeGreaterThan(before! - 0.02);
  expect(bytes).toBeLessThan(original / 3);
}, 120_000);

test("own-step", async () => {
  const { text, bytes } = await runExample("own-step");
  expect(text).toMatch(/^simplify: .*\nroundBiases: (\d+) -> \1 bytes\nquantize-weights: /);
  expect(bytes).toBeLessThan(original / 2);
}, 120_000);

test("prune", async () => {
  const { text, bytes } = await runExample("prune");
  const [, macs, sparsity, drop] = /MACs ([\d.]+), sparsity ([\d.]+), drop (-?[\d.e-]+)/.exec(text)!.map(Number);
  expect(text).toMatch(/^original .*\nround 1 {2}channels 40 % .* kept\nround 2 {2}weights 40 % .* kept\n/);
  expect(macs).toBeLessThan(0.6);
  expect(sparsity).toBeGreaterThan(0.4);
  expect(drop).toBeLessThanOrEqual(0.02);
  expect(bytes).toBeLessThan(0.8 * original);
}, 120_000);

test("finetune", async () => {
  const { text, bytes } = await runExample("finetune");
  const [before, after] = [...text.matchAll(/top-1 ([\d.]+)/g)].map(([, value]) => Number(value));
  expect(before).toBeLessThan(0.5);
  expect(after).toBeGreaterThan(0.9);
  expect(Math.abs(bytes - original)).toBeLessThan(4096);
}, 120_000);

test("prune-keras", async () => {
  const { text } = await runExample("prune-keras");
  const sparsities = [...text.matchAll(/sparsity ([\d.]+)/g)].map(([, value]) => Number(value));
  expect(sparsities.length).toBeGreaterThan(5);
  expect(sparsities[0]).toBeGreaterThan(0.5);
  expect(sparsities.at(-1)).toBeCloseTo(0.9, 2);
  expect(sparsities).toEqual([...sparsities].sort());
  const [before, after] = [...text.matchAll(/top-1 ([\d.]+), (\d+) bytes, (\d+) with gzip/g)].map((found) =>
    found.slice(1).map(Number),
  );
  expect(after![0]).toBeGreaterThan(before![0]! - 0.03);
  expect(after![2]).toBeLessThan(before![2]! / 3);
}, 120_000);
