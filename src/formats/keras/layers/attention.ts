import { float32, reshape, type Tensor } from "../../../tensor/tensor.ts";
import type { KerasTensor, Shape } from "../builder.ts";
import { addWeight, type LayerCall, type LayerRule, unsupported, weightsOf } from "./layer.ts";

/** softmax(q kᵀ / sqrt(size)) v for each head (Vaswani et al. 2017); kernels are [in, heads, size]. */
export const multiHeadAttention: LayerRule = (c) => {
  const { query, value, key } = operands(c);
  const [heads, size] = [c.settings.number("num_heads"), c.settings.number("key_dim")];
  if (query.shape.length !== 3 || value.shape.length !== 3) return unsupported(c, "it attends over several axes");
  const q = projected(c, query, "query", [0, 2, 1, 3]);
  const k = projected(c, key, "key", [0, 2, 3, 1]);
  const v = projected(c, value, "value", [0, 2, 1, 3]);
  if (q.heads !== heads || q.size !== size)
    unsupported(c, "its weights do not fit its settings", "The file is damaged");
  const scaled = c.b.op(`${c.name}/scale`, "Mul", [q.value, c.b.scalar(1 / Math.sqrt(size))]);
  const scores = c.b.op(`${c.name}/scores`, "MatMul", [scaled, k.value]);
  const seen = c.named.use_causal_mask === true ? causal(c, scores, query.shape, value.shape) : scores;
  const shares = c.b.op(`${c.name}/softmax`, "Softmax", [seen], { axis: -1 });
  const mixed = c.b.op(c.name, "MatMul", [shares, v.value]);
  const joined = c.b.op(`${c.name}/heads_last`, "Transpose", [mixed], { perm: [0, 2, 1, 3] });
  const flat = c.b.op(`${c.name}/joined`, "Reshape", [joined, c.b.ints([0, 0, heads * v.size])]);
  const { kernel, bias } = dense(c, "attention_output", "output_dense", 3, 1);
  const to = kernel.shape[2]!;
  const w = addWeight(c, "attention_output/kernel", reshape(kernel, [heads * v.size, to]));
  const product = c.b.op(`${c.name}/output`, "MatMul", [flat, w]);
  const y = bias
    ? c.b.op(`${c.name}/output/Add`, "Add", [product, addWeight(c, "attention_output/bias", bias)])
    : product;
  return { ...query, value: y, shape: [...query.shape.slice(0, 2), to] };
};

/** It is called with (query, value, key = value), by place or by name. */
function operands(c: LayerCall): {
  readonly query: KerasTensor;
  readonly value: KerasTensor;
  readonly key: KerasTensor;
} {
  const named = (name: string): KerasTensor | undefined => {
    const given = c.named[name];
    return typeof given === "object" && given !== null && "order" in given ? (given as KerasTensor) : undefined;
  };
  if (named("attention_mask")) unsupported(c, "it is called with a mask");
  const query = c.inputs[0] ?? named("query");
  const value = c.inputs[1] ?? named("value");
  const key = c.inputs[2] ?? named("key") ?? value;
  if (!query || !value || !key) return unsupported(c, "its query or value is missing", "The file is damaged");
  if (query.masked || value.masked) unsupported(c, "its input is masked", "Train it without mask_zero and Masking");
  return { query: c.b.plain(query), value: c.b.plain(value), key: c.b.plain(key) };
}

function dense(c: LayerCall, name: string, attribute: string, kernelRank: number, biasRank: number) {
  const part = { ...c, weights: c.weights.part(attribute, `${name}/`) };
  const names = ["kernel", c.settings.flag("use_bias", true) && "bias"] as const;
  const [kernel, bias] = weightsOf(part, names, [kernelRank, biasRank]);
  return { kernel: kernel!, bias };
}

/** [n, steps, in] to [n, heads, steps, size], the axes in a given order. */
function projected(c: LayerCall, t: KerasTensor, name: string, perm: readonly number[]) {
  const { kernel, bias } = dense(c, name, `${name}_dense`, 3, 2);
  const [from, heads, size] = kernel.shape as [number, number, number];
  const w = addWeight(c, `${name}/kernel`, reshape(kernel, [from, heads * size]));
  const product = c.b.op(`${c.name}/${name}`, "MatMul", [t.value, w]);
  const flat: Tensor | undefined = bias && reshape(bias, [heads * size]);
  const shifted = flat
    ? c.b.op(`${c.name}/${name}/Add`, "Add", [product, addWeight(c, `${name}/bias`, flat)])
    : product;
  const split = c.b.op(`${c.name}/${name}/heads`, "Reshape", [shifted, c.b.ints([0, 0, heads, size])]);
  return { value: c.b.op(`${c.name}/${name}/Transpose`, "Transpose", [split], { perm: [...perm] }), heads, size };
}

/** Scores of later steps pushed out of reach. */
function causal(c: LayerCall, scores: string, query: Shape, value: Shape): string {
  const [rows, columns] = [query[1], value[1]];
  if (rows == null || columns == null) return unsupported(c, "it has a causal mask over a free number of steps");
  const mask = Float32Array.from({ length: rows * columns }, (_, i) =>
    i % columns > Math.floor(i / columns) ? -1e9 : 0,
  );
  return c.b.op(`${c.name}/causal`, "Add", [scores, addWeight(c, "causal_mask", float32([rows, columns], mask))]);
}
