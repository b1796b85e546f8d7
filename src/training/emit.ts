import type { Draft } from "../graph/edit.ts";
import type { PlainAttribute } from "../graph/graph.ts";
import { float32, int64 } from "../tensor/tensor.ts";

/** Short spellings for writing arithmetic as nodes: values are names, operations return the name of their result. */
export interface Arithmetic {
  op(op: string, inputs: readonly string[], attributes?: Readonly<Record<string, PlainAttribute>>): string;
  /** A node with `count` outputs. */
  ops(
    op: string,
    inputs: readonly string[],
    attributes: Readonly<Record<string, PlainAttribute>>,
    count: number,
  ): readonly string[];
  scalar(value: number): string;
  ints(values: readonly number[]): string;
  add(a: string, b: string): string;
  sub(a: string, b: string): string;
  mul(a: string, b: string): string;
  div(a: string, b: string): string;
}

/** Arithmetic into a draft; equal scalars share one constant. */
export function arithmetic(draft: Draft, stem: string): Arithmetic {
  const constants = new Map<string, string>();
  const constant = (key: string, make: () => string): string => {
    const known = constants.get(key) ?? make();
    constants.set(key, known);
    return known;
  };
  const op: Arithmetic["op"] = (name, inputs, attributes = {}) => draft.emit(name, inputs, attributes, 1, stem);
  return {
    op,
    ops(name, inputs, attributes, count) {
      const outputs = Array.from({ length: count }, () => draft.fresh(stem));
      draft.emit(name, inputs, attributes, outputs);
      return outputs;
    },
    scalar: (value) => constant(`${value}`, () => draft.constant(`${stem}_scalar`, float32([], [value]))),
    ints: (values) => constant(`[${values}]`, () => draft.constant(`${stem}_ints`, int64(values))),
    add: (a, b) => op("Add", [a, b]),
    sub: (a, b) => op("Sub", [a, b]),
    mul: (a, b) => op("Mul", [a, b]),
    div: (a, b) => op("Div", [a, b]),
  };
}
