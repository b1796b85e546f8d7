import { fail } from "../../errors.ts";
import { floatAttribute, intAttribute, nodeLabel, stringAttribute } from "../../graph/graph.ts";
import type { Backward, Rule } from "../rule.ts";
import { dyOf, expanded, reshaped, scaled, shapeIn, shapeOut, sumTo } from "./helpers.ts";

/** The last two axes swapped. */
export function transposed(g: Backward, x: string, rank: number): string {
  const perm = Array.from({ length: rank }, (_, i) => i);
  [perm[rank - 2], perm[rank - 1]] = [rank - 1, rank - 2];
  return g.op("Transpose", [x], { perm });
}

/** Y = A B with numpy rules: dA = dY Bᵀ, dB = Aᵀ dY, summed over the batch axes that were broadcast. */
export const matMulRule: Rule = (g) => {
  const [a, b] = [g.node.inputs[0]!, g.node.inputs[1]!];
  const vectorA = shapeIn(g, 0).length === 1;
  const vectorB = shapeIn(g, 1).length === 1;
  // vectors become matrices for the while: a row on the left, a column on the right
  const shapeA = vectorA ? [1, ...shapeIn(g, 0)] : shapeIn(g, 0);
  const shapeB = vectorB ? [...shapeIn(g, 1), 1] : shapeIn(g, 1);
  const batch = vectorA || vectorB ? (vectorA ? shapeB : shapeA).slice(0, -2) : shapeOut(g).slice(0, -2);
  const [rows, inner, columns] = [shapeA.at(-2)!, shapeA.at(-1)!, shapeB.at(-1)!];
  const dy = reshaped(g, dyOf(g), shapeOut(g), [...batch, rows, columns]);
  const da = (): string => {
    const right = transposed(g, reshaped(g, b, shapeIn(g, 1), shapeB), shapeB.length);
    const full = sumTo(g, g.op("MatMul", [dy, right]), [...batch, rows, inner], shapeA);
    return reshaped(g, full, shapeA, shapeIn(g, 0));
  };
  return [g.wants(0) ? da() : undefined, g.wants(1) ? matMulRight(g, a, dy, { shapeA, shapeB, batch }) : undefined];
};

interface MatMulShapes {
  readonly shapeA: readonly number[];
  readonly shapeB: readonly number[];
  readonly batch: readonly number[];
}

function matMulRight(g: Backward, a: string, dy: string, { shapeA, shapeB, batch }: MatMulShapes): string {
  const [rows, inner, columns] = [shapeA.at(-2)!, shapeA.at(-1)!, shapeB.at(-1)!];
  const left = reshaped(g, a, shapeIn(g, 0), shapeA);
  const fullBatch = shapeA.length === batch.length + 2;
  if (shapeB.length === 2 && fullBatch) {
    // one product over batch and rows instead of a batch of products and a sum
    const tall = batch.reduce((x, y) => x * y, rows);
    const flatA = reshaped(g, left, shapeA, [tall, inner]);
    const flatDy = reshaped(g, dy, [...batch, rows, columns], [tall, columns]);
    const db = g.op("Gemm", [flatA, flatDy], { transA: 1 });
    return reshaped(g, db, shapeB, shapeIn(g, 1));
  }
  const product = g.op("MatMul", [transposed(g, left, shapeA.length), dy]);
  const full = sumTo(g, product, [...batch, inner, columns], shapeB);
  return reshaped(g, full, shapeB, shapeIn(g, 1));
}

/** Y = alpha A' B' + beta C, primes being optional transposes. */
export const gemmRule: Rule = (g) => {
  const [a, b] = [g.node.inputs[0]!, g.node.inputs[1]!];
  const alpha = floatAttribute(g.node, "alpha", 1);
  const beta = floatAttribute(g.node, "beta", 1);
  const transA = intAttribute(g.node, "transA", 0);
  const transB = intAttribute(g.node, "transB", 0);
  const dy = dyOf(g);
  const product = (left: string, tl: number, right: string, tr: number): string => {
    const attributes = { transA: tl, transB: tr, alpha: { type: "float" as const, value: alpha } };
    return g.op("Gemm", [left, right], attributes);
  };
  const da = (): string => (transA ? product(b, transB, dy, 1) : product(dy, 0, b, 1 - transB));
  const db = (): string => (transB ? product(dy, 1, a, transA) : product(a, 1 - transA, dy, 0));
  const dc = (): string => sumTo(g, scaled(g, dy, beta), shapeOut(g), shapeIn(g, 2));
  return [
    g.wants(0) ? da() : undefined,
    g.wants(1) ? db() : undefined,
    g.node.inputs[2] && g.wants(2) ? dc() : undefined,
  ];
};

/**
 * The gradient of one operand is an einsum of dY and the other operands; indices that only this operand has were summed
 * out, so their gradient is spread evenly.
 */
export const einsumRule: Rule = (g) => {
  const equation = stringAttribute(g.node, "equation", "").replaceAll(" ", "");
  if (equation.includes("...")) fail(nodeLabel(g.node), "has no gradient: an ellipsis in its equation", "Freeze it");
  const [left, right] = equation.split("->") as [string, string | undefined];
  const terms = left.split(",");
  const output = right ?? implicitOutput(terms);
  for (const term of terms) {
    if (new Set(term).size !== term.length) fail(nodeLabel(g.node), `has no gradient: '${term}' repeats an index`);
  }
  return terms.map((term, i) => {
    if (!g.wants(i)) return undefined;
    const others = terms.flatMap((other, j) => (j === i ? [] : [{ term: other, name: g.node.inputs[j]! }]));
    const available = new Set([...output, ...others.flatMap((other) => [...other.term])]);
    const kept = [...term].filter((index) => available.has(index)).join("");
    const from = [output, ...others.map((other) => other.term)].join();
    const dx = g.op("Einsum", [dyOf(g), ...others.map(({ name }) => name)], { equation: `${from}->${kept}` });
    if (kept === term) return dx;
    const shape = shapeIn(g, i);
    const ones = [...term].map((index, axis) => (available.has(index) ? shape[axis]! : 1));
    const keptShape = ones.filter((_, axis) => available.has([...term][axis]!));
    return expanded(g, reshaped(g, dx, keptShape, ones), ones, shape);
  });
};

function implicitOutput(terms: readonly string[]): string {
  const all = [...terms.join("")];
  return [...new Set(all)]
    .filter((index) => all.indexOf(index) === all.lastIndexOf(index))
    .sort()
    .join("");
}
