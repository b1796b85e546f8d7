import { convertFloat } from "./convert-float/index.ts";
import { equalizeLayers } from "./equalize-layers/index.ts";
import { pruneChannels } from "./prune-channels/index.ts";
import { pruneLayers } from "./prune-layers/index.ts";
import { pruneWeights } from "./prune-weights/index.ts";
import { quantizeAwareTrain } from "./quantize-aware-train/index.ts";
import { quantizeDynamic } from "./quantize-dynamic/index.ts";
import { quantizeStatic } from "./quantize-static/index.ts";
import { quantizeWeights } from "./quantize-weights/index.ts";
import { rotateResidual } from "./rotate-residual/index.ts";
import { simplify } from "./simplify/index.ts";
import { smoothActivations } from "./smooth-activations/index.ts";
import type { Technique } from "./technique.ts";

/** Every technique by its name: commands, flags, recipes, help and law tests are derived from these rows. */
export const techniques: Readonly<Record<string, Technique>> = {
  simplify: simplify as Technique,
  "prune-weights": pruneWeights as Technique,
  "prune-channels": pruneChannels as Technique,
  "prune-layers": pruneLayers as Technique,
  "rotate-residual": rotateResidual as Technique,
  "smooth-activations": smoothActivations as Technique,
  "equalize-layers": equalizeLayers as Technique,
  "quantize-dynamic": quantizeDynamic as Technique,
  "quantize-static": quantizeStatic as Technique,
  "quantize-weights": quantizeWeights as Technique,
  "quantize-aware-train": quantizeAwareTrain as Technique,
  "convert-float": convertFloat as Technique,
};

export { convertFloat } from "./convert-float/index.ts";
export { equalizeLayers } from "./equalize-layers/index.ts";
export * from "./exhibit.ts";
export { pruneChannels } from "./prune-channels/index.ts";
export { pruneLayers } from "./prune-layers/index.ts";
export { pruneWeights } from "./prune-weights/index.ts";
export { quantizeAwareTrain } from "./quantize-aware-train/index.ts";
export { quantizeDynamic } from "./quantize-dynamic/index.ts";
export { quantizeStatic } from "./quantize-static/index.ts";
export { quantizeWeights } from "./quantize-weights/index.ts";
export { rotateResidual } from "./rotate-residual/index.ts";
export { simplify } from "./simplify/index.ts";
export { smoothActivations } from "./smooth-activations/index.ts";
export * from "./technique.ts";
