import type { Range } from "../../analysis/ranges.ts";
import { type Draft, edit, renameReads } from "../../graph/edit.ts";
import { type Graph, makeNode, type Node } from "../../graph/graph.ts";
import { links } from "../../graph/walk.ts";
import { affineParams } from "../../tensor/affine.ts";
import { dtypes } from "../../tensor/dtype.ts";
import { float32, type Tensor, tensor } from "../../tensor/tensor.ts";
import { constantsOf, type EmitOptions, withConstants, withWeights } from "./constants.ts";
import { integerOnly, type Plan } from "./plan.ts";
import { kindOf } from "./rules.ts";

/** Names of a value's scale and zero point, and its scale. */
interface Grid {
  readonly scale: string;
  readonly zeroPoint: string;
  readonly step: number;
  /** The smallest number on the grid. */
  readonly lowest: number;
  /** Bounds the type's integers to those of the grid; absent where it uses all of them. */
  readonly clip?: (integers: string) => string;
}

/** A graph on integers. */
export interface Emitted {
  readonly graph: Graph;
  /** What readers of a value of the float graph read in its place, where that has another name. */
  readonly rounded: ReadonlyMap<string, string>;
  /** Compute nodes as they are in the float graph, by what became of them. */
  readonly origins: ReadonlyMap<Node, Node>;
}

/**
 * Writes a plan into the graph with QuantizeLinear and DequantizeLinear nodes: one pair a value, weights and biases as
 * integers with a DequantizeLinear. A runtime that knows the pattern runs integer kernels, any other the same in float.
 *
 * @param ranges by value, for every source in the plan that has no fixed range
 */
export function emit(graph: Graph, plan: Plan, ranges: ReadonlyMap<string, Range>, options: EmitOptions): Emitted {
  const rounded = new Map<string, string>(); // value -> what its DequantizeLinear writes
  const origins = new Map<Node, Node>();
  const written = edit(graph, (draft) => {
    const grids = activationGrids(draft, plan, ranges, options);
    const real = new Map<string, string>(); // value -> what its integer kernel writes
    const { producer, outputs } = links(graph);
    for (const [name, source] of plan.values) {
      const maker = producer.get(name);
      const hidden = maker !== undefined && integerOnly(maker, plan) && outputs.has(name);
      const before = hidden ? draft.fresh(`${name}_float`) : name;
      const after = hidden ? name : draft.fresh(`${name}_dequantized`);
      const grid = grids.get(source)!;
      const { scale, zeroPoint } = grid;
      const integers = draft.fresh(`${name}_quantized`);
      const guarded = needsGuard(name, graph, plan) ? guard(draft, before, grid) : before;
      draft.add(makeNode("QuantizeLinear", [guarded, scale, zeroPoint], [integers]));
      // what only moves integers keeps them within their bounds
      const bounded = source === name && !plan.fixed.has(name) ? (grid.clip?.(integers) ?? integers) : integers;
      draft.add(makeNode("DequantizeLinear", [bounded, scale, zeroPoint], [after]));
      real.set(name, before);
      rounded.set(name, after);
    }
    const constants = constantsOf(draft, options);
    for (const node of graph.nodes) {
      if (plan.absorbed.has(node)) {
        draft.replace(node);
        continue;
      }
      let changed = renameReads(node, (name) => {
        const maker = producer.get(name);
        const readsInteger = plan.integer.has(node) || (maker !== undefined && integerOnly(maker, plan));
        return readsInteger ? (rounded.get(name) ?? name) : name;
      });
      if (plan.integer.has(node)) {
        const grid = grids.get(plan.values.get(node.inputs[0]!) ?? "");
        changed = plan.compute.has(node)
          ? withWeights(changed, node, graph, constants, grid!.step)
          : withConstants(changed, node, graph, constants);
      }
      const made = changed.outputs.map((name) => {
        const last = clampedAs(name, graph, plan);
        return real.get(last) ?? last;
      });
      if (made.some((name, i) => name !== changed.outputs[i])) changed = { ...changed, outputs: made };
      if (changed !== node) draft.replace(node, changed);
      if (plan.compute.has(node)) origins.set(changed, node);
    }
  });
  return { graph: written, rounded, origins };
}

/** The name under which a value leaves the absorbed clamps behind it. */
function clampedAs(name: string, graph: Graph, plan: Plan): string {
  let at = name;
  for (;;) {
    const next = (links(graph).consumers.get(at) ?? []).find(
      (node) => plan.absorbed.has(node) && node.inputs[0] === at,
    );
    if (!next) return at;
    at = next.outputs[0]!;
  }
}

/**
 * Whether a value comes from a float convolution that stands between DequantizeLinear and this value's QuantizeLinear:
 * ONNX Runtime (WeightBiasQuantization, 1.30) would round its weights to int8 with a single scale.
 */
function needsGuard(name: string, graph: Graph, plan: Plan): boolean {
  const { producer } = links(graph);
  let maker = producer.get(name);
  while (maker && kindOf(maker, graph) === "clamp" && !plan.absorbed.has(maker)) maker = producer.get(maker.inputs[0]!);
  if (!maker || plan.integer.has(maker) || !["Conv", "ConvTranspose", "Gemm"].includes(maker.op)) return false;
  const before = producer.get(maker.inputs[0]!);
  return before !== undefined && integerOnly(before, plan);
}

/** Bounds a value from below by the smallest number on its grid, as QuantizeLinear does anyway. */
function guard(draft: Draft, name: string, grid: Grid): string {
  return draft.emit(
    "Max",
    [name, draft.constant(`${name}_lowest`, float32([], [grid.lowest]))],
    {},
    1,
    `${name}_bounded`,
  );
}

function activationGrids(
  draft: Draft,
  plan: Plan,
  ranges: ReadonlyMap<string, Range>,
  options: EmitOptions,
): Map<string, Grid> {
  const { activationType: dtype, symmetricActivations: symmetric } = options;
  const grids = new Map<string, Grid>();
  for (const source of plan.values.values()) {
    if (grids.has(source)) continue;
    const [min, max] = plan.fixed.get(source) ?? ranges.get(source)!;
    const bits = options.widths.value(source);
    const { scale, zeroPoint, qmin, qmax } = affineParams(min, max, dtype, { symmetric, bits });
    const integer = (stem: string, value: number): string => draft.constant(stem, integerScalar(dtype, value));
    grids.set(source, {
      scale: draft.constant(`${source}_scale`, float32([], [scale])),
      zeroPoint: integer(`${source}_zero_point`, zeroPoint),
      step: scale,
      lowest: scale * (qmin - zeroPoint),
      ...(bits < dtypes[dtype].bits && {
        clip: (integers) => {
          const bounds = [integer(`${source}_lowest`, qmin), integer(`${source}_highest`, qmax)];
          return draft.emit("Clip", [integers, ...bounds], {}, 1, `${integers}_bounded`);
        },
      }),
    });
  }
  return grids;
}

const integerArrays = { uint8: Uint8Array, int8: Int8Array, uint16: Uint16Array, int16: Int16Array } as const;

function integerScalar(dtype: keyof typeof integerArrays, value: number): Tensor {
  return tensor(dtype, [], integerArrays[dtype].of(value));
}
