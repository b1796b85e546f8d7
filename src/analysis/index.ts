export * from "../metrics/change.ts";
export * from "../metrics/statistics.ts";
export * from "../platform/observe.ts";
export * from "./calibrate.ts";
export type { Closeness } from "./closeness.ts";
export * from "./cost.ts";
export * from "./divergence.ts";
export * from "./duplicates.ts";
export * from "./energy.ts";
export {
  type EvaluateOptions,
  type Evaluation,
  evaluate,
  type ModelEvaluation,
  type NamedModel,
  type OutputDivergence,
} from "./evaluate.ts";
export * from "./inspect.ts";
export * from "./latency.ts";
export * from "./layers.ts";
export * from "./ranges.ts";
export * from "./size.ts";
