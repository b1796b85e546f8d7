export { type Differentiated, gradient } from "../autodiff/gradient.ts";
export { type Architecture, architectures } from "./architectures/index.ts";
export type { CheckpointStore } from "./checkpoint.ts";
export { type FinetuneContext, type FinetuneOptions, finetune, finetuneOptions } from "./finetune.ts";
export { type Objective, type ObjectiveOptions, objectiveFor, objectiveOptions } from "./objective.ts";
export { StateBuffers } from "./state.ts";
export { type StepOptions, type TrainingStep, trainingStep } from "./step.ts";
export * from "./train.ts";
export { type UnfoldOptions, unfoldBatchNorm } from "./unfold-batch-norm.ts";
