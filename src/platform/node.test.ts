import { execFile } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, describe, expect, test } from "vitest";
import { encodeOnnx, planExternal } from "../formats/onnx/index.ts";
import { type Graph, makeGraph, makeNode, type Value } from "../graph/graph.ts";
import { type DType, dtypes } from "../tensor/dtype.ts";
import { float32, int64, type Tensor, tensor, toFloat32, toNumbers } from "../tensor/tensor.ts";
import { load, memory, nodeMeter, providers, resetPeakMemory, runtime } from "./node.ts";

const folder = mkdtempSync(join(tmpdir(), "pare-test-"));
const temporary = mkdtempSync(join(folder, "temporary-"));
const before = process.env.TMPDIR;
process.env.TMPDIR = temporary;
afterAll(() => {
  if (before === undefined) delete process.env.TMPDIR;
  else process.env.TMPDIR = before;
  rmSync(folder, { recursive: true, force: true });
});

const cpu = await runtime({ threads: 1 });

function value(name: string, shape: (number | string)[], dtype: DType = "float32"): Value {
  return { name, type: { kind: "tensor", dtype, shape } };
}

/** y = x . w, w of n x n holding 1 / n. */
function matMul(n: number, w: Tensor = float32([n, n], new Float32Array(n * n).fill(1 / n))): Graph {
  return makeGraph({
    nodes: [makeNode("MatMul", ["x", "w"], ["y"])],
    weights: new Map([["w", w]]),
    inputs: [value("x", ["batch", n])],
    outputs: [value("y", ["batch", n])],
  });
}

const ones = (...shape: number[]): Tensor => float32(shape, new Float32Array(shape.reduce((a, b) => a * b, 1)).fill(1));

describe("runtime", () => {
  test("runs a graph and the bytes of a model alike", async () => {
    for (const model of [matMul(4), encodeOnnx(matMul(4))]) {
      const session = await cpu.open(model);
      const { y } = await session.run({ x: ones(2, 4) });
      expect(y!.shape).toEqual([2, 4]);
      expect([...toFloat32(y!)]).toEqual(Array(8).fill(1));
      expect(session.inputs).toEqual([value("x", ["batch", 4])]);
      await session.release();
    }
  });

  test("writes outputs into the tensors it is given", async () => {
    const session = await cpu.open(matMul(4));
    const memory = new Float32Array(4);
    const y = float32([1, 4], memory);
    await session.run({ x: ones(1, 4) }, { y });
    expect([...memory]).toEqual([1, 1, 1, 1]);
    await session.release();
  });

  test("says what is wrong with feeds, fetches and models", async () => {
    const session = await cpu.open(matMul(4));
    await expect(session.run({ z: ones(1, 4) })).rejects.toThrow("session: the input 'x' is missing. It was given z.");
    await expect(session.run({ x: ones(1, 4) }, ["yy"])).rejects.toThrow("no output 'yy'. Did you mean 'y'?");
    await expect(session.run({ x: ones(1, 3) })).rejects.toThrow(
      /^ONNX Runtime: can't run the model: .*Got: 3 Expected: 4/s,
    );
    await expect(session.profile()).rejects.toThrow("Open it with { profile: true }");
    await session.release();
    await session.release();
    await expect(session.run({ x: ones(1, 4) })).rejects.toThrow("session: it was released. Open another.");
    const broken = makeGraph({ nodes: [makeNode("NoSuchOp", [], ["y"])], inputs: [], outputs: [{ name: "y" }] });
    await expect(cpu.open(broken)).rejects.toThrow(/^ONNX Runtime: refuses the model: .*NoSuchOp/s);
  });

  test("refuses providers that this system lacks", async () => {
    expect(await providers()).toEqual(expect.arrayContaining(["cpu", "wasm"]));
    await expect(runtime({ provider: "cpuu" })).rejects.toThrow(
      /no provider 'cpuu' on this system. Did you mean .*'cpu'/,
    );
    await expect(runtime({ provider: "qnn-npu" })).rejects.toThrow("It offers cpu");
    await expect(runtime({ threads: 0 })).rejects.toThrow("threads must be a count, got 0");
  });

  test("prints nothing of its own about a provider without its libraries", async () => {
    const script = `import { providers, runtime } from "./node.ts";
      for (const provider of (await providers()).filter((name) => !["cpu", "wasm", "webgpu"].includes(name)))
        await runtime({ provider }).catch(({ name, message }) => console.log(name, message));`;
    const { stdout, stderr } = await promisify(execFile)(
      process.execPath,
      ["--import", "tsx", "--input-type=module", "--eval", script],
      // tsx leaves a folder where temporary files go
      { cwd: import.meta.dirname, env: { ...process.env, TMPDIR: folder } },
    );
    expect(stderr).not.toContain("onnxruntime");
    for (const line of stdout.trim().split("\n")) expect(line).toMatch(/^$|^PareError runtime: the provider '/);
  });

  test("maps weights from where they lie, at odd offsets and from several folders", async () => {
    const n = 64;
    const w = Float32Array.from({ length: n * n }, (_, i) => Math.sin(i));
    const graph = matMul(n, float32([n, n], w));
    const whole = join(folder, "odd.onnx");
    // a name of odd length shifts the raw data to an odd offset
    for (const name of ["odd", "even"]) {
      writeFileSync(whole, encodeOnnx({ ...graph, name }));
      const other = join(mkdtempSync(join(folder, "other-")), "model.onnx");
      const plan = planExternal(graph, "weights.bin");
      writeFileSync(other, encodeOnnx(graph, plan.placed));
      writeFileSync(join(other, "..", "weights.bin"), Buffer.concat([...plan.chunks()]));
      const [a, b] = [(await load(whole)).weights.get("w")!, (await load(other)).weights.get("w")!];
      const both = makeGraph({
        nodes: [makeNode("MatMul", ["x", "a"], ["t"]), makeNode("Add", ["t", "b"], ["y"])],
        weights: new Map([
          ["a", a],
          ["b", b],
        ]),
        inputs: [value("x", [n, n])],
        outputs: [value("y", [n, n])],
      });
      const session = await cpu.open(both);
      const x = new Float32Array(n * n);
      for (let i = 0; i < n; i++) x[i * n + i] = 1;
      const { y } = await session.run({ x: float32([n, n], x) });
      expect(Array.from(toFloat32(y!))).toEqual(Array.from(w, (v) => v + v));
      await session.release();
    }
  });

  test("reads a weight's own file when another has taken its place", async () => {
    const path = join(folder, "replaced.onnx");
    writeFileSync(path, encodeOnnx(matMul(64)));
    const graph = await load(path);
    rmSync(path);
    writeFileSync(path, encodeOnnx(matMul(64, ones(64, 64))));
    const session = await cpu.open(graph);
    const { y } = await session.run({ x: ones(1, 64) });
    expect(toFloat32(y!)[0]).toBeCloseTo(1, 5);
    await session.release();
  });

  test("leaves no trace of telemetry", async () => {
    await (await cpu.open(matMul(4))).release();
    expect(process.env.ORT_DISABLE_TELEMETRY).toBe("1");
    expect(readdirSync(temporary)).toEqual([]);
  });

  test("spills large weights from memory to a temporary file and cleans up", async () => {
    const session = await cpu.open(matMul(4200));
    expect(readdirSync(temporary)).toEqual([]);
    const { y } = await session.run({ x: ones(1, 4200) });
    expect(toFloat32(y!)[17]).toBeCloseTo(1, 4);
    await session.release();
  });

  test("profiles kernels, summed over runs, and leaves no file", async () => {
    const session = await cpu.open(matMul(64), { profile: true });
    for (let i = 0; i < 3; i++) await session.run({ x: ones(5, 64) });
    const kernels = await session.profile();
    await session.release();
    const product = kernels.find(({ op }) => op === "MatMul")!;
    expect(product).toMatchObject({ provider: "CPUExecutionProvider", runs: 3, outputBytes: 5 * 64 * 4 });
    expect(product!.median).toBeGreaterThan(0);
    expect(product!.median).toBeLessThan(product!.ms);
    expect(product.ms).toBeGreaterThan(0);
    expect(readdirSync(temporary)).toEqual([]);
  });

  test("opening and releasing sessions does not leak", async () => {
    const bytes = encodeOnnx(matMul(512));
    const cycle = async (times: number): Promise<number> => {
      for (let i = 0; i < times; i++) {
        const session = await cpu.open(bytes);
        await session.run({ x: ones(64, 512) });
        await session.release();
      }
      return memory().resident;
    };
    const before = await cycle(40);
    const after = await cycle(200);
    // each session holds 2 MB (weights, packed weights): a leak would be 400 MB
    expect(after - before).toBeLessThan(150e6);
  });
});

describe("types that JavaScript can't pass", () => {
  const passing: [DType, number[]][] = [
    ["bfloat16", [1, -2, 0.15625, Number.POSITIVE_INFINITY]],
    ["float8e4m3fn", [1, -2, 0.15625, 448]],
    ["float8e5m2", [1, -2, 0.15625, -0]],
    ["float8e4m3fnuz", [1, -2, 0.15625, 240]],
    ["float8e5m2fnuz", [1, -2, 0.15625, 57344]],
    ["float8e8m0", [1, 2, 0.25, 8]],
    ["int2", [1, -2, 0, -1]],
    ["uint2", [1, 2, 0, 3]],
  ];

  test.each(passing)("%s goes in and out, declared or not", async (dtype, numbers) => {
    const x = float32([4], numbers);
    const opset = { opsets: { "": 25 }, irVersion: 13 };
    const cast = makeNode("Cast", ["x"], ["y"], { to: dtypes[dtype].code });
    for (const output of [value("y", [4], dtype), { name: "y" }]) {
      const narrow = await cpu.open(
        makeGraph({ nodes: [cast], inputs: [value("x", [4])], outputs: [output], ...opset }),
      );
      expect(narrow.outputs).toEqual([value("y", [4], dtype)]);
      const { y } = await narrow.run({ x });
      expect(y!.dtype).toBe(dtype);
      expect(toNumbers(y!)).toEqual(numbers);
      const given = tensor(dtype, [4], new Uint8Array(y!.byteLength));
      expect((await narrow.run({ x }, { y: given })).y).toBe(given);
      expect(given.bytes()).toEqual(y!.bytes());
      const back = makeNode("Cast", ["y"], ["z"], { to: dtypes.float32.code });
      const inputs = [value("y", [4], dtype)];
      const wide = await cpu.open(makeGraph({ nodes: [back], inputs, outputs: [{ name: "z" }], ...opset }));
      expect(wide.inputs).toEqual(inputs);
      expect(toNumbers((await wide.run({ y: y! }, ["z"])).z!)).toEqual(numbers);
      await narrow.release();
      await wide.release();
    }
  });

  test("NaN survives, of bfloat16 and of 8-bit floats", async () => {
    for (const dtype of ["bfloat16", "float8e4m3fn"] as const) {
      const cast = makeNode("Cast", ["x"], ["y"], { to: dtypes[dtype].code });
      const session = await cpu.open(makeGraph({ nodes: [cast], inputs: [value("x", [1])], outputs: [{ name: "y" }] }));
      const { y } = await session.run({ x: float32([1], [Number.NaN]) });
      expect(toNumbers(y!)).toEqual([Number.NaN]);
      await session.release();
    }
  });

  test("outputs that can't be had by any means are left out, and refused where nothing else is asked for", async () => {
    const four = tensor("float4e2m1", [4], Uint8Array.of(0x21, 0x43));
    const graph = makeGraph({
      nodes: [makeNode("Neg", ["x"], ["y"])],
      weights: new Map([["z", four]]),
      inputs: [value("x", [1])],
      outputs: [{ name: "y" }, { name: "z" }],
      opsets: { "": 23 },
      irVersion: 11,
    });
    const session = await cpu.open(graph);
    expect(session.outputs.map(({ name }) => name)).toEqual(["y"]);
    expect(toNumbers((await session.run({ x: float32([1], [2]) })).y!)).toEqual([-2]);
    await session.release();
    const alone = cpu.open({ ...graph, outputs: [{ name: "z" }] });
    await expect(alone).rejects.toThrow("can't hand out 'z' (float4e2m1). Ask for other outputs.");
  });

  test("other outputs of the same model are untouched", async () => {
    const graph = makeGraph({
      nodes: [makeNode("Cast", ["x"], ["y"], { to: dtypes.bfloat16.code }), makeNode("Shape", ["y"], ["z"])],
      inputs: [value("x", [3])],
      outputs: [{ name: "y" }, { name: "z" }],
    });
    const session = await cpu.open(encodeOnnx(graph));
    const { y, z } = await session.run({ x: float32([3], [1, 2, 3]) });
    expect([y!.dtype, z!.dtype]).toEqual(["bfloat16", "int64"]);
    expect(z!.bytes()).toEqual(int64([3]).bytes());
    await session.release();
  });
});

describe("memory", () => {
  test("the peak is what was held, and starts anew", () => {
    let held: Uint8Array | undefined = new Uint8Array(2e8).fill(1);
    const { resident, peak } = memory();
    expect(resident).toBeGreaterThan(held.length);
    expect(peak).toBeGreaterThanOrEqual(resident);
    held = undefined;
    expect(resetPeakMemory()).toBe(existsSync("/proc/self/clear_refs"));
    expect(nodeMeter.peak()).toBeGreaterThan(0);
  });
});
