import { classDivergence, type Reference, reference, signalToNoise } from "../analysis/output-error.ts";
import { onnxSize } from "../formats/onnx/index.ts";
import type { Graph } from "../graph/graph.ts";
import { observeTypes } from "../platform/observe.ts";
import type { Runtime, Tensors } from "../platform/runtime.ts";
import { calibrationBatches } from "../techniques/calibration-batches.ts";
import type { Context } from "../techniques/technique.ts";
import type { Format } from "./mixed-formats.ts";
import type { Layer } from "./mixed-layers.ts";
import { changeOfTime } from "./mixed-times.ts";

/** What a layer in a format, alone, costs and does. */
export interface Effect {
  readonly format: string;
  readonly bits: number;
  /** Bytes of the whole file. */
  readonly bytes: number;
  /** Milliseconds more than in float, conversions included; absent where times were not asked for. */
  readonly ms?: number;
  /** Divergence of the outputs, in nats, or their noise as a share of the signal. */
  readonly damage: number;
}

/** How damage is measured. */
export type DamageMeasure = "kl" | "noise";

/** What {@link measureEffects} looks at. */
export interface EffectOptions {
  readonly damage: DamageMeasure;
  /** Samples that outputs are compared on. */
  readonly samples: number;
  /** Time the layers too. */
  readonly times: boolean;
}

/**
 * The effect of every format on every layer, each alone: damage to the outputs on calibration samples, bytes,
 * time. By layer; the first is float. A format that changes nothing of a layer is absent there.
 *
 * @throws PareError where there is no data, or the runtime refuses the model
 */
export async function measureEffects(
  graph: Graph,
  layers: readonly Layer[],
  formats: readonly Format[],
  context: Context,
  options: EffectOptions,
): Promise<readonly (readonly Effect[])[]> {
  const { runtime, signal } = context;
  const feeds: Tensors[] = [];
  for await (const { inputs } of calibrationBatches(graph, context, options.samples, 1, "quantize")) feeds.push(inputs);
  const wanted = await reference(graph, runtime, feeds);
  const types = options.times ? await observeTypes(graph, runtime, feeds[0]!) : undefined;
  const float: Effect = { format: "float", bits: 32, bytes: onnxSize(graph), damage: 0, ...(types && { ms: 0 }) };
  const effects = layers.map((): Effect[] => [float]);
  for (const [f, format] of formats.entries()) {
    let layer = -1;
    for await (const made of format.alone(graph, layers, context)) {
      signal.throwIfAborted();
      layer++;
      context.progress(f * layers.length + layer, formats.length * layers.length, "layers' sensitivities");
      if (made === undefined) continue;
      const damage = await damageOf(made, runtime, wanted, options.damage);
      if (!Number.isFinite(damage)) continue;
      const { name, bits } = format;
      const ms = types && { ms: await changeOfTime(graph, made, types, context) };
      effects[layer]!.push({ format: name, bits, bytes: onnxSize(made), damage, ...ms });
    }
  }
  return effects;
}

async function damageOf(graph: Graph, runtime: Runtime, wanted: Reference, by: DamageMeasure): Promise<number> {
  if (by === "kl") return classDivergence(graph, runtime, wanted);
  return 10 ** (-(await signalToNoise(graph, runtime, wanted)) / 10);
}
