import type { Tensor } from "../../../tensor/tensor.ts";
import { arranged } from "../arrange.ts";
import { inValueOrder, type KerasTensor, range } from "../builder.ts";
import { activate } from "./activation.ts";
import { addWeight, expectChannels, input, type LayerCall, type LayerRule, weightsOf } from "./layer.ts";

/** x W + b over the last axis, W [in, out]. */
export const dense: LayerRule = (c) => {
  const t = input(c);
  const [kernel, bias] = weightsOf(c, ["kernel", c.settings.flag("use_bias", true) && "bias"], [2, 1]);
  const [from, to] = kernel!.shape as [number, number];
  expectChannels(c, from, t.shape.at(-1));
  const made = t.unflattened
    ? overFlattened(c, t, t.unflattened, kernel!, bias)
    : t.shape.length === 2
      ? { ...t, value: gemm(c, t.value, addWeight(c, "kernel", kernel!), bias) }
      : t.order === "channels-first"
        ? pointwise(c, t, kernel!, bias)
        : overLastAxis(c, t, kernel!, bias);
  return activate(c, { ...made, shape: [...t.shape.slice(0, -1), to] });
};

function gemm(c: LayerCall, x: string, kernel: string, bias: Tensor | undefined): string {
  return c.b.op(c.name, "Gemm", [x, kernel, ...(bias ? [addWeight(c, "bias", bias)] : [])]);
}

/** Behind a Flatten: the rows of the kernel are brought into the order in which the value is flattened. */
function overFlattened(
  c: LayerCall,
  { unflattened: _, ...t }: KerasTensor,
  shape: readonly (number | null)[],
  kernel: Tensor,
  bias: Tensor | undefined,
): KerasTensor {
  const sizes = shape.slice(1) as number[];
  const [from, to] = kernel.shape as [number, number];
  const axes = inValueOrder({ ...t, shape }, range(0, shape.length)).slice(1);
  const order = [...axes.map((axis) => axis - 1), sizes.length];
  const sorted = arranged(kernel, [...sizes, to], order, [from, to]);
  const x = c.b.flattened(t);
  return { ...t, order: "keras", value: gemm(c, x, addWeight(c, "kernel", sorted, `${sizes}`), bias) };
}

/** Over the channels of a value that has them first: a convolution of one element. */
function pointwise(c: LayerCall, t: KerasTensor, kernel: Tensor, bias: Tensor | undefined): KerasTensor {
  const ones = new Array<number>(t.shape.length - 2).fill(1);
  const [from, to] = kernel.shape as [number, number];
  const w = addWeight(c, "kernel", arranged(kernel, [from, to], [1, 0], [to, from, ...ones]));
  const inputs = [t.value, w, ...(bias ? [addWeight(c, "bias", bias)] : [])];
  return { ...t, value: c.b.op(c.name, "Conv", inputs, { kernel_shape: ones }) };
}

function overLastAxis(c: LayerCall, t: KerasTensor, kernel: Tensor, bias: Tensor | undefined): KerasTensor {
  const product = c.b.op(c.name, "MatMul", [t.value, addWeight(c, "kernel", kernel)]);
  return { ...t, value: bias ? c.b.op(`${c.name}/Add`, "Add", [product, addWeight(c, "bias", bias)]) : product };
}

/** Rows of a table by their numbers. */
export const embedding: LayerRule = (c) => {
  const t = c.b.plain(input(c));
  const [table] = weightsOf(c, ["embeddings"], [2]);
  const indices =
    t.dtype === "int32" || t.dtype === "int64" ? t.value : c.b.op(`${c.name}/Cast`, "Cast", [t.value], { to: 6 });
  const value = c.b.op(c.name, "Gather", [addWeight(c, "embeddings", table!), indices]);
  return {
    ...t,
    value,
    dtype: "float32",
    shape: [...t.shape, table!.shape[1]!],
    masked: c.settings.flag("mask_zero", false),
  };
};
