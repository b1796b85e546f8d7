import { reference } from "../../analysis/output-error.ts";
import type { Graph } from "../../graph/graph.ts";
import { links } from "../../graph/walk.ts";
import type { Tensors } from "../../platform/runtime.ts";
import { type Tensor, toFloat32 } from "../../tensor/tensor.ts";
import { withOwnOperators } from "../../training/own-operators.ts";
import { type Plan, readSource } from "../quantize-static/plan.ts";
import { weightOf } from "../quantize-static/rules.ts";
import type { Context } from "../technique.ts";
import { gridOf, type Settled } from "./export.ts";
import type { Simulation } from "./insert.ts";

/** How the model that was trained and the one that is handed out differ on data. */
export interface Agreement {
  readonly samples: number;
  /** Share of the rows of the outputs whose largest entry is the same. */
  readonly same: number;
  /** Share of the rows all of whose entries are a step apart at most; undefined where nothing quantized makes them. */
  readonly within: number | undefined;
  /** Largest difference of an entry of the outputs, in steps; undefined where nothing quantized makes them. */
  readonly steps: number | undefined;
  /** The same, as a share of the largest entry. */
  readonly relative: number;
}

/** Runs both on some samples; outputs of a final softmax are compared before it. */
export async function agreement(
  simulated: Graph,
  exported: Graph,
  feeds: readonly Tensors[],
  steps: ReadonlyMap<string, number>,
  { runtime }: Context,
): Promise<Agreement> {
  const wanted = await reference(simulated, withOwnOperators(runtime), feeds);
  const got = await reference(exported, runtime, feeds);
  let [rows, same, near, relative] = [0, 0, 0, 0];
  let most: number | undefined;
  for (const [i, outputs] of wanted.outputs.entries()) {
    for (const [at, a] of outputs.entries()) {
      if (a.dtype !== "float32") continue;
      const b = got.outputs[i]![at]!;
      const step = steps.get(simulated.outputs[at]!.name);
      const { furthest, largest } = distance(a, b);
      relative = Math.max(relative, largest > 0 ? furthest / largest : 0);
      if (step !== undefined) most = Math.max(most ?? 0, furthest / step);
      const width = a.shape.at(-1) ?? 1;
      if (a.shape.length < 2 || width < 2) continue;
      rows += a.size / width;
      same += sameRows(toFloat32(a), toFloat32(b), width);
      if (step !== undefined) near += nearRows(toFloat32(a), toFloat32(b), width, step);
    }
  }
  const share = (count: number): number => (rows > 0 ? count / rows : 1);
  const within = most === undefined ? undefined : share(near);
  return { samples: feeds.length, same: share(same), within, steps: most, relative };
}

function distance(a: Tensor, b: Tensor): { furthest: number; largest: number } {
  const [x, y] = [toFloat32(a), toFloat32(b)];
  let [furthest, largest] = [0, 0];
  for (let i = 0; i < x.length; i++) {
    furthest = Math.max(furthest, Math.abs(x[i]! - y[i]!));
    largest = Math.max(largest, Math.abs(x[i]!));
  }
  return { furthest, largest };
}

function sameRows(a: Float32Array, b: Float32Array, width: number): number {
  const best = (values: Float32Array, from: number): number => {
    let at = from;
    for (let i = from; i < from + width; i++) if (values[i]! > values[at]!) at = i;
    return at;
  };
  let same = 0;
  for (let from = 0; from < a.length; from += width) if (best(a, from) === best(b, from)) same++;
  return same;
}

function nearRows(a: Float32Array, b: Float32Array, width: number, step: number): number {
  let near = 0;
  for (let from = 0; from < a.length; from += width) {
    let at = from;
    while (at < from + width && Math.abs(a[at]! - b[at]!) <= step) at++;
    if (at === from + width) near++;
  }
  return near;
}

const between = new Set(["Softmax", "LogSoftmax", "Sigmoid", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity"]);

/**
 * What a step is at each output: its own where the output is quantized, else what one step of what the last layer reads
 * makes at its largest weight.
 */
export function outputSteps(
  { graph, coded }: Settled,
  plan: Pick<Plan, "values" | "coarse">,
  simulation: Simulation,
  learned: Graph,
): ReadonlyMap<string, number> {
  const { producer } = links(graph);
  const scaleOf = (source: string | undefined): number | undefined =>
    source === undefined ? undefined : gridOf(simulation, learned, source).scale;
  const stepOf = (name: string): number | undefined => scaleOf(plan.values.get(name));
  const found = new Map<string, number>();
  for (const { name } of graph.outputs) {
    let at = name;
    let maker = producer.get(at);
    while (maker && maker.domain === "" && between.has(maker.op) && stepOf(at) === undefined) {
      at = maker.inputs[0]!;
      maker = producer.get(at);
    }
    const weight = maker && weightOf(maker, graph);
    const known = weight && coded.get(weight.name);
    const read = maker && scaleOf(readSource(maker.inputs[0]!, plan));
    const largest =
      known && read !== undefined && read * Math.max(...known.steps.map((step, c) => step * reachOf(known, c)));
    const step = stepOf(at) ?? largest;
    if (step) found.set(name, step);
  }
  return found;
}

function reachOf(
  { codes, site }: { codes: Int8Array; site: { view: readonly [number, number, number] } },
  c: number,
): number {
  const [, length, inner] = site.view;
  let most = 0;
  for (let k = 0, i = Math.floor(c / inner) * length * inner + (c % inner); k < length; k++, i += inner)
    most = Math.max(most, Math.abs(codes[i]!));
  return most;
}
