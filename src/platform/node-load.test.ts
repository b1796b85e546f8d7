import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeEach, describe, expect, test } from "vitest";
import { encodeOnnx } from "../formats/onnx/index.ts";
import { makeGraph } from "../graph/graph.ts";
import { float32 } from "../tensor/tensor.ts";
import { currentPath, fileSource, load } from "./node-load.ts";

const root = mkdtempSync(join(tmpdir(), "pare-load-"));
afterAll(() => rmSync(root, { recursive: true, force: true }));

let folder = "";
beforeEach(() => {
  folder = mkdtempSync(join(root, "case-"));
});

const w = float32(
  [64, 64],
  Float32Array.from({ length: 4096 }, (_, i) => i),
);
const graph = makeGraph({ nodes: [], weights: new Map([["w", w]]), inputs: [], outputs: [{ name: "w" }] });

/** Writes a model whose weight is said to lie at `location`. */
function modelWith(location: string): string {
  const path = join(folder, "model.onnx");
  writeFileSync(
    path,
    encodeOnnx(graph, () => ({ location, offset: 0 })),
  );
  return path;
}

describe("load", () => {
  test("reads weights when they are asked for, of a file since deleted too", async () => {
    const path = join(folder, "model.onnx");
    writeFileSync(path, encodeOnnx(graph));
    const { weights } = await load(path);
    rmSync(path);
    expect(weights.get("w")!.bytes()).toEqual(w.bytes());
    expect(weights.get("w")!.bytes(8, 4)).toEqual(w.bytes(8, 4));
  });

  test("reads weights into memory that is given", async () => {
    const path = join(folder, "model.onnx");
    writeFileSync(path, encodeOnnx(graph));
    const { weights } = await load(path);
    const scratch = new Uint8Array(64);
    expect(weights.get("w")!.bytes(128, 64, scratch)).toBe(scratch);
    expect(scratch).toEqual(w.bytes(128, 64));
  });

  test("finds external data in the model's folder and below", async () => {
    mkdirSync(join(folder, "sub"));
    for (const location of ["weights.bin", "sub/weights.bin", "./sub/../weights.bin"]) {
      writeFileSync(join(folder, location), w.bytes());
      expect((await load(modelWith(location))).weights.get("w")!.bytes()).toEqual(w.bytes());
    }
  });

  test("opens nothing outside the model's folder", async () => {
    const secret = join(root, "secret.bin");
    writeFileSync(secret, w.bytes());
    symlinkSync(secret, join(folder, "link.bin"));
    symlinkSync(root, join(folder, "up"));
    for (const location of ["../secret.bin", secret, "link.bin", "up/secret.bin", "sub/../../secret.bin", "."]) {
      await expect(load(modelWith(location))).rejects.toThrow(`'${location}' lies outside the model's folder`);
    }
  });

  test("names external data that is missing or cut short", async () => {
    await expect(load(modelWith("none.bin"))).rejects.toThrow("Put that file beside the model.");
    writeFileSync(join(folder, "short.bin"), w.bytes(0, 100));
    await expect(load(modelWith("short.bin"))).rejects.toThrow(
      "its data ends at byte 16384 of 'short.bin', which has 100",
    );
  });

  test("says what is wrong with a path", async () => {
    await expect(load(join(folder, "none.onnx"))).rejects.toThrow(/none.onnx: can't be opened .*Check the path/);
    await expect(load(folder)).rejects.toThrow("is not a file");
    writeFileSync(join(folder, "empty.onnx"), "");
    await expect(load(join(folder, "empty.onnx"))).rejects.toThrow("the file is empty");
  });
});

describe("fileSource", () => {
  test.runIf(process.platform !== "win32")("refuses a named pipe instead of waiting for it", () => {
    const path = join(folder, "pipe");
    execFileSync("mkfifo", [path]);
    expect(() => fileSource(path)).toThrow("is not a file");
  });

  test("refuses to read beyond the end, and notices a file that shrinks", () => {
    const path = join(folder, "bytes");
    writeFileSync(path, new Uint8Array(1000).fill(7));
    const source = fileSource(path);
    expect(source.read(990, 10)).toEqual(new Uint8Array(10).fill(7));
    expect(() => source.read(990, 11)).toThrow("bytes 990 to 1001 lie beyond its end at 1000");
    truncateSync(path, 100);
    expect(() => source.read(90, 20)).toThrow("ended at byte 100 while being read");
  });

  test("knows whether its file is still the one at its path", () => {
    const path = join(folder, "bytes");
    writeFileSync(path, "one");
    const source = fileSource(path);
    expect(currentPath(source)).toBe(realpathSync(path));
    rmSync(path);
    expect(currentPath(source)).toBeUndefined();
    writeFileSync(path, "two");
    expect(currentPath(source)).toBeUndefined();
  });
});
