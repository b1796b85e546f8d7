import { int64, tensor, toNumbers } from "../../tensor/tensor.ts";
import type { Cutting } from "./rule.ts";

/**
 * Adapts an input that says the shape of the output. Elements of -1 that the operator fills in stay, so that free sizes
 * stay free; a computed shape keeps its other elements computed.
 *
 * @param infers whether the operator fills in one element of -1, and copies where it reads 0 (Reshape)
 */
export function patchShapeInput(c: Cutting, input: number, infers = false): void {
  const shape = c.shapeOut(0)!;
  const given = c.constant(input);
  const target = given ? toNumbers(given) : shape.map((_, axis) => c.constantElement(input, axis));
  const open = infers && target.includes(-1);
  const patches = shape.flatMap((size, axis) => {
    const wanted = c.keptOut(0, axis)?.length ?? size;
    const copied = infers && target[axis] === 0 && (c.keptIn(0, axis)?.length ?? c.shapeIn(0)![axis]) === wanted;
    const depends = !given && c.dependsOnCut(input, axis);
    return (wanted === size && !depends) || copied || (infers && target[axis] === -1) ? [] : [{ axis, wanted }];
  });
  if (patches.length === 0) return;
  const inputs = [...c.node.inputs];
  const value = (axis: number, wanted: number): number =>
    infers && !open && patches.length === 1 && patches[0]!.axis === axis ? -1 : wanted;
  if (given) {
    const next = target.map((element, axis) => patches.find((patch) => patch.axis === axis)?.wanted ?? element!);
    inputs[input] = c.draft.constant("shape", int64(next));
  } else {
    const chosen = shape.map((_, axis) => patches.find((patch) => patch.axis === axis));
    const fixed = chosen.map((patch, axis) => (patch ? value(axis, patch.wanted) : 0));
    const mask = c.draft.constant(
      "patched",
      tensor(
        "bool",
        [shape.length],
        Uint8Array.from(chosen, (patch) => (patch ? 1 : 0)),
      ),
    );
    const values = c.draft.constant("sizes", int64(fixed));
    inputs[input] = c.draft.emit("Where", [mask, values, inputs[input]!]);
  }
  c.become({ inputs });
}
