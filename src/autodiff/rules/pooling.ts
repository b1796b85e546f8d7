import { intAttribute, intsAttribute, stringAttribute } from "../../graph/graph.ts";
import { float32, sizeOf } from "../../tensor/tensor.ts";
import type { Backward, Rule } from "../rule.ts";
import { ints, scalar, type Writer } from "../writer.ts";
import { gradientAttributes, type Window, windowOf } from "./convolution.ts";
import { div, dyOf, expanded, mul, reshaped, scaled, shapeIn, shapeOut, sumOver } from "./helpers.ts";
import { zeros } from "./shaping.ts";

function spatialAxes(shape: readonly number[]): number[] {
  return shape.map((_, i) => i).slice(2);
}

/**
 * Every place that won a window gets the window's gradient. Windows that overlap add up where they have the same winner;
 * those that don't leave the choice of how to the lowering.
 */
export const maxPoolRule: Rule = (g) => {
  const [shape, pooled] = [shapeIn(g, 0), shapeOut(g)];
  const kernel = intsAttribute(g.node, "kernel_shape") ?? [];
  const window = windowOf(g.node, kernel, shape.slice(2), pooled.slice(2));
  const { strides, dilations } = window;
  const apart = kernel.every((k, i) => strides[i]! > (k - 1) * dilations[i]!);
  const ceilMode = intAttribute(g.node, "ceil_mode", 0);
  const known = intAttribute(g.node, "storage_order", 0) === 0 ? g.node.outputs[1] : undefined;
  const [x, y, dy] = [g.node.inputs[0]!, g.node.outputs[0]!, dyOf(g)];
  if (apart && g.type(x).dtype === "float32") {
    const inputs = known ? [x, y, dy, known] : [x, y, dy];
    const attributes = { ...gradientAttributes(window, shape, pooled), ceil_mode: ceilMode };
    return [g.op("pare:MaxPoolGradient", inputs, attributes)];
  }
  const winners = known || winnersOf(g, x, window, ceilMode);
  const flat = (value: string): string => g.op("Reshape", [value, ints(g, [-1])]);
  const attributes = { axis: 0, reduction: "add" };
  const sum = g.op("ScatterElements", [zeros(g, [sizeOf(shape)]), flat(winners), flat(dy)], attributes);
  return [g.op("Reshape", [sum, ints(g, shape)])];
};

/** The places that win the windows of a max pool, counted over the whole input; the pool is run again for them. */
export function winnersOf(g: Writer, x: string, window: Window, ceilMode: number): string {
  const { kernel, strides, dilations, begins, ends } = window;
  const attributes = {
    kernel_shape: [...kernel],
    strides: [...strides],
    dilations: [...dilations],
    pads: [...begins, ...ends],
    ceil_mode: ceilMode,
  };
  return g.ops("MaxPool", [x], attributes, 2)[1]!;
}

export const averagePoolRule: Rule = (g) => {
  const shape = shapeIn(g, 0);
  const kernel = intsAttribute(g.node, "kernel_shape") ?? [];
  const window = windowOf(g.node, kernel, shape.slice(2), shapeOut(g).slice(2));
  const { dilations, strides } = window;
  // with ceil_mode the last window may reach beyond the padding
  const ends = kernel.map((k, i) => {
    const reach = (shapeOut(g)[i + 2]! - 1) * strides[i]! + (k - 1) * dilations[i]! + 1;
    return Math.max(window.ends[i]!, reach - shape[i + 2]! - window.begins[i]!);
  });
  const channels = shape[1]!;
  const counted = divisors(g, shape.slice(2), shapeOut(g).slice(2), window);
  // where all windows are over as many elements, their number is in the filter
  const even = counted.every((count) => count === counted[0]);
  const taps = new Float32Array(channels * sizeOf(kernel)).fill(even ? 1 / counted[0]! : 1);
  const filter = g.constant(float32([channels, 1, ...kernel], taps));
  const share = even ? dyOf(g) : div(g, dyOf(g), g.constant(float32([1, 1, ...shapeOut(g).slice(2)], counted)));
  const attributes = gradientAttributes({ ...window, ends, group: channels }, shape, shapeOut(g));
  return [g.op("pare:ConvInputGradient", [share, filter], attributes)];
};

/** How many elements each window's mean is over. */
function divisors(g: Backward, from: readonly number[], to: readonly number[], window: Window): Float32Array {
  const padded = intAttribute(g.node, "count_include_pad", 0) === 1;
  const perAxis = to.map((size, axis) =>
    Array.from({ length: size }, (_, p) => {
      const start = p * window.strides[axis]! - window.begins[axis]!;
      const limit = padded ? from[axis]! + window.ends[axis]! : from[axis]!;
      let inside = 0;
      for (let k = 0; k < window.kernel[axis]!; k++) {
        const at = start + k * window.dilations[axis]!;
        if (at < limit && (padded || at >= 0)) inside++;
      }
      return inside;
    }),
  );
  const out = new Float32Array(sizeOf(to));
  for (let i = 0; i < out.length; i++) {
    let rest = i;
    let product = 1;
    for (let axis = to.length - 1; axis >= 0; axis--) {
      product *= perAxis[axis]![rest % to[axis]!]!;
      rest = Math.floor(rest / to[axis]!);
    }
    out[i] = product;
  }
  return out;
}

export const globalAveragePoolRule: Rule = (g) => {
  const shape = shapeIn(g, 0);
  return [expanded(g, scaled(g, dyOf(g), 1 / sizeOf(shape.slice(2))), shapeOut(g), shape)];
};

/** Ties share the gradient evenly. */
export const globalMaxPoolRule: Rule = (g) => {
  const hit = g.op("Cast", [g.op("Equal", [g.node.inputs[0]!, g.node.outputs[0]!])], { to: 1 });
  const ties = sumOver(g, hit, spatialAxes(shapeIn(g, 0)), true);
  return [mul(g, hit, div(g, dyOf(g), ties))];
};

/** (Σ |x|^p)^(1/p) within the window, by the powers' average pool turned around. */
export const globalLpPoolRule: Rule = (g) => {
  const p = intAttribute(g.node, "p", 2);
  const [x, y] = [g.node.inputs[0]!, g.node.outputs[0]!];
  const magnitude = g.op("Pow", [g.op("Abs", [x]), scalar(g, p - 1)]);
  const slope = mul(g, magnitude, g.op("Sign", [x]));
  return [mul(g, slope, div(g, dyOf(g), g.op("Pow", [y, scalar(g, p - 1)])))];
};

/**
 * Resizing is linear and acts on each axis by itself: the same operator applied to an identity matrix is its matrix, and
 * dx is dy times its transpose, axis by axis.
 */
export const resizeRule: Rule = (g) => {
  const from = shapeIn(g, 0);
  const to = shapeOut(g);
  const { axes: _, ...attributes } = g.node.attributes;
  let dx = dyOf(g);
  const shape = [...to];
  for (const [axis, size] of from.entries()) {
    const same =
      to[axis] === size && stringAttribute(g.node, "coordinate_transformation_mode", "") !== "tf_crop_and_resize";
    if (same) continue;
    const identity = Float32Array.from({ length: size * size }, (_, i) => (i % (size + 1) === 0 ? 1 : 0));
    const target = axisTarget(g, axis, size, to[axis]!);
    const image = g.constant(float32([1, 1, size, size], identity));
    const matrix = g.op("Reshape", [g.op("Resize", [image, "", ...target], attributes), ints(g, [size, to[axis]!])]);
    // bring the axis last, multiply, bring it back
    const perm = shape
      .map((_, i) => i)
      .filter((i) => i !== axis)
      .concat(axis);
    const last = g.op("Transpose", [dx], { perm });
    const product = g.op("MatMul", [last, g.op("Transpose", [matrix], { perm: [1, 0] })]);
    dx = g.op("Transpose", [product], { perm: perm.map((_, i) => perm.indexOf(i)) });
    shape[axis] = size;
  }
  return [reshaped(g, dx, shape, from)];
};

/** The inputs that resize a 4-D image's last axis as the node resizes this one: the same scale where it gave one. */
function axisTarget(g: Backward, axis: number, from: number, to: number): string[] {
  const scales = g.constantInput(2);
  const given = intsAttribute(g.node, "axes");
  if (scales && scales.size > 0) {
    const index = given ? given.indexOf(axis) : axis;
    const values = new Float32Array(scales.bytes().slice().buffer);
    return [g.constant(float32([4], [1, 1, 1, index < 0 ? 1 : values[index]!]))];
  }
  return ["", ints(g, [1, 1, from, to])];
}
