import type { Tensor } from "../../../tensor/tensor.ts";
import { arranged } from "../arrange.ts";
import { type KerasTensor, range } from "../builder.ts";
import { activate } from "./activation.ts";
import { slide, windowOf } from "./geometry.ts";
import { addWeight, expectChannels, type LayerCall, type LayerRule, spatial, unsupported, weightsOf } from "./layer.ts";

/** Kernels are [...sizes, in / groups, out] in Keras, [out, in / groups, ...sizes] in ONNX. */
export function convolution(axes: number): LayerRule {
  return (c) => {
    const x = spatial(c, axes);
    const [kernel, bias] = kernelAndBias(c, "kernel", axes);
    const groups = c.settings.number("groups", 1);
    const [sizes, out] = [kernel.shape.slice(0, axes), kernel.shape.at(-1)!];
    expectChannels(c, kernel.shape[axes]! * groups, x.channels);
    const window = slide(c, windowOf(c, axes, sizes, c.settings.integers("strides", axes, ones(axes))), x.sizes);
    const w = arranged(kernel, kernel.shape, [axes + 1, axes, ...range(0, axes)]);
    const inputs = [x.value, addWeight(c, "kernel", w), ...biasInput(c, bias)];
    const y = c.b.op(c.name, "Conv", inputs, { ...window.attributes, group: groups });
    return activate(c, x.result(y, out, window.sizes));
  };
}

/** Kernels are [...sizes, channels, multiplier]: output `c * multiplier + m` reads channel `c` alone. */
export function depthwise(axes: number): LayerRule {
  return (c) => {
    const [kernel, bias] = kernelAndBias(c, "depthwise_kernel", axes, c.keras < 3 ? "depthwise_kernel" : "kernel");
    const { tensor } = depthwiseConv(c, axes, kernel, bias);
    return activate(c, tensor);
  };
}

/** A depthwise convolution, then a pointwise one. */
export function separable(axes: number): LayerRule {
  return (c) => {
    const names = ["depthwise_kernel", "pointwise_kernel", c.settings.flag("use_bias", true) && "bias"] as const;
    const [depth, point, bias] = weightsOf(c, names, [axes + 2, axes + 2, 1]);
    const { tensor } = depthwiseConv(c, axes, depth!, undefined);
    const x = spatial(c, axes, tensor);
    expectChannels(c, point!.shape[axes]!, x.channels);
    const w = arranged(point!, point!.shape, [axes + 1, axes, ...range(0, axes)]);
    const inputs = [x.value, addWeight(c, "pointwise_kernel", w), ...biasInput(c, bias)];
    const y = c.b.op(`${c.name}/pointwise`, "Conv", inputs, { kernel_shape: ones(axes) });
    return activate(c, x.result(y, point!.shape.at(-1)!, x.sizes));
  };
}

function depthwiseConv(
  c: LayerCall,
  axes: number,
  kernel: Tensor,
  bias: Tensor | undefined,
): { readonly tensor: KerasTensor } {
  const x = spatial(c, axes);
  const [channels, multiplier] = kernel.shape.slice(axes) as [number, number];
  expectChannels(c, channels, x.channels);
  const given = c.settings.integers("strides", axes, ones(axes));
  const window = slide(c, windowOf(c, axes, kernel.shape.slice(0, axes), given), x.sizes);
  const sizes = kernel.shape.slice(0, axes);
  const order = [axes, axes + 1, ...range(0, axes)];
  const w = arranged(kernel, kernel.shape, order, [channels * multiplier, 1, ...sizes]);
  const inputs = [x.value, addWeight(c, "depthwise_kernel", w), ...biasInput(c, bias)];
  const y = c.b.op(c.name, "Conv", inputs, { ...window.attributes, group: channels });
  return { tensor: x.result(y, channels * multiplier, window.sizes) };
}

/**
 * The gradient of a convolution to its input: kernels are [...sizes, out, in] in Keras, [in, out, ...sizes] in ONNX. Of
 * the full result, of (n - 1) stride + span elements, Keras keeps those that the convolution would have read without
 * its padding.
 */
export function transposedConvolution(axes: number): LayerRule {
  return (c) => {
    const x = spatial(c, axes);
    const [kernel, bias] = kernelAndBias(c, "kernel", axes);
    const [out, channels] = kernel.shape.slice(axes) as [number, number];
    expectChannels(c, channels, x.channels);
    const strides = c.settings.integers("strides", axes, ones(axes));
    const { kernel: sizes, dilations, padding } = windowOf(c, axes, kernel.shape.slice(0, axes), strides);
    const extra = c.settings.json.output_padding == null ? undefined : c.settings.integers("output_padding", axes);
    const plans = sizes.map((size, i) => {
      const span = (size - 1) * dilations[i]! + 1;
      return transposedAxis(c, x.sizes[i]!, span, strides[i]!, padding === "same", extra?.[i]);
    });
    const w = arranged(kernel, kernel.shape, [axes + 1, axes, ...range(0, axes)]);
    const y = c.b.op(c.name, "ConvTranspose", [x.value, addWeight(c, "kernel", w), ...biasInput(c, bias)], {
      kernel_shape: [...sizes],
      strides: [...strides],
      dilations: [...dilations],
      pads: [...plans.map(({ begin }) => begin), ...plans.map(({ end }) => Math.max(0, end))],
      output_padding: plans.map(({ end }) => Math.max(0, -end)),
    });
    const made = plans.map(({ size }) => size);
    return activate(c, x.result(y, out, made));
  };
}

/** What to cut off the full result of one axis: `begin` elements, then `end` (negative: zeros to add). */
function transposedAxis(
  c: LayerCall,
  size: number | null,
  span: number,
  stride: number,
  same: boolean,
  extra: number | undefined,
): { readonly size: number | null; readonly begin: number; readonly end: number } {
  if (size === null && extra !== undefined) {
    return unsupported(c, "it has an output padding and an input of free size", "Fix the input's size");
  }
  // without output padding the cut does not depend on the size
  const n = size ?? 1;
  let length = n * stride + (same ? 0 : Math.max(span - stride, 0));
  if (extra !== undefined) length = (n - 1) * stride + span - (same ? 2 * Math.floor(span / 2) : 0) + extra;
  const total = same ? Math.max(0, (Math.ceil(length / stride) - 1) * stride + span - length) : 0;
  const begin = Math.floor(total / 2);
  const end = (n - 1) * stride + span - begin - length;
  return { size: size === null ? null : length, begin, end };
}

function kernelAndBias(c: LayerCall, name: string, axes: number, stored = name): readonly [Tensor, Tensor | undefined] {
  const [kernel, bias] = weightsOf(c, [stored, c.settings.flag("use_bias", true) && "bias"], [axes + 2, 1]);
  return [kernel!, bias];
}

function biasInput(c: LayerCall, bias: Tensor | undefined): string[] {
  return bias ? [addWeight(c, "bias", bias)] : [];
}

function ones(count: number): number[] {
  return new Array<number>(count).fill(1);
}
