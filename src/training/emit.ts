import { ints, scalar, type Writer, writer } from "../autodiff/writer.ts";
import type { Draft } from "../graph/edit.ts";

/** Short spellings for writing arithmetic as nodes: values are names, operations return the name of their result. */
export interface Arithmetic extends Writer {
  scalar(value: number): string;
  ints(values: readonly number[]): string;
  add(a: string, b: string): string;
  sub(a: string, b: string): string;
  mul(a: string, b: string): string;
  div(a: string, b: string): string;
}

/** Arithmetic into a draft. */
export function arithmetic(draft: Draft, stem: string): Arithmetic {
  const write = writer(draft, stem, draft.add);
  return {
    ...write,
    scalar: (value) => scalar(write, value),
    ints: (values) => ints(write, values),
    add: (a, b) => write.op("Add", [a, b]),
    sub: (a, b) => write.op("Sub", [a, b]),
    mul: (a, b) => write.op("Mul", [a, b]),
    div: (a, b) => write.op("Div", [a, b]),
  };
}
