import { intAttribute, intsAttribute } from "../../graph/graph.ts";
import { toNumbers } from "../../tensor/tensor.ts";
import { type Contraction, type CouplingRule, fromFront, type NodeView, type Relating } from "./rule.ts";

/** The axes a reduction runs over; undefined where they are computed. */
function reducedAxes(view: NodeView): number[] | undefined {
  const rank = view.shapeIn(0)!.length;
  const all = Array.from({ length: rank }, (_, i) => i);
  const given = intsAttribute(view.node, "axes");
  if (given) return given.map((axis) => fromFront(axis, rank));
  if (view.shapeIn(1) === undefined) return intAttribute(view.node, "noop_with_empty_axes", 0) ? [] : all;
  const axes = view.constant(1);
  if (!axes) return undefined;
  if (axes.size === 0) return intAttribute(view.node, "noop_with_empty_axes", 0) ? [] : all;
  return toNumbers(axes).map((axis) => fromFront(axis, rank));
}

function relateKept(r: Relating, axes: readonly number[], keepdims: boolean): void {
  const [x, y] = [r.input(0)!, r.output(0)!];
  let at = 0;
  for (const [i, axis] of x.entries()) {
    if (!axes.includes(i)) r.same(axis, y[at++]);
    else if (keepdims) at++;
  }
}

/** Reductions over axes that may themselves be cut. */
export function reduction(how: Contraction): CouplingRule {
  return {
    relate(r) {
      const axes = reducedAxes(r);
      if (!axes) return r.freezeAll("axes that are computed");
      relateKept(r, axes, intAttribute(r.node, "keepdims", 1) !== 0);
      if (axes.length > 0) r.contract(0, axes, how);
    },
  };
}

/** Reductions over axes that must stay. */
export const fixedReduction: CouplingRule = {
  relate(r) {
    const axes = reducedAxes(r);
    if (!axes) return r.freezeAll("axes that are computed");
    relateKept(r, axes, intAttribute(r.node, "keepdims", 1) !== 0);
    const x = r.input(0)!;
    r.freeze(
      axes.map((axis) => x[axis]!),
      `'${r.node.name || r.node.outputs[0]}' reduces over it`,
    );
  },
};

/** ArgMax and ArgMin: the numbers of indices are the result. */
export const arg: CouplingRule = {
  relate(r) {
    const x = r.input(0)!;
    const axis = fromFront(intAttribute(r.node, "axis", 0), x.length);
    relateKept(r, [axis], intAttribute(r.node, "keepdims", 1) !== 0);
    r.freeze([x[axis]!], `'${r.node.name || r.node.outputs[0]}' gives indices of it`);
  },
};

/** Elementwise but for running along one axis: CumSum (axis by input 1), LpNormalization (by attribute). */
export const along: CouplingRule = {
  relate(r) {
    const [x, y] = [r.input(0)!, r.output(0)!];
    for (const [i, axis] of x.entries()) r.same(axis, y[i]);
    const given = r.constant(1);
    const axis = given ? toNumbers(given)[0]! : intAttribute(r.node, "axis", -1);
    r.freeze([x[fromFront(axis, x.length)]!], `'${r.node.name || r.node.outputs[0]}' runs along it`);
  },
};
