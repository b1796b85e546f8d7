import { expect, test } from "vitest";
import { printable } from "./printable.ts";

test("a name can't reach the terminal's controls, and reports keep bold and dim", () => {
  expect(printable("\u001b]0;title\u0007\u001b[2J\u001b[31mred\u009b1m\r\n")).toBe(" ]0;title  [2J [31mred 1m \n");
  expect(printable("\u001b[1mTitle\u001b[22m\tx")).toBe("\u001b[1mTitle\u001b[22m\tx");
  expect(printable("\u0085[1m\u202egnp")).toBe(" [1m gnp");
});
