export * from "../platform/observe.ts";
