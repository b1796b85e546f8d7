import { type Attribute, float, floatAttribute, intAttribute } from "../../graph/graph.ts";
import type { AxisId } from "../couplings-relations.ts";
import type { CouplingRule, Cutting, Relating } from "./rule.ts";

/** Whole heads of queries by groups that share a key, and inside a head queries with keys and values with outputs. */
interface Heads {
  readonly group: AxisId;
  readonly repeat: AxisId;
  readonly key: AxisId;
  readonly value: AxisId;
}

function heads(r: Relating, queryHeads: number, keyHeads: number, key: number, value: number): Heads {
  return {
    group: r.virtual(keyHeads),
    repeat: r.virtual(queryHeads / keyHeads),
    key: r.virtual(key),
    value: r.virtual(value),
  };
}

const int = (value: number): Attribute => ({ type: "int", value });

/** Cuts the attribute that counts heads, and writes out a scale that would follow from the width of a head. */
function cutHeads(
  c: Cutting,
  name: string,
  fallback: number,
  keyWidth: number,
  kept: number,
): Record<string, Attribute> {
  const before = intAttribute(c.node, name, fallback);
  const scale = floatAttribute(c.node, "scale", 0) || 1 / Math.sqrt(keyWidth);
  return before === kept ? { scale: float(scale) } : { [name]: int(kept), scale: float(scale) };
}

/** Number of blocks of an axis of which anything is kept. */
function blocksKept(c: Cutting, i: number, axis: number, blocks: number): number {
  const size = c.shapeIn(i)![axis]!;
  const kept = c.keptIn(i, axis);
  return kept ? new Set(kept.map((at) => Math.floor(at / (size / blocks)))).size : blocks;
}

/**
 * ONNX's Attention: q [b, s, hq d] or [b, hq, s, d], k and v likewise, grouped queries where hq > hk. A cache, and the
 * scores as an output, keep everything.
 */
export const attention: CouplingRule = {
  relate(r) {
    const [q, k, v, y] = [r.input(0)!, r.input(1)!, r.input(2)!, r.output(0)!];
    const flat = q.length === 3;
    const queryHeads = flat ? intAttribute(r.node, "q_num_heads", 1) : r.size(q[1]!);
    const keyHeads = flat ? intAttribute(r.node, "kv_num_heads", 1) : r.size(k[1]!);
    const width = (axes: readonly AxisId[], count: number): number => r.size(axes.at(-1)!) / (flat ? count : 1);
    const h = heads(r, queryHeads, keyHeads, width(k, keyHeads), width(v, keyHeads));
    const relate = (axes: readonly AxisId[], count: readonly AxisId[], inner: AxisId): void => {
      if (flat) r.product([axes[2]!], [...count, inner]);
      else {
        r.product([axes[1]!], count);
        r.same(axes[3], inner);
      }
      r.same(axes[0], y[0]);
      r.positions([axes[flat ? 1 : 2]!]);
    };
    relate(q, [h.group, h.repeat], h.key);
    relate(k, [h.group], h.key);
    relate(v, [h.group], h.value);
    relate(y, [h.group, h.repeat], h.value);
    const extras = [r.input(3), r.input(4), r.input(5), r.output(1), r.output(2), r.output(3)].flatMap((a) => a ?? []);
    const perHead = [r.input(3), r.output(3)].some((axes) => axes?.at(-3) !== undefined && r.size(axes.at(-3)!) > 1);
    if (r.input(4) || r.output(1) || perHead) r.freezeAll("a cache, or a mask or scores for each head");
    else r.positions(extras);
    r.contract(0, [flat ? 2 : 3], "sum");
  },
  cut(c) {
    const flat = c.shapeIn(0)!.length === 3;
    const [hq, hk] = [intAttribute(c.node, "q_num_heads", 1), intAttribute(c.node, "kv_num_heads", 1)];
    const width = c.shapeIn(0)!.at(-1)! / (flat ? hq : 1);
    const changed = flat
      ? {
          ...cutHeads(c, "q_num_heads", 1, width, blocksKept(c, 0, 2, hq)),
          ...cutHeads(c, "kv_num_heads", 1, width, blocksKept(c, 1, 2, hk)),
        }
      : { scale: float(floatAttribute(c.node, "scale", 0) || 1 / Math.sqrt(width)) };
    c.become({ attributes: { ...c.node.attributes, ...changed } });
  },
};

/** The runtime's attention with projections inside: x [b, s, i], w [i, 3 h d], b [3 h d] -> y [b, s, h d]. */
export const packedAttention: CouplingRule = {
  relate(r) {
    const [x, w, y] = [r.input(0)!, r.input(1)!, r.output(0)!];
    const count = intAttribute(r.node, "num_heads", 1);
    const width = r.size(y[2]!) / count;
    if (r.size(w[1]!) !== 3 * r.size(y[2]!) || r.input(4) || r.input(5) || r.output(1)) {
      return r.freezeAll("attention with a cache, a bias of its scores or projections of different widths");
    }
    const [three, head, inner] = [r.virtual(3), r.virtual(count), r.virtual(width)];
    r.positions([three]);
    if (intAttribute(r.node, "do_rotary", 0) !== 0) r.freeze([inner], "rotated positions");
    r.product([w[1]!], [three, head, inner]);
    if (r.input(2)) r.product(r.input(2)!, [three, head, inner]);
    r.product([y[2]!], [head, inner]);
    r.same(x[2], w[0]);
    r.same(x[0], y[0]);
    r.positions([x[1]!, y[1]!, ...(r.input(3) ?? [])]);
    r.contract(0, [2], "sum");
  },
  cut(c) {
    const count = intAttribute(c.node, "num_heads", 1);
    const kept = c.keptOut(0, 2);
    if (!kept) return;
    const size = c.shapeOut(0)![2]!;
    const left = new Set(kept.map((at) => Math.floor(at / (size / count)))).size;
    const { qkv_hidden_sizes: _, ...attributes } = c.node.attributes;
    c.become({ attributes: { ...attributes, ...cutHeads(c, "num_heads", 1, size / count, left) } });
  },
};

/** The runtime's attention over separate projections q, k, v [b, s, h d], with a bias of all three behind one another. */
export const multiHeadAttention: CouplingRule = {
  relate(r) {
    const [q, k, v, y] = [r.input(0)!, r.input(1), r.input(2), r.output(0)!];
    if (q.length !== 3 || k?.length !== 3 || v?.length !== 3 || r.input(5) || r.input(6) || r.output(1)) {
      return r.freezeAll("attention with packed operands, a cache or a bias of its scores");
    }
    const count = intAttribute(r.node, "num_heads", 1);
    const h = heads(r, count, count, r.size(q[2]!) / count, r.size(v[2]!) / count);
    r.product([q[2]!], [h.group, h.key]);
    r.product([k[2]!], [h.group, h.key]);
    r.product([v[2]!], [h.group, h.value]);
    r.product([y[2]!], [h.group, h.value]);
    const bias = r.input(3)?.[0];
    if (bias !== undefined) {
      let start = 0;
      for (const axes of [q, k, v]) {
        r.part(
          axes[2]!,
          bias,
          Int32Array.from({ length: r.size(axes[2]!) }, (_, i) => start + i),
        );
        start += r.size(axes[2]!);
      }
    }
    r.same(q[0], y[0]);
    r.positions([q[1]!, k[1]!, v[1]!, y[1]!, ...(r.input(4) ?? [])]);
    r.contract(0, [2], "sum");
  },
  cut(c) {
    const count = intAttribute(c.node, "num_heads", 1);
    const left = blocksKept(c, 0, 2, count);
    const changed = cutHeads(c, "num_heads", 1, c.shapeIn(0)![2]! / count, left);
    c.become({ attributes: { ...c.node.attributes, ...changed } });
  },
};
