export { type ExternalPlan, planExternal } from "./external.ts";
export { readOnnx } from "./read.ts";
export type { OpenExternal } from "./tensors.ts";
export { tensorLocations } from "./tensors.ts";
export { chunksOf, type ExternalSlot, encodeOnnx, maxModelBytes, onnxSize, writeOnnx } from "./write.ts";
