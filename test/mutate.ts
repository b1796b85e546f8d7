import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import {
  type GraphProto,
  type ModelProto,
  ModelProtoSchema,
  NodeProtoSchema,
  TensorProto_DataLocation,
} from "onnx-buf";
import { PareError } from "../src/errors.ts";
import { encodeOnnx, readOnnx } from "../src/formats/onnx/index.ts";
import { fields } from "../src/formats/onnx/wire.ts";
import { memorySource } from "../src/formats/source.ts";
import { float, type Graph, makeGraph, makeNode, type Subgraph, type Value } from "../src/graph/graph.ts";
import { print } from "../src/graph/print.ts";
import { validate } from "../src/graph/validate.ts";
import { checkOperators } from "../src/ops/check.ts";
import type { Random } from "../src/random.ts";
import { float32, int64, stringTensor, tensor } from "../src/tensor/tensor.ts";

const value = (name: string): Value => ({ name, type: { kind: "tensor", dtype: "float32", shape: ["n", 8] } });

/** Small models that between them use most of what a file can hold. */
export function seedModels(): Uint8Array[] {
  const ramp = float32(
    [8, 8],
    Float32Array.from({ length: 64 }, (_, i) => i / 7 - 4),
  );
  const branch = (op: string): Subgraph => ({
    name: op,
    nodes: [makeNode(op, ["h"], [`${op}_t`]), makeNode("Add", [`${op}_t`, "k"], [`${op}_y`])],
    weights: new Map([["k", float32([8], new Float32Array(8))]]),
    sparse: new Map(),
    inputs: [],
    outputs: [value(`${op}_y`)],
    declared: new Map(),
  });
  const plain = makeGraph({
    name: "plain",
    inputs: [value("x")],
    outputs: [value("y")],
    nodes: [
      makeNode("Gemm", ["x", "w", "b"], ["h"], { alpha: float(0.5), transB: 1 }, "fc1"),
      makeNode("Relu", ["h"], ["r"], {}, "act"),
      makeNode("Reshape", ["r", "shape"], ["s"], { allowzero: 0 }, "view"),
      makeNode("Softmax", ["s"], ["y"], { axis: -1 }, "out"),
    ],
    weights: new Map([
      ["w", ramp],
      ["b", float32([8], new Float32Array(8))],
      ["shape", int64([0, -1])],
      ["large", float32([40, 40], new Float32Array(1600))],
      ["q", tensor("int4", [5], Uint8Array.of(0x21, 0x43, 0x05))],
      ["text", stringTensor([2], ["a", Uint8Array.of(0xff)])],
    ]),
    declared: new Map([["h", value("h")]]),
    metadata: { author: "someone" },
  });
  const nested = makeGraph({
    name: "nested",
    inputs: [value("x"), { name: "c", type: { kind: "tensor", dtype: "bool", shape: [] } }],
    outputs: [value("y"), { name: "z", type: { kind: "sequence", element: { kind: "tensor", dtype: "int64" } } }],
    nodes: [
      makeNode("Identity", ["x"], ["h"]),
      makeNode("If", ["c"], ["y"], {
        then_branch: { type: "graph", value: branch("Neg") },
        else_branch: { type: "graph", value: branch("Abs") },
      }),
      makeNode("SequenceEmpty", [], ["z"], { dtype: 7 }),
      makeNode("my.own:F", ["h"], ["unused"], { slope: float(2), names: ["p", "q"] }),
    ],
    sparse: new Map([["sp", { values: float32([2], [1, 2]), indices: int64([3, 5]), shape: [9] }]]),
    opsets: { "": 21, "my.own": 1 },
    functions: [
      {
        name: "F",
        domain: "my.own",
        overload: "",
        inputs: ["a"],
        outputs: ["o"],
        attributes: ["slope"],
        defaults: { names: { type: "strings", value: ["d"] } },
        nodes: [makeNode("LeakyRelu", ["a"], ["o"], { alpha: { type: "ref", value: "slope", of: "FLOAT" } })],
        opsets: { "": 21 },
        declared: new Map(),
      },
    ],
  });
  return [plain, nested].map((graph) => encodeOnnx(graph));
}

/** One damaged variant of a model. */
export function mutate(bytes: Uint8Array, others: readonly Uint8Array[], random: Random): Uint8Array {
  const kind = mutations[random.int(mutations.length)]!;
  return kind(bytes, random, others[random.int(others.length)]!);
}

type Mutation = (bytes: Uint8Array, random: Random, other: Uint8Array) => Uint8Array;

const mutations: readonly Mutation[] = [
  function flipBits(bytes, random) {
    const out = bytes.slice();
    for (let i = random.int(8); i >= 0; i--) out[random.int(out.length)]! ^= 1 << random.int(8);
    return out;
  },
  function truncate(bytes, random) {
    return bytes.slice(0, random.int(bytes.length));
  },
  function splice(bytes, random, other) {
    const [from, to] = range(other, random);
    const [cut, end] = range(bytes, random);
    return concat(bytes.subarray(0, cut), other.subarray(from, to), bytes.subarray(random.int(2) ? cut : end));
  },
  function spliceField(bytes, random, other) {
    const [a, b] = [anyField(bytes, random), anyField(other, random)];
    return concat(
      bytes.subarray(0, a.start),
      other.subarray(b.start, b.end),
      bytes.subarray(random.int(2) ? a.start : a.end),
    );
  },
  function lieAboutLength(bytes, random) {
    const { start, dataStart } = anyField(bytes, random);
    const lies = [0, 1, 127, 128, 65_535, 2 ** 31 - 1, 2 ** 32, 2 ** 53, 2 ** 63];
    return concat(bytes.subarray(0, start + 1), varint(lies[random.int(lies.length)]!), bytes.subarray(dataStart));
  },
  function overwrite(bytes, random) {
    const out = bytes.slice();
    const [from, to] = range(out, random);
    out.fill([0, 0x7f, 0x80, 0xff][random.int(4)]!, from, Math.min(to, from + 16));
    return out;
  },
  rewritten((graph, random) => {
    const node = graph.node[random.int(graph.node.length)]!;
    const makers = graph.node.flatMap(({ output }) => output);
    node.input[0] = makers[random.int(makers.length)] ?? "";
  }),
  rewritten((graph, random) => {
    const w = graph.initializer[random.int(graph.initializer.length)];
    const dims = [-1n, 0n, 2n ** 31n, 2n ** 62n, 7n];
    if (w) w.dims = Array.from({ length: random.int(6) }, () => dims[random.int(dims.length)]!);
  }),
  rewritten((graph, random) => {
    const w = graph.initializer[random.int(graph.initializer.length)];
    const places = [
      "../secret",
      "/etc/passwd",
      "a/../../secret",
      "link/secret",
      "",
      ".",
      "missing.bin",
      "a\0b",
      "*/_ORT_MEM_ADDR_/*",
    ];
    const offsets = ["0", "-1", "9007199254740993", "1e3", "x"];
    if (!w) return;
    w.dataLocation = TensorProto_DataLocation.EXTERNAL;
    const entry = (key: string, text: string) => ({
      $typeName: "onnx.StringStringEntryProto" as const,
      key,
      value: text,
    });
    const place = [
      entry("location", places[random.int(places.length)]!),
      entry("offset", offsets[random.int(offsets.length)]!),
    ];
    w.externalData = random.int(2) ? [...place, entry("length", offsets[random.int(offsets.length)]!)] : place;
  }),
  rewritten((graph, random) => {
    const node = graph.node[random.int(graph.node.length)]!;
    const names = ["constructor", "__proto__", "toString", "", "x".repeat(70_000), "\ud800"];
    const name = names[random.int(names.length)]!;
    if (random.int(2)) node.opType = name;
    else node.output[0] = name;
    if (random.int(2)) node.domain = name;
    if (random.int(2)) graph.node.push(create(NodeProtoSchema, { opType: name, input: [name], output: [name] }));
  }),
  rewritten((graph, random) => {
    // graphs inside graphs, many deep
    let inner = structuredClone({ ...graph, initializer: [] }) as GraphProto;
    for (let depth = random.int(200); depth > 0; depth--) {
      const attribute = [{ name: "body", type: 5, g: inner }];
      inner = { ...inner, node: [create(NodeProtoSchema, { opType: "Loop", attribute })] };
    }
    graph.node.push(...inner.node);
  }),
];

/** A mutation of the decoded message. Damaged input that can't be decoded passes unchanged. */
function rewritten(change: (graph: GraphProto, random: Random) => void): Mutation {
  return (bytes, random) => {
    let model: ModelProto;
    try {
      model = fromBinary(ModelProtoSchema, bytes);
      if (model.graph?.node.length) change(model.graph, random);
      return toBinary(ModelProtoSchema, model);
    } catch {
      return bytes;
    }
  };
}

function range(bytes: Uint8Array, random: Random): [number, number] {
  const from = random.int(bytes.length);
  return [from, Math.min(bytes.length, from + random.int(200))];
}

/** A field somewhere in the tree of messages. */
function anyField(bytes: Uint8Array, random: Random): { start: number; dataStart: number; end: number } {
  const source = memorySource(bytes);
  let found = { start: 0, dataStart: Math.min(1, bytes.length), end: bytes.length };
  try {
    for (let depth = random.int(6); depth >= 0; depth--) {
      const inner = [...fields(source, depth === 0 && found.start === 0 ? 0 : found.dataStart, found.end)];
      if (inner.length === 0) break;
      found = inner[random.int(inner.length)]!;
      if ((found as { wireType?: number }).wireType !== 2) break;
    }
  } catch {
    // not a message: the field around it will do
  }
  return found;
}

function varint(number: number): Uint8Array {
  const out: number[] = [];
  let rest = BigInt(number);
  for (; rest > 127n; rest >>= 7n) out.push(Number(rest & 127n) | 128);
  return Uint8Array.from([...out, Number(rest)]);
}

function concat(...parts: readonly Uint8Array[]): Uint8Array {
  return new Uint8Array(Buffer.concat(parts));
}

/**
 * Takes a model through everything that pare does with a file: read, check, print, write, read again.
 *
 * @param load reads the file, with its external data if it has any
 * @returns "refused" with a PareError, "invalid" where problems were told, or "valid"
 * @throws whatever else went wrong: a bug
 */
export function survive(bytes: Uint8Array, load = (file: Uint8Array): Graph => readOnnx(memorySource(file))) {
  let graph: Graph;
  try {
    graph = load(bytes);
  } catch (error) {
    if (error instanceof PareError) return "refused";
    throw error;
  }
  const problems = [...validate(graph), ...checkOperators(graph)];
  print(graph);
  const written = encodeOnnx(graph);
  if (Buffer.compare(encodeOnnx(readOnnx(memorySource(written))), written) !== 0) {
    throw new Error("a second round gives other bytes");
  }
  return problems.some(({ level }) => level === "error") ? "invalid" : "valid";
}
