import { spawn } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { afterAll, describe, expect, test } from "vitest";
import { load } from "../src/platform/node.ts";
import { toFloat32 } from "../src/tensor/tensor.ts";

const folder = mkdtempSync(join(tmpdir(), "pare-kill-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const src = pathToFileURL(new URL("../src/", import.meta.url).pathname).href;

/** Saves models of one constant value each over the same file, by turns whole and with external data, until killed. */
const endless = `
import { makeGraph, makeNode } from "${src}graph/graph.ts";
import { save } from "${src}platform/node.ts";
import { float32 } from "${src}tensor/tensor.ts";
for (let i = 1; ; i++) {
  const w = float32([1024, 1024], new Float32Array(1 << 20).fill(i));
  const value = { name: "x", type: { kind: "tensor", dtype: "float32", shape: [1, 1024] } };
  const nodes = [makeNode("MatMul", ["x", "w"], ["y"])];
  const graph = makeGraph({ name: String(i), nodes, weights: new Map([["w", w]]), inputs: [value], outputs: [{ name: "y" }] });
  await save(graph, process.argv[1], { external: i % 2 === 0 });
  if (i === 1) console.log("begun");
}`;

async function killedAfter(path: string, ms: number): Promise<void> {
  const child = spawn(process.execPath, ["--import", "tsx", "--input-type=module", "-e", endless, path], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const ended = new Promise((done) => child.once("close", done));
  await new Promise((begun) => child.stdout.once("data", begun));
  await new Promise((done) => setTimeout(done, ms));
  child.kill("SIGKILL");
  await ended;
}

describe("killed while saving", () => {
  test("the model in place is always a whole one", async () => {
    const path = join(folder, "model.onnx");
    for (const ms of [3, 17, 41, 77, 130]) {
      await killedAfter(path, ms);
      const graph = await load(path);
      const w = toFloat32(graph.weights.get("w")!);
      expect(w).toHaveLength(1 << 20);
      expect(w.every((v) => v === Number(graph.name))).toBe(true);
      // what a killed process leaves is hidden, or a data file that no model refers to yet
      const visible = readdirSync(folder).filter((name) => !name.startsWith(".pare-"));
      for (const name of visible) expect(name).toMatch(/^model\.onnx(\.[0-9a-f]{12}\.data)?$/);
    }
  });
});
