import { type Attribute, intAttribute, intsAttribute, stringAttribute } from "../../graph/graph.ts";
import { int64, toNumbers } from "../../tensor/tensor.ts";
import { type CouplingRule, type Cutting, fromFront, type NodeView, type Relating, range } from "./rule.ts";

const label = (r: NodeView): string => r.node.name || r.node.outputs[0]!;

function relateOthers(r: Relating, axis: number, pairs: readonly (readonly [number, number])[]): void {
  for (const [i, k] of pairs) {
    const y = r.output(k);
    for (const [at, id] of (r.input(i) ?? []).entries()) if (at !== axis) r.same(id, y?.[at]);
  }
}

export const concat: CouplingRule = {
  relate(r) {
    const y = r.output(0)!;
    const axis = fromFront(intAttribute(r.node, "axis", 1), y.length);
    let start = 0;
    for (const [i] of r.node.inputs.entries()) {
      const x = r.input(i)!;
      r.part(x[axis]!, y[axis]!, range(r.size(x[axis]!), start));
      start += r.size(x[axis]!);
    }
    relateOthers(
      r,
      axis,
      r.node.inputs.map((_, i) => [i, 0] as const),
    );
  },
};

export const split: CouplingRule = {
  relate(r) {
    const x = r.input(0)!;
    const axis = fromFront(intAttribute(r.node, "axis", 0), x.length);
    let start = 0;
    for (const [k] of r.node.outputs.entries()) {
      const y = r.output(k);
      if (!y) return r.freezeAll("outputs nobody reads");
      r.part(y[axis]!, x[axis]!, range(r.size(y[axis]!), start));
      start += r.size(y[axis]!);
    }
    relateOthers(
      r,
      axis,
      r.node.outputs.map((_, k) => [0, k] as const),
    );
  },
  cut(c) {
    const axis = fromFront(intAttribute(c.node, "axis", 0), c.shapeIn(0)!.length);
    if (!c.keptIn(0, axis)) return;
    const sizes = c.node.outputs.map((_, k) => c.keptOut(k, axis)?.length ?? c.shapeOut(k)![axis]!);
    const { num_outputs, split: _, ...attributes } = c.node.attributes;
    const given: Attribute = { type: "ints", value: sizes };
    if (c.opset < 13) c.become({ attributes: { ...attributes, split: given } });
    else c.become({ inputs: [c.node.inputs[0]!, c.draft.constant("split", int64(sizes))], attributes });
  },
};

interface Bounds {
  readonly axis: number;
  /** Indices taken, absent where they are computed. */
  readonly index?: readonly number[];
}

/** What a Slice takes of the axes it names; undefined where these are computed. */
function bounds(view: NodeView): Bounds[] | undefined {
  const shape = view.shapeIn(0)!;
  const read = (i: number, attribute: string): number[] | undefined => {
    const given = view.constant(i);
    return given ? toNumbers(given) : intsAttribute(view.node, attribute);
  };
  const [starts, ends] = [read(1, "starts"), read(2, "ends")];
  const count = starts?.length ?? view.shapeIn(1)?.[0] ?? 0;
  const axes = read(3, "axes") ?? (view.shapeIn(3) ? undefined : range(count));
  const steps = read(4, "steps") ?? (view.shapeIn(4) ? undefined : new Array<number>(count).fill(1));
  if (!axes) return undefined;
  return Array.from(axes, (given, i): Bounds => {
    const axis = fromFront(given, shape.length);
    if (!starts || !ends || !steps) return { axis };
    const [size, step] = [shape[axis]!, steps[i]!];
    const clamp = (at: number): number => {
      const low = step < 0 ? -1 : 0;
      return Math.min(Math.max(at < 0 ? Math.max(at + size, low) : at, low), step < 0 ? size - 1 : size);
    };
    const index: number[] = [];
    const [start, end] = [clamp(starts[i]!), ends[i]! < -size ? (step < 0 ? -1 : 0) : clamp(ends[i]!)];
    for (let at = start; step > 0 ? at < end : at > end; at += step) index.push(at);
    return { axis, index };
  });
}

/** Where the indices that stay of a selection are among those that stay of the whole. */
function repositioned(selection: readonly number[], keptOut: readonly number[] | undefined, keptIn: readonly number[]) {
  const place = new Map(keptIn.map((index, i) => [index, i]));
  return (keptOut ?? selection.map((_, i) => i)).map((i) => place.get(selection[i]!)!);
}

export const slice: CouplingRule = {
  relate(r) {
    const [x, y] = [r.input(0)!, r.output(0)!];
    const taken = bounds(r);
    if (!taken) return r.freezeAll("axes that are computed");
    for (const [i, axis] of x.entries()) {
      const at = taken.find((b) => b.axis === i);
      if (!at) r.same(axis, y[i]);
      else if (at.index?.length && at.index.length === r.size(y[i]!)) r.part(y[i]!, axis, at.index);
      else r.positions([axis, y[i]!]);
    }
  },
  cut(c) {
    const next = bounds(c)!.map((at) => {
      const keptIn = c.keptIn(0, at.axis);
      return keptIn ? { ...at, places: repositioned(at.index!, c.keptOut(0, at.axis), keptIn) } : at;
    });
    if (next.some((at) => "places" in at)) cutSlice(c, next);
  },
};

/** A Slice where indices stay evenly spaced, a Gather behind it where they do not. */
function cutSlice(c: Cutting, axes: readonly (Bounds & { readonly places?: readonly number[] })[]): void {
  const uneven = axes.filter(({ places }) =>
    places?.some((p, i) => i > 1 && p - places[i - 1]! !== places[1]! - places[0]!),
  );
  const far = 2 ** 31 - 1;
  const read = (i: number, attribute: string): number[] => {
    const given = c.constant(i);
    return given ? toNumbers(given) : (intsAttribute(c.node, attribute) ?? axes.map(() => 1));
  };
  const triples = axes.map(({ axis, places }, i): [number, number, number] => {
    if (!places) return [read(1, "starts")[i]!, read(2, "ends")[i]!, read(4, "steps")[i]!];
    if (uneven.some((at) => at.axis === axis)) return [0, far, 1];
    const step = places.length > 1 ? places[1]! - places[0]! : 1;
    const end = places.at(-1)! + step;
    return [places[0]!, end < 0 ? -far : end, step];
  });
  const [starts, ends, steps] = [0, 1, 2].map((k) => triples.map((triple) => triple[k]!)) as [
    number[],
    number[],
    number[],
  ];
  const onAxes = axes.map(({ axis }) => axis);
  let to = c.node.outputs[0]!;
  for (const { axis, places } of uneven) {
    const from = c.draft.fresh(`${to}_sliced`);
    c.draft.emit("Gather", [from, c.draft.constant("places", int64(places!))], { axis }, [to]);
    to = from;
  }
  const ints = (value: readonly number[]): Attribute => ({ type: "ints", value });
  if (c.opset < 10) {
    c.become({ outputs: [to], attributes: { starts: ints(starts), ends: ints(ends), axes: ints(onAxes) } });
    return;
  }
  const constants = [starts, ends, onAxes, steps].map((values) => c.draft.constant("bounds", int64(values)));
  c.become({ outputs: [to], inputs: [c.node.inputs[0]!, ...constants] });
}

/** Rows by number: of constants a part, of computed ones nothing is known. */
export const gather: CouplingRule = {
  relate(r) {
    const [x, indices, y] = [r.input(0)!, r.input(1)!, r.output(0)!];
    const axis = fromFront(intAttribute(r.node, "axis", 0), x.length);
    const picked = y.slice(axis, axis + indices.length);
    for (const [i, id] of x.entries()) {
      if (i < axis) r.same(id, y[i]);
      else if (i > axis) r.same(id, y[i - 1 + indices.length]);
    }
    const known = gathered(r, axis);
    if (!known) {
      for (const [i, id] of indices.entries()) r.same(id, picked[i]);
      r.freeze([x[axis]!], `'${label(r)}' looks it up by computed numbers`);
    } else if (indices.length === 0) r.positions([x[axis]!], known[0]!);
    else {
      const flat = indices.length === 1 ? picked[0]! : r.virtual(known.length);
      if (indices.length > 1) r.product([flat], picked);
      r.part(flat, x[axis]!, known);
    }
  },
  cut(c) {
    const axis = fromFront(intAttribute(c.node, "axis", 0), c.shapeIn(0)!.length);
    const known = gathered(c, axis);
    const shape = c.shapeIn(1)!;
    const kept = shape.map((_, i) => c.keptOut(0, axis + i));
    const keptIn = c.keptIn(0, axis);
    if (!known || (!keptIn && kept.every((some) => !some))) return;
    let left: readonly number[] = known.map((_, i) => i);
    let inner = 1;
    for (const [i, some] of [...kept.entries()].toReversed()) {
      const [size, stride] = [shape[i]!, inner];
      inner *= size;
      if (some) left = left.filter((at) => some.includes(Math.floor(at / stride) % size));
    }
    const places = repositioned(known, left, keptIn ?? Array.from(range(c.shapeIn(0)![axis]!)));
    const next = int64(
      places,
      shape.map((size, i) => kept[i]?.length ?? size),
    );
    c.become({ inputs: [c.node.inputs[0]!, c.draft.constant("indices", next)] });
  },
};

function gathered(view: NodeView, axis: number): number[] | undefined {
  const given = view.constant(1);
  const size = view.shapeIn(0)![axis]!;
  return given && toNumbers(given).map((at) => fromFront(at, size));
}

/** Amounts of padding before and after every axis; undefined where they are computed. */
function padding(view: NodeView): { before: number[]; after: number[]; axes: number[] } | undefined {
  const rank = view.shapeIn(0)!.length;
  const given = view.constant(1);
  const pads = given ? toNumbers(given) : (intsAttribute(view.node, "pads") ?? intsAttribute(view.node, "paddings"));
  const chosen = view.constant(3);
  if (!pads || (view.shapeIn(3) && !chosen)) return undefined;
  const axes = chosen ? toNumbers(chosen).map((axis) => fromFront(axis, rank)) : Array.from(range(rank));
  return { before: pads.slice(0, axes.length), after: pads.slice(axes.length), axes };
}

/** The input is a part of the output; what is padded around it belongs to whoever adds to it. */
export const pad: CouplingRule = {
  relate(r) {
    const [x, y] = [r.input(0)!, r.output(0)!];
    const pads = padding(r);
    const constant = stringAttribute(r.node, "mode", "constant") === "constant";
    for (const [i, axis] of x.entries()) {
      const at = pads ? pads.axes.indexOf(i) : -1;
      const [before, after] = at < 0 ? [0, 0] : [pads!.before[at]!, pads!.after[at]!];
      if (pads && before === 0 && after === 0) r.same(axis, y[i]);
      else if (pads && constant && before >= 0 && after >= 0) r.part(axis, y[i]!, range(r.size(axis), before));
      else r.freeze([axis, y[i]!], `'${label(r)}' pads it with its own elements, or by computed amounts`);
    }
  },
  cut(c) {
    const pads = padding(c);
    if (!pads?.axes.some((axis) => c.keptOut(0, axis))) return;
    // a negative amount crops, and stands on an axis that stays
    const amount = (axis: number, given: number, from: number): number =>
      given < 0 ? given : (c.keptOut(0, axis)?.filter((i) => i >= from && i < from + given).length ?? given);
    const before = pads.axes.map((axis, i) => amount(axis, pads.before[i]!, 0));
    const after = pads.axes.map((axis, i) => amount(axis, pads.after[i]!, c.shapeOut(0)![axis]! - pads.after[i]!));
    const value = [...before, ...after];
    if (c.opset < 11) c.become({ attributes: { ...c.node.attributes, pads: { type: "ints", value } } });
    else c.become({ inputs: [c.node.inputs[0]!, c.draft.constant("pads", int64(value)), ...c.node.inputs.slice(2)] });
  },
};
