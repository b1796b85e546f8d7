import { int64, tensor, toNumbers } from "../../tensor/tensor.ts";
import { shapedAxes } from "../couplings-shapes.ts";
import type { CutSize, Cutting } from "./rule.ts";

/** What becomes of an element of a shape: another number, or what is computed, multiplied and divided. */
type Patch = { readonly fixed: number } | { readonly times: number; readonly by: number };

/**
 * Adapts an input that says the shape of the output. Elements of -1 that the operator fills in stay, so that free sizes
 * stay free; a computed shape keeps its other elements computed. One that is computed from a size that is cut and one that
 * is not (channels times batch) is scaled.
 *
 * @param infers whether the operator fills in one element of -1, and copies where it reads 0 (Reshape)
 */
export function patchShapeInput(c: Cutting, input: number, infers = false): void {
  const shape = c.shapeOut(0)!;
  const axes = shapedAxes(c.node, c.shapeIn(input)![0]!, shape.length);
  const given = c.constant(input);
  const known = given && toNumbers(given).map((constant): CutSize => ({ constant, depends: false, varies: false }));
  const elements = known ?? axes.map((_, at) => c.sizeElement(input, at));
  const wanted = axes.map((axis) => c.keptOut(0, axis)?.length ?? shape[axis]!);
  const changed = axes.flatMap((axis, at) => {
    const { constant, depends } = elements[at]!;
    const copied = infers && constant === 0 && (c.keptIn(0, axis)?.length ?? c.shapeIn(0)![axis]) === wanted[at];
    const stays = wanted[at] === shape[axis] && !depends;
    return stays || copied || (infers && constant === -1) ? [] : [at];
  });
  if (changed.length === 0) return;
  const inputs = [...c.node.inputs];
  if (known) {
    const next = known.map(({ constant }, at) => (changed.includes(at) ? wanted[at]! : constant!));
    inputs[input] = c.draft.constant("shape", int64(next));
  } else {
    const open = infers && elements.some(({ constant }) => constant === -1);
    const isOdd = (at: number): boolean => elements[at]!.varies && elements[at]!.product === undefined;
    const found = infers && !open ? (changed.length === 1 ? changed[0] : changed.find(isOdd)) : undefined;
    const patches = axes.map((_, at): Patch | undefined => {
      if (!changed.includes(at)) return undefined;
      const { varies, product } = elements[at]!;
      if (at === found) return { fixed: -1 };
      return varies && product ? { times: wanted[at]!, by: product } : { fixed: wanted[at]! };
    });
    inputs[input] = patched(c, inputs[input]!, patches);
  }
  c.become({ inputs });
}

/** A computed shape with some of its elements changed. */
function patched({ draft }: Cutting, shape: string, patches: readonly (Patch | undefined)[]): string {
  const scales = patches.map((patch) => (patch && "times" in patch ? patch : { times: 1, by: 1 }));
  let name = shape;
  if (scales.some(({ times, by }) => times !== by)) {
    const more = draft.emit("Mul", [name, draft.constant("times", int64(scales.map(({ times }) => times)))]);
    name = draft.emit("Div", [more, draft.constant("by", int64(scales.map(({ by }) => by)))]);
  }
  const fixed = patches.map((patch) => (patch && "fixed" in patch ? patch.fixed : undefined));
  if (fixed.every((value) => value === undefined)) return name;
  const flags = Uint8Array.from(fixed, (value) => (value === undefined ? 0 : 1));
  const mask = draft.constant("patched", tensor("bool", [fixed.length], flags));
  return draft.emit("Where", [mask, draft.constant("sizes", int64(fixed.map((value) => value ?? 0))), name]);
}
