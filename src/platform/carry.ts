import { fail, messageOf } from "../errors.ts";
import { edit } from "../graph/edit.ts";
import { type Graph, makeNode, type Value } from "../graph/graph.ts";
import { type DType, dtypes } from "../tensor/dtype.ts";
import { floatToHalf, smallFloatToFloat } from "../tensor/half.ts";
import { pack, unpack } from "../tensor/pack.ts";
import { type Tensor, tensor, toFloat32 } from "../tensor/tensor.ts";
import type { Session, Tensors } from "./runtime.ts";

/** Types that ONNX Runtime computes with but its JavaScript interface can't pass, and those that hold their values. */
const carriers: Partial<Record<DType, "float32" | "int8" | "uint8">> = {
  bfloat16: "float32",
  float8e4m3fn: "float32",
  float8e4m3fnuz: "float32",
  float8e5m2: "float32",
  float8e5m2fnuz: "float32",
  float8e8m0: "float32",
  int2: "int8",
  uint2: "uint8",
};

/** Types that no operator of ONNX Runtime turns into one that can be passed. */
const stuck: ReadonlySet<DType> = new Set<DType>(["complex64", "complex128", "float4e2m1"]);

/** Element types of a graph's inputs and outputs by name. */
export type BorderTypes = ReadonlyMap<string, DType>;

/**
 * Opens a graph whatever the types at its border. Where JavaScript can't pass one (bfloat16, 8-bit floats, int2),
 * a Cast is put there and the tensor converted, without loss, on this side. Outputs of complex and 4-bit float type
 * can't be had by any means and are left out.
 *
 * @param open opens a session the plain way; gets `graph` itself, or one with casts
 * @param reveal tells the types as the runtime infers them; called when those declared did not suffice
 */
export async function openCarrying(
  graph: Graph,
  open: (graph: Graph) => Promise<Session>,
  reveal?: (graph: Graph) => Promise<BorderTypes>,
): Promise<Session> {
  try {
    return await carried(graph, declaredTypes(graph), open);
  } catch (error) {
    if (!isTypeRefusal(error) || !reveal) throw error;
  }
  return carried(graph, await reveal(graph), open);
}

/** Whether the JavaScript interface refused an element type it has no name for. */
export function isTypeRefusal(error: unknown): boolean {
  return /unsupported data type: \d+/i.test(messageOf(error));
}

function declaredTypes(graph: Graph): BorderTypes {
  const border = [...graph.inputs, ...graph.outputs];
  return new Map(border.flatMap(({ name, type }) => (type?.kind === "tensor" ? [[name, type.dtype] as const] : [])));
}

async function carried(graph: Graph, types: BorderTypes, open: (graph: Graph) => Promise<Session>): Promise<Session> {
  const carrierOf = ({ name }: Value) => carriers[types.get(name) ?? "float32"];
  const inputs = graph.inputs.filter((input) => carrierOf(input) && !graph.weights.has(input.name));
  const outputs = graph.outputs.filter(carrierOf);
  const kept = graph.outputs.filter(({ name }) => !stuck.has(types.get(name) ?? "float32"));
  if (kept.length === 0 && graph.outputs.length > 0) {
    const named = graph.outputs.map(({ name }) => `'${name}' (${types.get(name)})`).join(", ");
    fail("ONNX Runtime", `can't hand out ${named}`, "Ask for other outputs");
  }
  if (inputs.length === 0 && outputs.length === 0 && kept.length === graph.outputs.length) return open(graph);
  const stand = new Map<Value, Value>();
  const casting = edit(graph, (draft) => {
    for (const value of [...inputs, ...outputs]) {
      const dtype = carrierOf(value)!;
      const shape = value.type?.kind === "tensor" ? value.type.shape : undefined;
      const name = draft.fresh(`${value.name}_as_${dtype}`);
      stand.set(value, { name, type: { kind: "tensor", dtype, ...(shape && { shape }) } });
    }
    for (const value of inputs) {
      const to = dtypes[types.get(value.name)!].code;
      draft.add(makeNode("Cast", [stand.get(value)!.name], [value.name], { to }));
    }
    for (const value of outputs) {
      const to = dtypes[carrierOf(value)!].code;
      draft.add(makeNode("Cast", [value.name], [stand.get(value)!.name], { to }));
    }
    draft.inputs = graph.inputs.map((value) => stand.get(value) ?? value);
    draft.outputs = kept.map((value) => stand.get(value) ?? value);
  });
  const names = new Map([...stand].map(([{ name }, standIn]) => [name, standIn.name]));
  return converting(await open(casting), names, types);
}

/** A session that speaks the graph's own names and types, on one that speaks those of the stand-ins. */
function converting(inner: Session, standIns: ReadonlyMap<string, string>, types: BorderTypes): Session {
  const originals = new Map([...standIns].map(([name, standIn]) => [standIn, name]));
  const original = (value: Value): Value => {
    const name = originals.get(value.name);
    if (name === undefined || value.type?.kind !== "tensor") return value;
    return { name, type: { ...value.type, dtype: types.get(name)! } };
  };
  const outward = (all: Tensors): Tensors =>
    Object.fromEntries(Object.entries(all).map(([name, t]) => [standIns.get(name) ?? name, toCarrier(t)]));
  return {
    ...inner,
    inputs: inner.inputs.map(original),
    outputs: inner.outputs.map(original),
    async run(feeds, fetch) {
      const names = Array.isArray(fetch) && (fetch as string[]).map((name) => standIns.get(name) ?? name);
      const results = await inner.run(outward(feeds), names || (fetch && outward(fetch as Tensors)));
      return Object.fromEntries(
        Object.entries(results).map(([key, t]) => {
          const name = originals.get(key);
          if (name === undefined) return [key, t];
          const result = fromCarrier(t, types.get(name)!);
          const given = Array.isArray(fetch) ? undefined : (fetch as Tensors | undefined)?.[name];
          given?.bytes().set(result.bytes());
          return [name, given ?? result];
        }),
      );
    },
  };
}

function toCarrier(t: Tensor): Tensor {
  const carrier = carriers[t.dtype];
  if (!carrier) return t;
  if (carrier === "float32") return tensor(carrier, t.shape, toFloat32(t));
  return tensor(carrier, t.shape, unpack(t.bytes(), t.dtype, t.size));
}

function fromCarrier(t: Tensor, dtype: DType): Tensor {
  if (dtype === "bfloat16") return tensor(dtype, t.shape, floatToHalf(toFloat32(t), dtype));
  if (carriers[dtype] !== "float32") return tensor(dtype, t.shape, pack(t.bytes(), dtype));
  const codes = codesOf(dtype);
  const bits = new Uint32Array(toFloat32(t).slice().buffer);
  return tensor(
    dtype,
    t.shape,
    Uint8Array.from(bits, (b) => codes.get(b) ?? codes.get(nanBits)!),
  );
}

const nanBits = 0x7fc00000;

/** The code of an 8-bit float by the bits of its value as float32; all NaNs under one key. */
function codesOf(dtype: DType): Map<number, number> {
  const values = smallFloatToFloat(
    Uint8Array.from({ length: 256 }, (_, code) => code),
    dtype,
    256,
  );
  const bits = new Uint32Array(values.buffer);
  return new Map(Array.from(values, (value, code) => [Number.isNaN(value) ? nanBits : bits[code]!, code]));
}
