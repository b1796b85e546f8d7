import type { Command } from "commander";
import { print } from "../../graph/print.ts";
import { load } from "../../platform/node.ts";
import { printable } from "../printable.ts";

/** `pare print`: a model in ONNX's textual syntax on stdout. */
export function define(command: Command): void {
  command.argument("<model>", "an ONNX or Keras file").action(async (model: string) => {
    process.stdout.write(printable(print(await load(model))));
  });
}
