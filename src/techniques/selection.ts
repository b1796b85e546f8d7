import { z } from "zod";

export { checkSelection, selector } from "../graph/select.ts";

const patterns = z.array(z.string().min(1)).default([]);

/** Options of every technique that works node by node; spread into its schema. */
export const selectionOptions = {
  include: patterns.describe(
    "only these nodes: a node name (for one without, what messages call it), an operator type, a glob with *, or a /regular expression/",
  ),
  exclude: patterns.describe("not these nodes, in the same notation"),
} as const;
