export { type Draft, edit, renameReads } from "./edit.ts";
export * from "./graph.ts";
export * from "./walk.ts";
