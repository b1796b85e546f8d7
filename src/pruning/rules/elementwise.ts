import { intAttribute } from "../../graph/graph.ts";
import { toNumbers } from "../../tensor/tensor.ts";
import { broadcast, type CouplingRule, fromFront } from "./rule.ts";

/** Every output element depends on the elements of the inputs at its place, inputs broadcast. */
export const elementwise: CouplingRule = {
  relate(r) {
    for (const [k] of r.node.outputs.entries()) {
      const y = r.output(k);
      if (!y) continue;
      for (const [i] of r.node.inputs.entries()) {
        const x = r.input(i);
        if (x) broadcast(r, x, y);
      }
    }
  },
};

/** As {@link elementwise}, of the first input alone: the others are settings. */
export const unary: CouplingRule = {
  relate(r) {
    for (const [k] of r.node.outputs.entries()) {
      const y = r.output(k);
      if (y) broadcast(r, r.input(0)!, y);
    }
  },
};

/** Elementwise when it infers; in training mode it draws a number for every element, so that sizes matter. */
export const dropout: CouplingRule = {
  relate(r) {
    const training = r.constant(2);
    if (training && toNumbers(training)[0] !== 0) r.freezeAll(`'${r.node.name || r.node.outputs[0]}' is training`);
    else unary.relate(r);
  },
};

/** Elementwise but for one axis, over which elements are weighed against each other. */
export const softmax: CouplingRule = {
  relate(r) {
    unary.relate(r);
    const x = r.input(0)!;
    const axis = fromFront(intAttribute(r.node, "axis", r.opset < 13 ? 1 : -1), x.length);
    // before operator set 13 everything from the axis on is one axis
    r.freeze(r.opset < 13 ? x.slice(axis) : [x[axis]!], `'${r.node.name || r.node.outputs[0]}' normalizes over it`);
  },
};

/** Axes of QuantizeLinear and DequantizeLinear: scales and zero points are scalars, vectors along `axis`, or blocks. */
export const affine: CouplingRule = {
  relate(r) {
    unary.relate(r);
    const x = r.input(0)!;
    const axis = fromFront(intAttribute(r.node, "axis", 1), x.length);
    for (const i of [1, 2]) {
      const scale = r.input(i);
      if (scale?.length === 1 && r.size(scale[0]!) > 1) r.same(scale[0], x[axis]);
      else if (scale && scale.length > 1) {
        r.freeze([...x, ...scale], `'${r.node.name || r.node.outputs[0]}' has scales for blocks`);
      }
    }
  },
};
