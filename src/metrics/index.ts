import { didYouMean, fail } from "../errors.ts";
import type { Value } from "../graph/graph.ts";
import { dtypes } from "../tensor/dtype.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { crossEntropy, f1Binary, f1Macro, f1Micro, perplexity, tokenAccuracy, top1, top5 } from "./classification.ts";
import { boxMatch, map, map50 } from "./detection.ts";
import type { Metric } from "./metric.ts";
import { agreement, cosine, psnr, sqnr } from "./reference.ts";
import { mae, mse, r2, rmse } from "./regression.ts";
import { meanIou } from "./segmentation.ts";

/** Every metric, by name. */
export const metrics: Readonly<Record<string, Metric>> = Object.fromEntries(
  [
    top1,
    top5,
    crossEntropy,
    f1Macro,
    f1Micro,
    f1Binary,
    tokenAccuracy,
    perplexity,
    meanIou,
    map,
    map50,
    mse,
    rmse,
    mae,
    r2,
    agreement,
    sqnr,
    cosine,
    psnr,
    boxMatch(),
  ].map((metric) => [metric.name, metric]),
);

/**
 * The metric of a name.
 *
 * @throws PareError for an unknown name
 */
export function metricOf(name: string): Metric {
  const known = Object.keys(metrics);
  return (
    metrics[name] ?? fail("metric", `unknown metric '${name}'`, didYouMean(name, known) || `Known: ${known.join(", ")}`)
  );
}

/**
 * The metrics that suit a model and its labels, the leading one first: accuracy for classes, perplexity for tokens,
 * mean IoU for pixels, errors for quantities; without labels, agreement (where there are classes to agree on) and SQNR.
 */
export function defaultMetrics(outputs: readonly Value[], labels: Tensor | undefined): readonly Metric[] {
  const type = outputs[0]?.type;
  const shape = type?.kind === "tensor" ? (type.shape ?? []) : [];
  const inner = shape.slice(1).filter((dim) => dim !== 1);
  if (!labels) return inner.length <= 2 && outputs.length === 1 ? [agreement, sqnr, cosine] : [sqnr, cosine];
  if (dtypes[labels.dtype].kind === "float") return [rmse, mae, r2];
  if (labels.shape.length === 2 && labels.shape[1] !== 1) return [perplexity, tokenAccuracy, crossEntropy];
  if (labels.shape.length >= 3) return [meanIou];
  const [classes] = inner;
  return typeof classes === "number" && classes > 10 ? [top1, top5, crossEntropy] : [top1, crossEntropy];
}

export * from "./detection.ts";
export * from "./metric.ts";
export { userMetric } from "./user.ts";
