import type { Command } from "commander";
import { techniqueRows } from "./techniques.ts";

/** A command's module: builds flags and action into a commander command. */
export interface CommandModule {
  define(command: Command, signal: AbortSignal): void;
}

/** One command of `pare`. Its module is imported only when it is used. */
export interface CommandRow {
  readonly name: string;
  readonly summary: string;
  /** Heading in the help. */
  readonly group: string;
  load(): Promise<CommandModule>;
}

const measure = "Look and measure:";
const compress = "Compress:";
const single = "One technique:";
const training = "Train:";
const files = "Files:";

/** Every command, in the order of the help. */
export const commands: readonly CommandRow[] = [
  {
    name: "compress",
    summary: "find and apply what makes a model smaller or faster within a loss budget; or run a recipe",
    group: compress,
    load: () => import("./commands/compress.ts"),
  },
  {
    name: "prune",
    summary: "cut, repair and retrain round by round, within a loss budget or down to a size",
    group: compress,
    load: () => import("./commands/prune.ts"),
  },
  {
    name: "quantize",
    summary: "give every layer the format that pays, by measured damage, bytes and time",
    group: compress,
    load: () => import("./commands/quantize.ts"),
  },
  {
    name: "inspect",
    summary: "show where a model's bytes, parameters, MACs and time are",
    group: measure,
    load: () => import("./commands/inspect.ts"),
  },
  {
    name: "evaluate",
    summary: "measure accuracy, size, latency and memory on your data",
    group: measure,
    load: () => import("./commands/evaluate.ts"),
  },
  {
    name: "compare",
    summary: "compare models on the same samples, the first being the reference",
    group: measure,
    load: () => import("./commands/compare.ts"),
  },
  ...Object.entries(techniqueRows).map(([name, { summary, load }]) => ({
    name,
    summary,
    group: single,
    load: async () => {
      const [{ techniqueCommand }, technique] = await Promise.all([import("./commands/technique.ts"), load()]);
      return techniqueCommand(technique);
    },
  })),
  {
    name: "finetune",
    summary: "train a model further on data, with a teacher if there is one",
    group: training,
    load: () => import("./commands/finetune.ts"),
  },
  {
    name: "train",
    summary: "train an architecture from nothing",
    group: training,
    load: () => import("./commands/train.ts"),
  },
  {
    name: "print",
    summary: "print a model in ONNX's textual syntax",
    group: files,
    load: () => import("./commands/print.ts"),
  },
  {
    name: "diff",
    summary: "show what differs between two models",
    group: files,
    load: () => import("./commands/diff.ts"),
  },
  {
    name: "validate",
    summary: "check a model's structure and that the runtime loads it",
    group: files,
    load: () => import("./commands/validate.ts"),
  },
  {
    name: "convert",
    summary: "rewrite a model in a newer operator set, or with its weights outside",
    group: files,
    load: () => import("./commands/convert.ts"),
  },
  {
    name: "schema",
    summary: "print the JSON Schema of recipes, for editors",
    group: files,
    load: () => import("./commands/schema.ts"),
  },
];
