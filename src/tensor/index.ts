export * from "./dtype.ts";
export { floatToHalf, fromHalfBits, halfToFloat, smallFloatToFloat, toBfloatBits, toHalfBits } from "./half.ts";
export { pack, packBits, unpack } from "./pack.ts";
export * from "./statistics.ts";
export * from "./tensor.ts";
