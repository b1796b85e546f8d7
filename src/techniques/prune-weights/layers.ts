import type { Graph } from "../../graph/graph.ts";
import { endNodes } from "../end-layers.ts";
import { checkLayerValues, layerValue, type NamedLayer } from "../layer-values.ts";
import { surveyWeights, type WeightSurvey, type WeightTarget } from "../quantize-weights/targets.ts";
import { selector } from "../selection.ts";
import { type WeightMatrix, weightMatrix } from "../weight-matrices/matrix.ts";
import type { PruneWeightsOptions } from "./options.ts";
import type { Pattern } from "./patterns.ts";

/** A weight to prune, as a matrix. */
export interface Layer extends WeightMatrix {
  /** Sparsity asked for this layer by name. */
  readonly wanted: number | undefined;
}

/** The layers to prune, and what is left alone with the reason. */
export interface LayerSurvey {
  readonly layers: readonly Layer[];
  readonly skipped: WeightSurvey["skipped"];
}

/** Which layers of a graph are pruned. */
export function surveyLayers(graph: Graph, options: PruneWeightsOptions, pattern: Pattern): LayerSurvey {
  const select = selector(options);
  const { minElements } = options;
  const survey = surveyWeights(graph, {
    // those that are named are pruned whatever their size
    minElements: 0,
    select: (node) => select(node) && (options.embeddings || node.op !== "Gather"),
  });
  const found = survey.targets.map(
    (target): Layer => ({ ...weightMatrix(target), wanted: layerValue(options.layerSparsity, namedLayer(target)) }),
  );
  const names = found.map(({ target }) => namedLayer(target));
  checkLayerValues(options.layerSparsity, names, graph, "prune-weights", "--layer-sparsity");
  const tooSmall = ({ target, wanted }: Layer): boolean => wanted === undefined && target.weight.size < minElements;
  const all = found.filter((layer) => !tooSmall(layer));
  const total = all.reduce((sum, { target }) => sum + target.weight.size, 0);
  const ends = endNodes(graph);
  const reasonFor = (layer: Layer): string | undefined => {
    const { name, weight } = layer.target;
    if (tooSmall(layer)) return `weight '${name}' has ${weight.size} elements, fewer than ${minElements}`;
    const misfit = patternMisfit(layer, pattern);
    if (misfit || layer.wanted !== undefined) return misfit;
    if (layer.channels === 1 && layer.groups > 1) return "a depthwise convolution has few weights, each of them needed";
    const end = layer.target.uses.map(({ node }) => ends.get(node)).find((which) => which !== undefined);
    if (end === undefined || options.ends === "prune" || all.length === 1) return undefined;
    const share = layer.target.weight.size / total;
    if (options.ends === "auto" && share > 0.05) return undefined;
    return `the ${end} layer is kept dense: it holds ${(100 * share).toFixed(1)} % of the weights`;
  };
  const skipped = [...survey.skipped];
  const layers = found.filter((layer) => {
    const reason = reasonFor(layer);
    if (reason) for (const { node } of layer.target.uses) skipped.push({ node, reason });
    return !reason;
  });
  return { layers, skipped };
}

function namedLayer({ name, uses }: WeightTarget): NamedLayer {
  return { weight: name, nodes: uses.map(({ node }) => node) };
}

function patternMisfit({ rows, channels, groups }: Layer, pattern: Pattern): string | undefined {
  if (pattern.kind === "n:m") {
    return channels % pattern.of === 0 ? undefined : `${channels} inputs are no multiple of ${pattern.of}`;
  }
  if ((rows / groups) % pattern.rows === 0 && channels % pattern.columns === 0) return undefined;
  return `${rows} outputs by ${channels} inputs do not divide into blocks of ${pattern.rows}x${pattern.columns}`;
}
