export { type ExternalPlan, planExternal } from "./external.ts";
export { readOnnx } from "./read.ts";
export { type ExternalSlot, type OpenExternal, tensorLocations } from "./tensors.ts";
export { chunksOf, encodeOnnx, maxModelBytes, onnxSize, type Placement, writeOnnx } from "./write.ts";
