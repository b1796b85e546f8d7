import { slide, windowOf } from "./geometry.ts";
import { type LayerRule, spatial, unsupported } from "./layer.ts";

/** Pooling over windows; zeros that padding adds are not counted in averages. */
export function pooling(op: "MaxPool" | "AveragePool", axes: number): LayerRule {
  return (c) => {
    const x = spatial(c, axes);
    const size = c.settings.integers("pool_size", axes, new Array<number>(axes).fill(2));
    const window = slide(c, windowOf(c, axes, size, c.settings.integers("strides", axes, size)), x.sizes);
    const { dilations: _, ...attributes } = window.attributes;
    return x.result(c.b.op(c.name, op, [x.value], attributes), x.channels, window.sizes);
  };
}

/** Pooling over all spatial axes, which go unless `keepdims` says otherwise. */
export function globalPooling(op: "GlobalMaxPool" | "GlobalAveragePool", axes: number): LayerRule {
  return (c) => {
    const x = spatial(c, axes);
    if (op === "GlobalAveragePool" && c.inputs[0]!.masked)
      unsupported(c, "its input is masked", "Train it without mask_zero");
    const pooled = c.b.op(c.name, op, [x.value]);
    if (c.settings.flag("keepdims", false)) return x.result(pooled, x.channels, new Array<number>(axes).fill(1));
    const value = c.b.op(`${c.name}/Flatten`, "Flatten", [pooled]);
    const [batch, dtype] = [c.inputs[0]!.shape[0]!, c.inputs[0]!.dtype];
    return { value, shape: [batch, x.channels], dtype, order: "keras" };
  };
}
