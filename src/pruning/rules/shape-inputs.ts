import { int64, tensor, toNumbers } from "../../tensor/tensor.ts";
import { shapedAxes } from "../couplings-shapes.ts";
import type { Cutting } from "./rule.ts";

/**
 * Adapts an input that says the shape of the output. Elements of -1 that the operator fills in stay, so that free sizes
 * stay free; a computed shape keeps its other elements computed.
 *
 * @param infers whether the operator fills in one element of -1, and copies where it reads 0 (Reshape)
 */
export function patchShapeInput(c: Cutting, input: number, infers = false): void {
  const shape = c.shapeOut(0)!;
  const axes = shapedAxes(c.node, c.shapeIn(input)![0]!, shape.length);
  const given = c.constant(input);
  const target = given ? toNumbers(given) : axes.map((_, at) => c.constantElement(input, at));
  const open = infers && target.includes(-1);
  const patches = axes.flatMap((axis, at) => {
    const size = shape[axis]!;
    const wanted = c.keptOut(0, axis)?.length ?? size;
    const copied = infers && target[at] === 0 && (c.keptIn(0, axis)?.length ?? c.shapeIn(0)![axis]) === wanted;
    const depends = !given && c.dependsOnCut(input, at);
    return (wanted === size && !depends) || copied || (infers && target[at] === -1) ? [] : [{ at, wanted }];
  });
  if (patches.length === 0) return;
  const inputs = [...c.node.inputs];
  const value = (at: number, wanted: number): number =>
    infers && !open && patches.length === 1 && patches[0]!.at === at ? -1 : wanted;
  if (given) {
    const next = target.map((element, at) => patches.find((patch) => patch.at === at)?.wanted ?? element!);
    inputs[input] = c.draft.constant("shape", int64(next));
  } else {
    const chosen = axes.map((_, at) => patches.find((patch) => patch.at === at));
    const fixed = chosen.map((patch, at) => (patch ? value(at, patch.wanted) : 0));
    const mask = c.draft.constant(
      "patched",
      tensor(
        "bool",
        [axes.length],
        Uint8Array.from(chosen, (patch) => (patch ? 1 : 0)),
      ),
    );
    const values = c.draft.constant("sizes", int64(fixed));
    inputs[input] = c.draft.emit("Where", [mask, values, inputs[input]!]);
  }
  c.become({ inputs });
}
