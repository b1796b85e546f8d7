import type { Range } from "../../analysis/ranges.ts";
import type { Draft } from "../../graph/edit.ts";
import { type Graph, makeNode } from "../../graph/graph.ts";
import { links } from "../../graph/walk.ts";
import { affineParams, quantizedRange } from "../../tensor/affine.ts";
import { float32, type Tensor, tensor } from "../../tensor/tensor.ts";
import { constantsOf, type EmitOptions, withConstants, withWeights } from "./constants.ts";
import { type Placed, place } from "./place.ts";
import { integerOnly, type Plan, readSource } from "./plan.ts";
import { kindOf } from "./rules.ts";

/** Names of a value's scale and zero point, and its scale. */
interface Grid {
  readonly scale: string;
  readonly zeroPoint: string;
  readonly step: number;
  /** The smallest number on the grid. */
  readonly lowest: number;
  /** Names of the least and the largest integer, where these are not the type's own. */
  readonly bounds: readonly [string, string] | undefined;
}

/**
 * Writes a plan into the graph with QuantizeLinear and DequantizeLinear nodes: one pair a value, weights and biases as
 * integers with a DequantizeLinear. A runtime that knows the pattern runs integer kernels, any other the same in float.
 *
 * @param ranges by value, for every source in the plan that has no fixed range
 */
export function emit(graph: Graph, plan: Plan, ranges: ReadonlyMap<string, Range>, options: EmitOptions): Placed {
  return place(graph, plan, (draft) => {
    const grids = activationGrids(draft, plan, ranges, options);
    const constants = constantsOf(draft, options);
    return {
      round({ name, source, before, after }) {
        const grid = grids.get(source)!;
        const { scale, zeroPoint, bounds } = grid;
        const integers = draft.fresh(`${name}_quantized`);
        const guarded = needsGuard(name, graph, plan) ? guard(draft, before, grid) : before;
        // what only moves integers keeps them within their bounds
        const clips = bounds !== undefined && source === name;
        const wide = clips ? draft.fresh(`${name}_unclipped`) : integers;
        draft.add(makeNode("QuantizeLinear", [guarded, scale, zeroPoint], [wide]));
        // on the integers: in front of QuantizeLinear a Clip would keep the runtime from its integer kernels
        if (clips) draft.add(makeNode("Clip", [wide, ...bounds], [integers]));
        draft.add(makeNode("DequantizeLinear", [integers, scale, zeroPoint], [after]));
        return after;
      },
      inside(changed, node) {
        const grid = grids.get(readSource(node.inputs[0]!, plan) ?? "");
        return plan.compute.has(node)
          ? withWeights(changed, node, graph, constants, grid!.step)
          : withConstants(changed, node, graph, constants);
      },
    };
  });
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
  const grids = new Map<string, Grid>();
  for (const source of [...plan.values.values(), ...(plan.coarse?.values() ?? [])]) {
    if (grids.has(source)) continue;
    const { activationType: dtype, symmetricActivations: symmetric, widths } = options;
    const fixed = plan.fixed.get(source);
    const [min, max] = fixed ?? ranges.get(source) ?? [0, 0];
    const given = options.given?.activations.get(source);
    const grid = given ?? affineParams(min, max, dtype, { symmetric, bits: widths.value(source) });
    const integer = (stem: string, value: number): string =>
      draft.constant(`${source}_${stem}`, integerScalar(dtype, value));
    const [least, most] = quantizedRange(dtype, { symmetric });
    // a range that the values never leave needs no bounds
    const narrow = (given ?? !fixed) && (grid.qmin > least || grid.qmax < most);
    grids.set(source, {
      scale: draft.constant(`${source}_scale`, float32([], [grid.scale])),
      zeroPoint: integer("zero_point", grid.zeroPoint),
      step: grid.scale,
      lowest: grid.scale * (grid.qmin - grid.zeroPoint),
      bounds: narrow ? [integer("least", grid.qmin), integer("most", grid.qmax)] : undefined,
    });
  }
  return grids;
}

const integerArrays = { uint8: Uint8Array, int8: Int8Array, uint16: Uint16Array, int16: Int16Array } as const;

function integerScalar(dtype: keyof typeof integerArrays, value: number): Tensor {
  return tensor(dtype, [], integerArrays[dtype].of(value));
}
