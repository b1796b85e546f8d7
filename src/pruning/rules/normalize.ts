import { floatAttribute, intAttribute, intsAttribute } from "../../graph/graph.ts";
import { int64 } from "../../tensor/tensor.ts";
import { unary } from "./elementwise.ts";
import { broadcast, type CouplingRule, fromFront, type Masking } from "./rule.ts";

const label = ({ node }: Pick<Masking, "node">): string => node.name || node.outputs[0]!;

/** Statistics are weights, one for each channel; in training mode they are taken over all other axes. */
export const batchNormalization: CouplingRule = {
  relate(r) {
    const [x, y] = [r.input(0)!, r.output(0)!];
    for (const [i, axis] of x.entries()) r.same(axis, y[i]);
    for (const i of [1, 2, 3, 4]) r.same(r.input(i)?.[0], x[1]);
    for (const k of [1, 2, 3, 4]) r.same(r.output(k)?.[0], x[1]);
    if (intAttribute(r.node, "training_mode", 0) === 1) r.positions(x.filter((_, i) => i !== 1));
  },
};

/** Every channel has statistics of its own, over its positions. */
export const instanceNormalization: CouplingRule = {
  relate(r) {
    unary.relate(r);
    const x = r.input(0)!;
    for (const i of [1, 2]) r.same(r.input(i)?.[0], x[1]);
    r.positions(x.slice(2));
  },
};

/** Layer and root-mean-square normalization: statistics over all axes from `axis` on, of the channels that are left. */
export const layerNormalization: CouplingRule = {
  relate(r) {
    const [x, y] = [r.input(0)!, r.output(0)!];
    for (const [i, axis] of x.entries()) r.same(axis, y[i]);
    for (const i of [1, 2]) {
      const scale = r.input(i);
      if (scale) broadcast(r, scale, x);
    }
    const first = fromFront(intAttribute(r.node, "axis", -1), x.length);
    for (const k of [1, 2]) {
      const statistics = r.output(k);
      if (!statistics) continue;
      for (let i = 0; i < first; i++) r.same(x[i], statistics[i]);
      r.freeze(x.slice(first), `'${label(r)}' hands out its statistics`);
    }
  },
  mask(m) {
    const rank = m.shapeIn(0)!.length;
    const first = fromFront(intAttribute(m.node, "axis", -1), rank);
    const axes = Array.from({ length: rank - first }, (_, i) => first + i);
    if (axes.every((axis) => !m.keptIn(0, axis))) return;
    const normalized = standardize(
      m,
      m.node.inputs[0]!,
      m.keep(0, axes),
      axes,
      m.ratio(0, axes),
      m.node.op.startsWith("L"),
    );
    const y = scaleAndShift(m, normalized, m.node.inputs[1], m.node.inputs[2]);
    m.draft.emit("Identity", [y], {}, [m.node.outputs[0]!]);
    m.replaced();
  },
};

/** (x - mean) / sqrt(variance + epsilon) over the kept elements of some axes; without the mean for RMS forms. */
function standardize(
  m: Masking,
  x: string,
  keep: string,
  axes: readonly number[],
  ratio: number,
  centred: boolean,
): string {
  const op = (kind: string, ...inputs: string[]): string => m.draft.emit(kind, inputs);
  const masked = (value: string): string => op("Where", keep, value, m.scalar(0));
  const mean = (value: string): string => {
    const [inputs, attributes] =
      m.opset < 18 ? [[value], { axes: [...axes] }] : [[value, m.draft.constant("axes", int64(axes))], {}];
    return op("Mul", m.draft.emit("ReduceMean", inputs, attributes), m.scalar(ratio));
  };
  const seen = masked(x);
  const centre = centred ? masked(op("Sub", seen, mean(seen))) : seen;
  const variance = mean(op("Mul", centre, centre));
  return op("Div", centre, op("Sqrt", op("Add", variance, m.scalar(floatAttribute(m.node, "epsilon", 1e-5)))));
}

function scaleAndShift(m: Masking, x: string, scale: string | undefined, bias: string | undefined): string {
  const y = scale ? m.draft.emit("Mul", [x, scale]) : x;
  return bias ? m.draft.emit("Add", [y, bias]) : y;
}

/** Statistics over the channels of a group: whole groups can go, or the same channels of every group. */
export const groupNormalization: CouplingRule = {
  relate(r) {
    const [x, y] = [r.input(0)!, r.output(0)!];
    const groups = intAttribute(r.node, "num_groups", 1);
    const group = r.virtual(groups);
    r.product([x[1]!], [group, r.virtual(r.size(x[1]!) / groups)]);
    for (const [i, axis] of x.entries()) r.same(axis, y[i]);
    // scale and bias were one number for a group before operator set 21
    for (const i of [1, 2]) r.same(r.input(i)?.[0], r.opset < 21 ? group : x[1]);
    r.positions(x.slice(2));
  },
  cut(c) {
    const [groups, size] = [intAttribute(c.node, "num_groups", 1), c.shapeIn(0)![1]!];
    const kept = c.keptIn(0, 1);
    if (!kept) return;
    const left = new Set(kept.map((i) => Math.floor(i / (size / groups)))).size;
    c.become({ attributes: { ...c.node.attributes, num_groups: { type: "int", value: left } } });
  },
  mask(m) {
    const [, channels, ...places] = m.shapeIn(0)!;
    const groups = intAttribute(m.node, "num_groups", 1);
    const kept = m.keptIn(0, 1);
    if (!kept) return;
    const inner = channels! / groups;
    const left = new Set(kept.map((i) => i % inner)).size;
    if (left === inner) return;
    const shaped = (value: string, shape: readonly number[], to?: readonly string[]): string =>
      m.draft.emit("Reshape", [value, m.draft.constant("shape", int64(shape))], {}, to);
    const grouped = (value: string): string => shaped(value, [0, groups, inner, -1]);
    const keep = grouped(m.keep(0, [1]));
    const normalized = standardize(m, grouped(m.node.inputs[0]!), keep, [2, 3], inner / left, true);
    // a number for each channel or, before operator set 21, for each group
    const [scale, bias] = [1, 2].map((i) => shaped(m.node.inputs[i]!, [groups, -1, 1]));
    shaped(scaleAndShift(m, normalized, scale, bias), [0, channels!, ...places], [m.node.outputs[0]!]);
    m.replaced();
  },
};

/** Local response: windows over neighbouring channels. */
export const lrn: CouplingRule = {
  relate(r) {
    unary.relate(r);
    r.freeze([r.input(0)![1]!], `'${label(r)}' sums over neighbouring channels`);
  },
};

/** Zero mean and unit variance over axes, which stay. */
export const meanVariance: CouplingRule = {
  relate(r) {
    unary.relate(r);
    const x = r.input(0)!;
    const axes = intsAttribute(r.node, "axes") ?? [0, 2, 3];
    r.freeze(
      axes.map((axis) => x[fromFront(axis, x.length)]!),
      `'${label(r)}' normalizes over it`,
    );
  },
};

/** The runtime's fusion of a sum with its normalization: x, skip, scale, (bias), (bias added) -> y, , , sum. */
export const skipNormalization: CouplingRule = {
  relate(r) {
    const x = r.input(0)!;
    for (const [i] of r.node.inputs.entries()) {
      const other = r.input(i);
      if (other) broadcast(r, other, x);
    }
    for (const k of [0, 3]) for (const [i, axis] of (r.output(k) ?? []).entries()) r.same(axis, x[i]);
    r.freeze([x.at(-1)!], `'${label(r)}' normalizes over it: write it as Add and normalization`);
  },
};
