import { intAttribute, stringAttribute } from "../../graph/graph.ts";
import type { AxisId } from "../couplings-relations.ts";
import type { CouplingRule, Relating } from "./rule.ts";
import { patchShapeInput } from "./shape-inputs.ts";

/** [n, c, ...] -> [n, c, ...]: windows over the trailing axes. Indices of maxima count over all channels. */
export const pool: CouplingRule = {
  relate(r) {
    const [x, y] = [r.input(0)!, r.output(0)!];
    r.same(x[0], y[0]);
    r.same(x[1], y[1]);
    r.positions([...x.slice(2), ...y.slice(2)]);
    const indices = r.output(1);
    if (indices) r.freeze([...x, ...indices], `'${r.node.name || r.node.outputs[0]}' counts places over all channels`);
  },
};

/** An axis goes through if its size stays. */
export const resize: CouplingRule = {
  relate(r) {
    const [x, y] = [r.input(0)!, r.output(0)!];
    for (const [i, axis] of x.entries()) {
      if (i < 2 && r.size(axis) === r.size(y[i]!)) r.same(axis, y[i]);
      else r.positions([axis, y[i]!]);
    }
  },
  cut(c) {
    // input 3 are the sizes wanted; scales of 1 stay
    if (c.node.op === "Resize" && c.shapeIn(3)?.[0]) patchShapeInput(c, 3);
  },
};

/** Channels move into blocks of pixels: DCR order [b, b, c], CRD order [c, b, b]; b * b of them go together. */
export const depthToSpace: CouplingRule = {
  relate(r) {
    const [x, y] = [r.input(0)!, r.output(0)!];
    const [rows, columns] = blocks(r);
    const crd = stringAttribute(r.node, "mode", "DCR") === "CRD";
    r.product([x[1]!], crd ? [y[1]!, rows, columns] : [rows, columns, y[1]!]);
    r.same(x[0], y[0]);
    r.positions([...x.slice(2), ...y.slice(2)]);
  },
};

/** Blocks of pixels move into channels, in the order [b, b, c]. */
export const spaceToDepth: CouplingRule = {
  relate(r) {
    const [x, y] = [r.input(0)!, r.output(0)!];
    r.product([y[1]!], [...blocks(r), x[1]!]);
    r.same(x[0], y[0]);
    r.positions([...x.slice(2), ...y.slice(2)]);
  },
};

function blocks(r: Relating): [AxisId, AxisId] {
  const size = intAttribute(r.node, "blocksize", 1);
  const made: [AxisId, AxisId] = [r.virtual(size), r.virtual(size)];
  r.positions(made);
  return made;
}
