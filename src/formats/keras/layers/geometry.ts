import type { Attributes, Shape } from "../builder.ts";
import { type LayerCall, unsupported } from "./layer.ts";

/** What slides over spatial axes. */
export interface Window {
  readonly kernel: readonly number[];
  readonly strides: readonly number[];
  readonly dilations: readonly number[];
  /** "same": an output for every stride-th input, zeros added where needed, one more at the end than at the start. */
  readonly padding: "valid" | "same" | "causal";
}

/**
 * The window of a convolution or pooling layer.
 *
 * @param axes number of spatial axes
 */
export function windowOf(c: LayerCall, axes: number, kernel: readonly number[], strides: readonly number[]): Window {
  const padding = c.settings.text("padding", "valid");
  const dilations = c.settings.integers("dilation_rate", axes, new Array<number>(axes).fill(1));
  if (padding !== "valid" && padding !== "same" && (padding !== "causal" || axes !== 1)) {
    return unsupported(c, `its padding '${padding}' is not known`);
  }
  for (const number of [...kernel, ...strides, ...dilations]) {
    if (number < 1) unsupported(c, `its kernel, strides or dilation hold ${number}`, "The file is damaged");
  }
  return { kernel, strides, dilations, padding };
}

/** ONNX attributes of a window, and the sizes it leaves. */
export function slide(
  c: LayerCall,
  window: Window,
  sizes: Shape,
): { readonly attributes: Attributes; readonly sizes: Shape } {
  const { kernel, strides, dilations, padding } = window;
  const spans = kernel.map((size, i) => (size - 1) * dilations[i]! + 1);
  const out = sizes.map((size, i) => {
    if (size === null) return null;
    return Math.ceil((padding === "valid" ? size - spans[i]! + 1 : size) / strides[i]!);
  });
  const shared = { kernel_shape: [...kernel], strides: [...strides], dilations: [...dilations] };
  const totals = spans.map((span, i) => {
    if (padding === "valid") return 0;
    const stride = strides[i]!;
    const size = sizes[i]!;
    if (padding === "causal" || stride === 1) return span - 1;
    // a window of one element never reaches over the end
    if (span === 1) return 0;
    // the runtime counts padding that strides jump over as negative, and refuses it
    if (size === null && span < stride)
      unsupported(c, "its strides are larger than its window and the input's size is free", "Fix the input's size");
    return size === null ? null : Math.max(0, (Math.ceil(size / stride) - 1) * stride + span - size);
  });
  if (totals.includes(null)) return { attributes: { ...shared, auto_pad: "SAME_UPPER" }, sizes: out };
  const begins = (totals as number[]).map((total) => (padding === "causal" ? total : Math.floor(total / 2)));
  const pads = [...begins, ...begins.map((begin, i) => totals[i]! - begin)];
  return { attributes: { ...shared, pads }, sizes: out };
}
