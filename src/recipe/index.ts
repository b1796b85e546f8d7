export type { StepCache } from "./cache.ts";
export * from "./compress.ts";
export type * from "./ledger.ts";
export { bindPlan, type Plan, plansFor } from "./plans.ts";
export { presets } from "./presets.ts";
export * from "./recipe.ts";
export * from "./run.ts";
export * from "./target.ts";
