import type { TensorProto } from "onnx-buf";
import { type DType, dtypes, packedBytes } from "../src/tensor/dtype.ts";

/** The fields of a TensorProto that may hold its data. */
export const dataFields = ["rawData", "floatData", "doubleData", "int32Data", "int64Data", "uint64Data", "stringData"];

/**
 * What an ONNX message says, for comparing two of them: typed data as raw data, fields at "" and [] the same as unset,
 * ONNX's own domain spelled "". Independent of the code that reads and writes models.
 */
export function meaning(value: unknown): unknown {
  if (value instanceof Uint8Array) return Buffer.from(value).toString("hex");
  if (typeof value === "bigint") return `${value}n`;
  if (Array.isArray(value)) return value.map(meaning);
  if (typeof value !== "object" || value === null) return value;
  const message = value as Readonly<Record<string, unknown>>;
  const isTensor = message.$typeName === "onnx.TensorProto";
  const said: Record<string, unknown> = {};
  for (const [key, item] of Object.entries(message)) {
    if (item === undefined || item === "" || (Array.isArray(item) && item.length === 0)) continue;
    if (key === "domain" && item === "ai.onnx") continue;
    if (isTensor && (dataFields.includes(key) || (key === "dataLocation" && item === 0))) continue;
    said[key] = meaning(item);
  }
  if (isTensor) said.data = tensorData(value as TensorProto);
  return said;
}

/** Little-endian bytes of a tensor's data as hexadecimal text, whichever field it stands in; its strings one by one. */
function tensorData(proto: TensorProto): unknown {
  if (proto.stringData.length > 0) return proto.stringData.map(meaning);
  if (proto.rawData.length > 0) return Buffer.from(proto.rawData).toString("hex");
  const [dtype] = Object.entries(dtypes).find(([, { code }]) => code === proto.dataType)!;
  const count = proto.dims.reduce((product, dim) => product * Number(dim), 1);
  const out = Buffer.alloc(packedBytes(dtype as DType, count));
  const width = out.length / Math.max(proto.int32Data.length, 1);
  for (const [i, v] of proto.floatData.entries()) out.writeFloatLE(v, i * 4);
  for (const [i, v] of proto.doubleData.entries()) out.writeDoubleLE(v, i * 8);
  for (const [i, v] of proto.int64Data.entries()) out.writeBigInt64LE(v, i * 8);
  for (const [i, v] of proto.uint64Data.entries()) {
    if (dtype === "uint32") out.writeUInt32LE(Number(v), i * 4);
    else out.writeBigUInt64LE(v, i * 8);
  }
  for (const [i, v] of proto.int32Data.entries()) out.writeUIntLE(v < 0 ? v + 256 ** width : v, i * width, width);
  return out.toString("hex");
}
