import { expect, test } from "vitest";
import { decompositions } from "../src/autodiff/decompose.ts";
import { gradients } from "../src/autodiff/gradients.ts";

function state(op: string): string {
  const row = gradients[op];
  const decomposes = op in decompositions;
  if (typeof row === "function") return decomposes ? "yes; its rarer forms through a decomposition" : "yes";
  if (decomposes) return "through its decomposition";
  return row?.kind === "none" ? `none: ${row.reason}` : `not yet: ${row?.reason}`;
}

test("docs/coverage.md is current", async () => {
  const names = [...new Set([...Object.keys(gradients), ...Object.keys(decompositions)])].filter(
    (op) => !op.startsWith("pare:"),
  );
  const rows = names.toSorted().map((op) => `| ${op} | ${state(op)} |`);
  const count = (start: string): number => rows.filter((row) => row.includes(`| ${start}`)).length;
  const page = [
    "# Operators with gradients",
    "",
    `Every operator of ONNX up to operator set 26, and those of the runtime's own domain that have a rule: ${count("yes")} with a`,
    `gradient rule, ${count("through")} through a decomposition, ${count("none")} that end gradients, ${count("not yet")} without a rule yet.`,
    "",
    "| operator | gradient |",
    "| --- | --- |",
    ...rows,
    "",
  ].join("\n");
  await expect(page).toMatchFileSnapshot("../docs/coverage.md");
});
