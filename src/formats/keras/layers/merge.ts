import { type KerasTensor, range, type Shape } from "../builder.ts";
import { axisOf, type LayerCall, type LayerRule, unsupported } from "./layer.ts";

/** Tensors as an element-wise operator wants them: alike in axes and their order. Numbers become constants. */
function aligned(
  c: LayerCall,
  given: readonly (KerasTensor | number)[],
): { readonly values: readonly string[]; readonly like: KerasTensor; readonly shape: Shape } {
  const tensors = given.filter((operand) => typeof operand !== "number");
  const ranks = tensors.map(({ shape }) => shape.length);
  const rank = Math.max(...ranks);
  const [sample] = tensors;
  if (!sample) return unsupported(c, "it has no input", "The file is damaged");
  const alike = tensors.every(
    ({ order, unflattened }) => order === sample.order && unflattened?.join() === sample.unflattened?.join(),
  );
  const channelsFirst = tensors.some(({ order, unflattened }) => order === "channels-first" && !unflattened);
  const arrange = (t: KerasTensor): KerasTensor => {
    if (alike && ranks.every((r) => r === rank)) return t;
    return channelsFirst ? c.b.channelsFirst(raised(c, t, rank)) : raised(c, c.b.plain(t), rank);
  };
  const ready = given.map((operand) => (typeof operand === "number" ? operand : arrange(operand)));
  const like = ready.find((operand) => typeof operand !== "number")!;
  const shapes = ready.filter((operand) => typeof operand !== "number").map(({ shape }) => shape);
  return {
    values: ready.map((operand) => (typeof operand === "number" ? c.b.scalar(operand) : operand.value)),
    like,
    shape: range(0, rank).map((axis) =>
      broadcast(
        c,
        shapes.map((shape) => shape[axis]!),
      ),
    ),
  };
}

/** Keras adds missing axes behind the batch. */
function raised(c: LayerCall, given: KerasTensor, rank: number): KerasTensor {
  const missing = rank - given.shape.length;
  if (missing === 0) return given;
  const t = c.b.plain(given);
  const value = c.b.op(`${c.name}/Unsqueeze`, "Unsqueeze", [t.value, c.b.ints(range(1, 1 + missing))]);
  return { ...t, value, shape: [t.shape[0]!, ...new Array<number>(missing).fill(1), ...t.shape.slice(1)] };
}

function broadcast(c: LayerCall, sizes: Shape): number | null {
  const other = sizes.filter((size) => size !== 1);
  const known = other.filter((size) => size !== null);
  if (new Set(known).size > 1)
    return unsupported(c, `its inputs have sizes ${sizes.join(" and ")}`, "The file is damaged");
  return known[0] ?? (other.length > 0 ? null : 1);
}

/** An operator of two operands, applied from the left to as many as there are. */
export function merge(op: "Add" | "Mul" | "Sub" | "Div" | "Pow", operands = (c: LayerCall) => c.operands): LayerRule {
  return (c) => {
    const { values, like, shape } = aligned(c, operands(c));
    if (values.length < 2)
      return unsupported(c, `it takes two inputs or more, got ${values.length}`, "The file is damaged");
    const value = values.slice(1).reduce((y, next) => c.b.op(c.name, op, [y, next]), values[0]!);
    return { ...like, value, shape };
  };
}

/** An operator of any number of operands. */
export function mergeAll(op: "Max" | "Min" | "Mean"): LayerRule {
  return (c) => {
    const { values, like, shape } = aligned(c, c.operands);
    return { ...like, value: c.b.op(c.name, op, values), shape };
  };
}

/** a + scale b (Inception-ResNet's blocks). */
export const scaledSum: LayerRule = (c) => {
  const [a, b] = c.inputs;
  if (!a || !b || c.inputs.length > 2) return unsupported(c, `it takes two inputs, got ${c.inputs.length}`);
  const scale = c.b.scalar(c.settings.number("scale"));
  const part = { ...b, value: c.b.op(`${c.name}/scale`, "Mul", [b.value, scale]) };
  return merge("Add", () => [a, part])(c);
};

/** Sums of products along one axis of each of two tensors. */
export const dot: LayerRule = (c) => {
  const [a, b] = c.inputs.map(c.b.plain);
  if (!a || !b || c.inputs.length > 2) return unsupported(c, `it takes two inputs, got ${c.inputs.length}`);
  if (a.shape.length > 3 || b.shape.length > 3) return unsupported(c, "its inputs have more than three axes");
  const given = c.settings.integers("axes");
  const [left, right] = [axisOf(c, given[0]!, a.shape.length), axisOf(c, given[1] ?? given[0]!, b.shape.length)];
  if (left === 0 || right === 0) return unsupported(c, "it sums along the batch");
  const normalize = c.settings.flag("normalize", false);
  const x = operand(c, a, left, a.shape.length - 1, normalize, "left");
  const y = operand(c, b, right, 1, normalize, "right");
  const kept = (t: KerasTensor, axis: number): Shape => t.shape.slice(1).filter((_, i) => i + 1 !== axis);
  const shape: Shape = [a.shape[0]!, ...kept(a, left), ...kept(b, right)];
  const [flatA, flatB] = [a.shape.length === 2, b.shape.length === 2];
  const rows = flatA ? c.b.op(`${c.name}/row`, "Unsqueeze", [x, c.b.ints([1])]) : x;
  const columns = flatB ? c.b.op(`${c.name}/column`, "Unsqueeze", [y, c.b.ints([2])]) : y;
  let value = c.b.op(c.name, "MatMul", [rows, columns]);
  // two vectors leave one number a sample, which Keras gives an axis
  if (flatA && flatB)
    return { ...a, value: c.b.op(`${c.name}/Squeeze`, "Squeeze", [value, c.b.ints([1])]), shape: [a.shape[0]!, 1] };
  if (flatA || flatB) value = c.b.op(`${c.name}/Squeeze`, "Squeeze", [value, c.b.ints([flatA ? 1 : 2])]);
  return { ...a, value, shape };
};

/** A tensor with the axis that is summed over where a matrix product wants it, of unit length if asked for. */
function operand(c: LayerCall, t: KerasTensor, axis: number, target: number, normalize: boolean, side: string): string {
  let { value } = t;
  if (normalize) {
    const norm = c.b.op(`${c.name}/${side}/norm`, "ReduceL2", [value, c.b.ints([axis])], { keepdims: 1 });
    const least = c.b.op(`${c.name}/${side}/Max`, "Max", [norm, c.b.scalar(1e-6)]);
    value = c.b.op(`${c.name}/${side}/Div`, "Div", [value, least]);
  }
  if (t.shape.length === 2 || axis === target) return value;
  return c.b.op(`${c.name}/${side}/Transpose`, "Transpose", [value], { perm: [0, 2, 1] });
}
