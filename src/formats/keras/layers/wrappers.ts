import type { KerasTensor } from "../builder.ts";
import { input, type LayerCall, type LayerRule, unsupported } from "./layer.ts";
import { product } from "./shape.ts";

/** A layer applied to every step by itself: the steps are counted as samples meanwhile. */
export const timeDistributed: LayerRule = (c) => {
  const t = c.b.plain(input(c));
  const [batch, steps] = t.shape as [number | null, number | null];
  const layer = c.settings.object("layer");
  const rest = t.shape.slice(2);
  if (rest.length === 1 && layer?.class_name === "Dense") return inner(c, t);
  if (steps === null || rest.includes(null)) return unsupported(c, "its input has free sizes", "Fix the input's shape");
  const samples = c.b.op(`${c.name}/samples`, "Reshape", [t.value, c.b.ints([-1, ...(rest as number[])])]);
  const count = batch === null ? null : batch * steps;
  const y = c.b.plain(inner(c, { ...t, value: samples, shape: [count, ...rest] }));
  const shape = y.shape.slice(1);
  if (product(shape) === null) return unsupported(c, "its output has free sizes", "Fix the input's shape");
  const value = c.b.op(`${c.name}/steps`, "Reshape", [y.value, c.b.ints([-1, steps, ...(shape as number[])])]);
  return { ...y, value, shape: [batch, steps, ...shape] };
};

function inner(c: LayerCall, t: KerasTensor): KerasTensor {
  return c.wrapped(c.settings.object("layer"), "layer", [t])[0]!;
}
