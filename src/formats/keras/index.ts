export { isKeras, type KerasOptions, readKeras } from "./read.ts";
