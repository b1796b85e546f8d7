import { intsAttribute } from "../../graph/graph.ts";
import type { AxisId } from "../couplings-relations.ts";
import { broadcast, type CouplingRule, type Relating } from "./rule.ts";
import { patchShapeInput } from "./shape-inputs.ts";

/** Runs of axes with the same product number the same elements. */
function relateRuns(r: Relating, x: readonly AxisId[], y: readonly AxisId[]): void {
  if (x.some((axis) => r.size(axis) === 0)) {
    r.freezeAll("values without elements");
    return;
  }
  let [left, right]: [AxisId[], AxisId[]] = [[], []];
  let [from, to] = [1, 1];
  let at = 0;
  for (const axis of x) {
    left.push(axis);
    from *= r.size(axis);
    while (at < y.length && (to < from || (to === 1 && r.size(y[at]!) === 1))) {
      to *= r.size(y[at]!);
      right.push(y[at++]!);
    }
    if (from !== to) continue;
    r.product(left, right);
    [left, right] = [[], []];
    [from, to] = [1, 1];
  }
}

/** Reshape, Flatten, Squeeze, Unsqueeze: elements stay in order. */
export const reshape: CouplingRule = {
  relate: (r) => relateRuns(r, r.input(0)!, r.output(0)!),
  cut(c) {
    if (c.node.op === "Reshape") patchShapeInput(c, 1, true);
  },
};

export const transpose: CouplingRule = {
  relate(r) {
    const [x, y] = [r.input(0)!, r.output(0)!];
    const perm = intsAttribute(r.node, "perm") ?? x.map((_, i) => x.length - 1 - i);
    for (const [i, from] of perm.entries()) r.same(x[from], y[i]);
  },
};

/** Axes of size 1 stretch, others go through. */
export const expand: CouplingRule = {
  relate: (r) => broadcast(r, r.input(0)!, r.output(0)!),
  cut: (c) => patchShapeInput(c, 1),
};

/** All elements are alike: the readers alone decide what can go. */
export const constantOfShape: CouplingRule = {
  relate() {},
  cut: (c) => patchShapeInput(c, 0),
};

/** Index i of the output is index i mod n of the input. */
export const tile: CouplingRule = {
  relate(r) {
    const [x, y] = [r.input(0)!, r.output(0)!];
    for (const [i, axis] of x.entries()) {
      const repeats = r.virtual(r.size(y[i]!) / Math.max(1, r.size(axis)));
      r.positions([repeats]);
      r.product([y[i]!], [repeats, axis]);
    }
  },
};
