export * from "./diff.ts";
export { type Draft, edit, renameReads } from "./edit.ts";
export * from "./graph.ts";
export * from "./print.ts";
export * from "./validate.ts";
export * from "./walk.ts";
