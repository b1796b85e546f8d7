import { type FakeQuantize, fakeQuantizeNode } from "../../autodiff/fake-quantize.ts";
import { type Draft, edit } from "../../graph/edit.ts";
import { type Graph, isNode, type Node, stringAttribute } from "../../graph/graph.ts";
import { links } from "../../graph/walk.ts";
import { type Affine, affineParams } from "../../tensor/affine.ts";
import { float32, toFloat32 } from "../../tensor/tensor.ts";
import { clampedAs, type Placer, place } from "../quantize-static/place.ts";
import { readSource } from "../quantize-static/plan.ts";
import { dataInputs } from "../quantize-static/rules.ts";
import type { ActivationGrid } from "./activation-grids.ts";
import { biasOf, fakeBias, type Layer } from "./layers.ts";
import type { Options } from "./options.ts";
import type { TwinPlan } from "./twins.ts";
import { spread, type WeightGrid } from "./weight-grids.ts";

/** A model with fake quantization in it, and which of its weights hold the grids. */
export interface Simulation {
  readonly graph: Graph;
  /** By source of the plan. */
  readonly activations: ReadonlyMap<string, { readonly grid: ActivationGrid; readonly names: GridNames }>;
  /** By the weight's name. */
  readonly weights: ReadonlyMap<string, { readonly grid: WeightGrid; readonly scale: string | undefined }>;
  /** Layers whose biases are known, by what their outputs are called in the form that runs. */
  readonly layers: ReadonlyMap<string, Layer>;
  /** Sums of two quantized values that are quantized themselves, by their sources. */
  readonly sums: readonly Total[];
  /** Constants beside activations, whose grids do not learn. */
  readonly constants: ReadonlyMap<string, Affine>;
}

/** A sum between integers: the sources of its terms, and its own. */
export interface Total {
  readonly terms: readonly [string, string];
  readonly total: string;
}

/** Names of the weights that hold a step and an offset. */
export interface GridNames {
  readonly scale: string;
  readonly offset: string | undefined;
}

/** Where what is rounded, and how. */
export interface Grids {
  readonly activations: ReadonlyMap<string, ActivationGrid>;
  /** By the weight's name in the graph. */
  readonly weights: ReadonlyMap<string, WeightGrid>;
}

/**
 * Puts fake quantization where a plan has integers: at the same places as the Q/DQ pairs and integer weights of
 * quantize-static, since the same function finds them.
 */
export function simulate(graph: Graph, plan: TwinPlan, grids: Grids, options: Options): Simulation {
  const activations = new Map<string, { grid: ActivationGrid; names: GridNames }>();
  const weights = new Map<string, { grid: WeightGrid; scale: string | undefined; step: string }>();
  const layers = new Map<string, Layer>();
  const sums: Total[] = [];
  const constants = new Map<string, Affine>();
  const written = (name: string): string | undefined => {
    const last = clampedAs(name, graph, plan);
    return plan.values.get(last) === last ? last : undefined;
  };
  const readersOf = (weight: string): readonly Node[] => [...plan.compute].filter(({ inputs }) => inputs[1] === weight);
  const made = place(graph, plan, (draft): Placer => {
    const roundedWeight = once((name) => {
      const { output, scale, step } = fakeWeight(draft, name, grids.weights.get(name)!);
      weights.set(name, { grid: grids.weights.get(name)!, scale, step });
      return output;
    });
    const roundedConstant = once((name) => {
      const grid = constantGrid(graph, name);
      constants.set(name, grid);
      const output = draft.fresh(`${name}_rounded`);
      const scale = draft.constant(`${name}_step`, float32([], [grid.scale]));
      return fake(draft, [name, scale], output, spanOf(grid, false));
    });
    return {
      round({ name, source, before, after }) {
        const grid = grids.activations.get(source)!;
        const known = activations.get(source);
        const names = known?.names ?? gridConstants(draft, source, grid);
        if (!known) activations.set(source, { grid, names });
        const hidden = after === name;
        if (name !== source && !hidden && staysOnGrid(graph, name)) return before;
        return fake(draft, [before, names.scale, ...(names.offset ? [names.offset] : [])], after, howOf(grid, options));
      },
      inside(changed, original) {
        if (plan.compute.has(original)) {
          const [x, w, b, ...rest] = changed.inputs as [string, string, string | undefined, ...string[]];
          const grid = grids.weights.get(w);
          if (!grid) return changed;
          const weight = roundedWeight(w);
          const reads = readSource(original.inputs[0]!, plan);
          const read = activations.get(reads ?? "");
          const found = biasOf(original, plan);
          if (!reads || !read || !found) return withInputs(changed, [x, weight, b, ...rest]);
          const parts =
            options.format === "packed" ? 1 : spread(grid, largestRead(readersOf(w), plan, grids.activations));
          const [output] = (found.normalization ?? original).outputs as [string];
          const steps = { weightStep: weights.get(w)!.step, readStep: read.names.scale };
          const layer = { ...found, ...steps, reads, writes: written(output), weight: w, parts };
          layers.set(output, layer);
          const bias = b && !found.normalization ? fakeBias(draft, b, layer, grid) : b;
          return withInputs(changed, [x, weight, bias, ...rest]);
        }
        if (plan.followers.has(original)) return changed;
        const total = written(original.outputs[0]!);
        const [a, b] = original.inputs.map((name) => plan.values.get(name));
        if (isNode(original, "Add") && a && b && total) sums.push({ terms: [a, b], total });
        const data = new Set(dataInputs(original).filter((name) => graph.weights.has(name)));
        return { ...changed, inputs: changed.inputs.map((name) => (data.has(name) ? roundedConstant(name) : name)) };
      },
    };
  });
  return { graph: made.graph, activations, weights, layers, sums, constants };
}

/** The largest integer that nodes read. */
export function largestRead(
  nodes: readonly Node[],
  plan: Pick<TwinPlan, "values" | "coarse">,
  grids: ReadonlyMap<string, Affine>,
): number {
  return Math.max(...nodes.map(({ inputs }) => grids.get(readSource(inputs[0]!, plan) ?? "")?.qmax ?? 255));
}

/** Puts fake quantization on weights alone. */
export function simulateWeights(graph: Graph, grids: Grids["weights"]): Simulation {
  const weights = new Map<string, { grid: WeightGrid; scale: string | undefined }>();
  const made = edit(graph, (draft) => {
    for (const [name, grid] of grids) {
      const { output, scale, node } = fakeWeight(draft, name, grid);
      draft.rewire(name, output, [node]);
      weights.set(name, { grid, scale });
    }
  });
  return { graph: made, activations: new Map(), weights, layers: new Map(), sums: [], constants: new Map() };
}

function withInputs(node: Node, inputs: readonly (string | undefined)[]): Node {
  return { ...node, inputs: inputs.flatMap((name) => (name === undefined ? [] : [name])) };
}

function once(make: (name: string) => string): (name: string) => string {
  const made = new Map<string, string>();
  return (name) => {
    const known = made.get(name) ?? make(name);
    made.set(name, known);
    return known;
  };
}

function fake(draft: Draft, inputs: readonly string[], output: string, how: FakeQuantize): string {
  const clipped = draft.fresh(`${output}_clipped`);
  draft.add(fakeQuantizeNode(inputs, output, clipped, how, draft.fresh(`${inputs[0]}/FakeQuantize`)));
  return output;
}

function fakeWeight(
  draft: Draft,
  name: string,
  { how, steps, view }: WeightGrid,
): { readonly output: string; readonly scale: string | undefined; readonly step: string; readonly node: Node } {
  const output = draft.fresh(`${name}_rounded`);
  const clipped = draft.fresh(`${output}_clipped`);
  const shape = [view[0], 1, view[2]];
  const scale = steps && draft.constant(`${name}_step`, float32(shape, steps));
  const mean = scale ? undefined : draft.fresh(`${name}_mean`);
  const inputs = scale ? [name, scale] : [name];
  const node = fakeQuantizeNode(inputs, output, clipped, how, `${name}/FakeQuantize`, mean);
  draft.add(node);
  return { output, scale, step: (scale ?? mean)!, node };
}

function gridConstants(draft: Draft, source: string, grid: ActivationGrid): GridNames {
  return {
    scale: draft.constant(`${source}_step`, float32([], [grid.scale])),
    offset: grid.shifts ? draft.constant(`${source}_offset`, float32([], [grid.zeroPoint])) : undefined,
  };
}

/** The integers counted from the lowest, where the zero point learns; else from zero. */
function spanOf({ qmin, qmax, zeroPoint }: Affine, shifts: boolean): FakeQuantize {
  return shifts ? { low: qmin, high: qmax } : { low: qmin - zeroPoint, high: qmax - zeroPoint };
}

function howOf(grid: ActivationGrid, { steps }: Options): FakeQuantize {
  const rule = !grid.learns ? "none" : steps === "pact" ? "pact" : "lsq";
  return { ...spanOf(grid, grid.shifts), rule, gradient: 1 / Math.sqrt(grid.size * grid.qmax) };
}

/** The grid of a constant beside activations, as it is written for integer kernels. */
function constantGrid(graph: Graph, name: string): Affine {
  let [min, max] = [0, 0];
  for (const value of toFloat32(graph.weights.get(name)!)) [min, max] = [Math.min(min, value), Math.max(max, value)];
  return affineParams(min, max, "uint8");
}

/** Whether a value only shows another one's elements, which are rounded already. */
function staysOnGrid(graph: Graph, name: string): boolean {
  const maker = links(graph).producer.get(name)!;
  return !isNode(maker, "Resize") || stringAttribute(maker, "mode", "nearest") === "nearest";
}
