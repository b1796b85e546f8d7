import { type Attribute, intAttribute, stringAttribute } from "../../graph/graph.ts";
import type { AxisId } from "../couplings-relations.ts";
import { broadcast, type CouplingRule, type Cutting, type Relating } from "./rule.ts";

/** The number of groups that channels and the weight's second axis leave: depthwise ones shrink with the channels. */
function cutGroups(c: Cutting, channels: number, perGroup: number): void {
  const before = intAttribute(c.node, "group", 1);
  const group = channels / perGroup;
  if (group === before) return;
  c.become({ attributes: { ...c.node.attributes, group: { type: "int", value: group } } });
}

const kept = (indices: readonly number[] | undefined, size: number): number => indices?.length ?? size;

/** x [n, g i, ...], w [g o, i, ...] -> y [n, g o, ...]: whole groups, inputs of all groups and outputs of all groups can go. */
export const conv: CouplingRule = {
  relate(r) {
    const [x, w, y] = [r.input(0)!, r.input(1)!, r.output(0)!];
    const groups = intAttribute(r.node, "group", 1);
    const group = r.virtual(groups);
    const out = r.virtual(r.size(w[0]!) / groups);
    r.product([x[1]!], [group, w[1]!]);
    r.product([w[0]!], [group, out]);
    r.same(y[1], w[0]);
    r.same(r.input(2)?.[0], w[0]);
    r.same(x[0], y[0]);
    r.positions([...x.slice(2), ...w.slice(2), ...y.slice(2)]);
    r.contract(0, [1], "sum");
  },
  cut: (c) => cutGroups(c, kept(c.keptIn(0, 1), c.shapeIn(0)![1]!), kept(c.keptIn(1, 1), c.shapeIn(1)![1]!)),
};

/** x [n, g i, ...], w [g i, o, ...] -> y [n, g o, ...]. */
export const convTranspose: CouplingRule = {
  relate(r) {
    const [x, w, y] = [r.input(0)!, r.input(1)!, r.output(0)!];
    const groups = intAttribute(r.node, "group", 1);
    const group = r.virtual(groups);
    const into = r.virtual(r.size(w[0]!) / groups);
    r.product([w[0]!], [group, into]);
    r.product([y[1]!], [group, w[1]!]);
    r.same(x[1], w[0]);
    r.same(r.input(2)?.[0], y[1]);
    r.same(x[0], y[0]);
    r.positions([...x.slice(2), ...w.slice(2), ...y.slice(2)]);
    r.contract(0, [1], "sum");
  },
  cut: (c) => cutGroups(c, kept(c.keptOut(0, 1), c.shapeOut(0)![1]!), kept(c.keptIn(1, 1), c.shapeIn(1)![1]!)),
};

/** a [m, k] b [k, n] + c -> y [m, n], a and b perhaps stored transposed. */
export const gemm: CouplingRule = {
  relate(r) {
    const [a, b, y] = [r.input(0)!, r.input(1)!, r.output(0)!];
    const [transA, transB] = [intAttribute(r.node, "transA", 0), intAttribute(r.node, "transB", 0)];
    const [m, k] = transA ? [1, 0] : [0, 1];
    const [inner, n] = transB ? [1, 0] : [0, 1];
    r.same(a[m], y[0]);
    r.same(a[k], b[inner]);
    r.same(b[n], y[1]);
    const bias = r.input(2);
    if (bias) broadcast(r, bias, y);
    r.contract(0, [k], "sum");
  },
};

function relateProduct(r: Relating, transA: boolean, transB: boolean): void {
  const [a, b, y] = [[...r.input(0)!], [...r.input(1)!], [...r.output(0)!]];
  const none = (): AxisId => r.virtual(1);
  // a vector is a matrix of one row or one column, which the output lacks
  if (a.length === 1) {
    a.unshift(none());
    y.splice(b.length === 1 ? y.length : -1, 0, none());
  }
  if (b.length === 1) {
    b.push(none());
    y.push(none());
  }
  const [m, k] = transA ? [-1, -2] : [-2, -1];
  const [inner, n] = transB ? [-1, -2] : [-2, -1];
  r.same(a.at(k), b.at(inner));
  r.same(a.at(m), y.at(-2));
  r.same(b.at(n), y.at(-1));
  broadcast(r, a.slice(0, -2), y.slice(0, -2));
  broadcast(r, b.slice(0, -2), y.slice(0, -2));
  const rank = r.input(0)!.length;
  r.contract(0, [rank + (rank === 1 ? -1 : k)], "sum");
}

/** Matrix products over the last two axes, the others broadcast. */
export const matMul: CouplingRule = { relate: (r) => relateProduct(r, false, false) };

/** The runtime's matrix product with operands stored transposed. */
export const fusedMatMul: CouplingRule = {
  relate(r) {
    const flag = (name: string): boolean => intAttribute(r.node, name, 0) !== 0;
    if (flag("transBatchA") || flag("transBatchB")) r.freezeAll("a transposed batch");
    else relateProduct(r, flag("transA"), flag("transB"));
  },
};

/** Axes with the same label are cut alike; those that the output lacks are summed over. */
export const einsum: CouplingRule = {
  relate(r) {
    const equation = stringAttribute(r.node, "equation", "").replaceAll(" ", "");
    const [left = "", right] = equation.split("->");
    if (equation.includes(".") || right === undefined) return r.freezeAll(`the equation '${equation}'`);
    const labelled = new Map<string, AxisId>();
    const relate = (term: string, axes: readonly AxisId[]): void => {
      for (const [i, label] of [...term].entries()) {
        const known = labelled.get(label);
        if (known === undefined || r.size(known) === 1) labelled.set(label, axes[i]!);
        else if (r.size(axes[i]!) > 1) r.same(known, axes[i]);
      }
    };
    for (const [i, term] of left.split(",").entries()) {
      relate(term, r.input(i)!);
      const summed = [...term].flatMap((label, axis) => (right.includes(label) ? [] : [axis]));
      if (summed.length > 0) r.contract(i, summed, "sum");
    }
    relate(right, r.output(0)!);
  },
};

const gates: Readonly<Record<string, number>> = { LSTM: 4, GRU: 3, RNN: 1 };

/**
 * Recurrent layers: x [t, b, i], w [d, gates h, i], r [d, gates h, h], b [d, 2 gates h], states [d, b, h],
 * y [t, d, b, h]. A hidden unit goes from all gates, and from both directions.
 */
export const recurrent: CouplingRule = {
  relate(r) {
    const [x, w, recur] = [r.input(0)!, r.input(1)!, r.input(2)!];
    const hidden = recur[2]!;
    const count = gates[r.node.op]!;
    const perGate = (axis: AxisId | undefined, times: number): void => {
      if (axis === undefined) return;
      const gate = r.virtual(times);
      r.positions([gate]);
      r.product([axis], [gate, hidden]);
    };
    perGate(w[1], count);
    perGate(recur[1], count);
    perGate(r.input(3)?.[1], 2 * count);
    perGate(r.input(7)?.[1], 3);
    r.same(x[2], w[2]);
    const directions = [w, recur, r.input(3), r.input(7)].map((axes) => axes?.[0]);
    const states = [r.input(5), r.input(6), r.output(1), r.output(2)];
    const y = r.output(0);
    for (const state of states) r.same(state?.[2], hidden);
    r.same(y?.[3], hidden);
    const fixed = [...directions, x[0], x[1], y?.[0], y?.[1], y?.[2], ...states.flatMap((s) => s?.slice(0, 2))];
    r.positions([...fixed.filter((axis) => axis !== undefined), ...(r.input(4) ?? [])]);
    r.contract(0, [2], "sum");
  },
  cut(c) {
    const hidden = c.keptIn(2, 2);
    if (!hidden) return;
    const size: Attribute = { type: "int", value: hidden.length };
    c.become({ attributes: { ...c.node.attributes, hidden_size: size } });
  },
};
