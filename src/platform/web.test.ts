import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { encodeOnnx, planExternal } from "../formats/onnx/index.ts";
import { type Graph, makeGraph, makeNode, type Value } from "../graph/graph.ts";
import { float32, toFloat32, toNumbers } from "../tensor/tensor.ts";
import { runtime as nodeRuntime } from "./node.ts";
import { load, runtime, save } from "./web.ts";

function value(name: string, shape: (number | string)[]): Value {
  return { name, type: { kind: "tensor", dtype: "float32", shape } };
}

function matMul(n: number): Graph {
  return makeGraph({
    nodes: [makeNode("MatMul", ["x", "w"], ["y"])],
    weights: new Map([["w", float32([n, n], new Float32Array(n * n).fill(1 / n))]]),
    inputs: [value("x", ["batch", n])],
    outputs: [value("y", ["batch", n])],
  });
}

const graph = matMul(64);
const x = float32([1, 64], new Float32Array(64).fill(1));

describe("web platform: load and save", () => {
  const bytes = encodeOnnx(graph);
  const plan = planExternal(graph, "weights.bin");
  const files: Record<string, Uint8Array> = {
    "/folder/model.onnx": encodeOnnx(graph, plan.placed),
    "/folder/weights.bin": new Uint8Array(Buffer.concat([...plan.chunks()])),
    "/folder/escape.onnx": encodeOnnx(graph, () => ({ location: "../secret.bin", offset: 0 })),
    "/secret.bin": new Uint8Array(1 << 14),
  };
  const server = createServer(({ url = "" }, response) => {
    const found = files[url];
    response.writeHead(found ? 200 : 404).end(found);
  });
  let base = "";
  beforeAll(async () => {
    await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
    base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  });
  afterAll(() => server.close());

  test("a graph survives bytes, buffers and Blobs", async () => {
    expect(new Uint8Array(await (await save(graph)).arrayBuffer())).toEqual(bytes);
    for (const model of [bytes, bytes.buffer, await save(graph)]) {
      expect(encodeOnnx(await load(model))).toEqual(bytes);
    }
  });

  test("external data comes from what is given, or from beside the model's address", async () => {
    const given = await load(files["/folder/model.onnx"]!, {
      external: { "weights.bin": files["/folder/weights.bin"]! },
    });
    expect(given.weights.get("w")!.bytes()).toEqual(graph.weights.get("w")!.bytes());
    const fetched = await load(`${base}/folder/model.onnx`);
    expect(fetched.weights.get("w")!.bytes()).toEqual(graph.weights.get("w")!.bytes());
    await expect(load(files["/folder/model.onnx"]!)).rejects.toThrow("'weights.bin' is needed and not at hand");
  });

  test("refuses what is not there, and external data outside the folder", async () => {
    await expect(load(`${base}/none.onnx`)).rejects.toThrow("can't be fetched (status 404). Check the address.");
    await expect(load(new URL(`${base}/folder/escape.onnx`))).rejects.toThrow("lies outside the model's folder");
  });
});

describe("web platform: runtime on WASM", () => {
  test("gives what Node's runtime gives, from either platform's module", async () => {
    for (const made of [await runtime({ threads: 1 }), await nodeRuntime({ provider: "wasm", threads: 1 })]) {
      expect(made).toMatchObject({ provider: "wasm", threads: 1 });
      expect(made.name).toMatch(/^onnxruntime-web 1\./);
      for (const model of [graph, encodeOnnx(graph)]) {
        const session = await made.open(model);
        expect(session.inputs).toEqual(graph.inputs);
        const { y } = await session.run({ x });
        expect(toFloat32(y!)).toEqual(toFloat32(x));
        await session.release();
      }
    }
  });

  test("writes outputs into the tensors it is given", async () => {
    const session = await (await runtime({ threads: 1 })).open(graph);
    const memory = new Float32Array(64);
    const y = float32([1, 64], memory);
    expect(await session.run({ x }, { y })).toEqual({ y });
    expect(memory).toEqual(toFloat32(x));
    await expect(session.run({ x }, { y: float32([64], memory) })).rejects.toThrow(
      "session: the output 'y' is float32 of shape [1, 64], got a tensor of float32 of shape [64].",
    );
    await session.release();
  });

  test("takes weights of more than 64 MiB as buffers", async () => {
    const n = 4200;
    const session = await (await runtime({ threads: 1 })).open(matMul(n));
    const { y } = await session.run({ x: float32([1, n], new Float32Array(n).fill(1)) });
    expect(toFloat32(y!)[17]).toBeCloseTo(1, 4);
    await session.release();
  });

  test("carries declared bfloat16, and says so where a type is not declared", async () => {
    const made = await runtime({ threads: 1 });
    const narrow = (output: Value): Graph =>
      makeGraph({ nodes: [makeNode("Cast", ["x"], ["y"], { to: 16 })], inputs: [value("x", [2])], outputs: [output] });
    const session = await made.open(narrow({ name: "y", type: { kind: "tensor", dtype: "bfloat16", shape: [2] } }));
    const { y } = await session.run({ x: float32([2], [1, -0.5]) });
    expect(y!.dtype).toBe("bfloat16");
    expect(toNumbers(y!)).toEqual([1, -0.5]);
    await session.release();
    await expect(made.open(narrow({ name: "y" }))).rejects.toThrow("it can't hand out one of the model's outputs");
  });

  test("refuses what it can't do", async () => {
    const made = await runtime({ threads: 1 });
    await expect(made.open(graph, { profile: true })).rejects.toThrow("Profile with onnxruntime-node.");
    await expect(runtime({ provider: "webgpu" })).rejects.toThrow("this browser offers no WebGPU");
    await expect(runtime({ threads: 1.5 })).rejects.toThrow("threads must be a count, got 1.5");
  });
});
