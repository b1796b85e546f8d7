import {
  chmodSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeEach, describe, expect, test } from "vitest";
import { encodeOnnx } from "../formats/onnx/index.ts";
import { type Graph, makeGraph, makeNode } from "../graph/graph.ts";
import { lazyTensor, tensor } from "../tensor/tensor.ts";
import { load, save } from "./node.ts";

const root = mkdtempSync(join(tmpdir(), "pare-save-"));
afterAll(() => rmSync(root, { recursive: true, force: true }));

let folder = "";
beforeEach(() => {
  folder = mkdtempSync(join(root, "case-"));
});

function sample(seed = 1, read?: (offset: number, length: number) => Uint8Array): Graph {
  const data = Float32Array.from({ length: 1 << 16 }, (_, i) => Math.sin(i * seed));
  const w = read ? lazyTensor("float32", [256, 256], read) : tensor("float32", [256, 256], data);
  return makeGraph({
    nodes: [makeNode("MatMul", ["x", "w"], ["y"])],
    weights: new Map([["w", w]]),
    inputs: [{ name: "x", type: { kind: "tensor", dtype: "float32", shape: [1, 256] } }],
    outputs: [{ name: "y" }],
  });
}

const weight = (graph: Graph): Uint8Array => graph.weights.get("w")!.bytes();

describe("save", () => {
  test("writes what the encoder says, and says how much", async () => {
    const path = join(folder, "model.onnx");
    const { bytes } = await save(sample(), path);
    expect(new Uint8Array(readFileSync(path))).toEqual(encodeOnnx(sample()));
    expect(bytes).toBe(statSync(path).size);
    expect(readdirSync(folder)).toEqual(["model.onnx"]);
  });

  test("external data stands beside the model under a name made of its content", async () => {
    const path = join(folder, "model.onnx");
    const first = await save(sample(), path, { external: true });
    expect(first.external).toMatch(/model\.onnx\.[0-9a-f]{12}\.data$/);
    expect(first.bytes).toBe(statSync(path).size + statSync(first.external!).size);
    expect(weight(await load(path))).toEqual(weight(sample()));
    const model = readFileSync(path);
    const again = await save(sample(), path, { external: true });
    expect(again).toEqual(first);
    expect(readFileSync(path)).toEqual(model);
  });

  test("auto keeps external data external, and small models whole", async () => {
    const [outside, copy, whole] = ["outside", "copy", "whole"].map((name) => join(folder, `${name}.onnx`));
    await save(sample(), outside!, { external: true });
    expect((await save(await load(outside!), copy!)).external).toContain("copy.onnx.");
    expect((await save(await load(outside!), whole!, { external: false })).external).toBeUndefined();
    expect((await save(await load(whole!), copy!)).external).toBeUndefined();
    expect(weight(await load(copy!))).toEqual(weight(sample()));
  });

  test("a model in place keeps its data until it is replaced", async () => {
    const path = join(folder, "model.onnx");
    await save(sample(1), path, { external: true });
    const old = await load(path);
    await save(sample(2), path, { external: true });
    expect(weight(old)).toEqual(weight(sample(1)));
    expect(weight(await load(path))).toEqual(weight(sample(2)));
  });

  test("refuses to write over the file that the weights are read from, by any name", async () => {
    const path = join(folder, "model.onnx");
    await save(sample(), path);
    const before = readFileSync(path);
    const link = join(folder, "link.onnx");
    symlinkSync(path, link);
    const graph = await load(path);
    for (const name of [path, link]) await expect(save(graph, name)).rejects.toThrow("still read from this file");
    expect(readFileSync(path)).toEqual(before);
    expect(readdirSync(folder).sort()).toEqual(["link.onnx", "model.onnx"]);
  });

  test("keeps the permissions of the file it replaces, and a write-protected file as it is", async () => {
    const path = join(folder, "model.onnx");
    writeFileSync(path, "private", { mode: 0o600 });
    await save(sample(), path);
    expect(statSync(path).mode & 0o777).toBe(0o600);
    chmodSync(path, 0o400);
    await expect(save(sample(2), path)).rejects.toThrow("is write-protected. Choose another name.");
    expect(weight(await load(path))).toEqual(weight(sample()));
  });

  test("leaves nothing behind when it fails, and what was there as it was", async () => {
    const path = join(folder, "model.onnx");
    writeFileSync(path, "before");
    const broken = sample(1, () => {
      throw new Error("the source is gone");
    });
    for (const external of [true, false]) {
      await expect(save(broken, path, { external })).rejects.toThrow(`${path}: can't be written (the source is gone)`);
      expect(readFileSync(path, "utf8")).toBe("before");
      expect(readdirSync(folder)).toEqual(["model.onnx"]);
    }
  });

  test("stops when it is aborted", async () => {
    const stop = new AbortController();
    const reading = sample(1, (_, length) => {
      stop.abort(new Error("enough"));
      return new Uint8Array(length);
    });
    await expect(save(reading, join(folder, "a.onnx"), { signal: stop.signal })).rejects.toThrow("enough");
    await expect(save(reading, join(folder, "a.onnx"), { signal: stop.signal, external: true })).rejects.toThrow(
      "enough",
    );
    expect(readdirSync(folder)).toEqual([]);
  });

  test("names what is wrong with the place", async () => {
    await expect(save(sample(), join(folder, "no", "model.onnx"))).rejects.toThrow("Make its folder first.");
    await expect(save(sample(), folder)).rejects.toThrow("is not a file");
  });

  test("a full disk is an error with a hint", async () => {
    const full = sample(1, () => {
      throw Object.assign(new Error("no space left on device"), { code: "ENOSPC" });
    });
    await expect(save(full, join(folder, "a.onnx"))).rejects.toThrow("The disk is full");
    expect(readdirSync(folder)).toEqual([]);
  });
});
