export { fail, PareError } from "./errors.ts";
export * from "./formats/onnx/index.ts";
export { type ByteSource, memorySource } from "./formats/source.ts";
export * from "./graph/index.ts";
export type * from "./platform/runtime.ts";
export * from "./random.ts";
export * from "./tensor/index.ts";
export { version } from "./version.ts";
