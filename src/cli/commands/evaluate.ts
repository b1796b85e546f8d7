import type { Command } from "commander";
import { addMeasureFlags, type MeasureFlags, measure } from "./compare.ts";

/** `pare evaluate`: one model's accuracy, size, latency and memory. */
export function define(command: Command, signal: AbortSignal): void {
  command.argument("<model>", "an ONNX or Keras file");
  addMeasureFlags(command);
  command.action((model: string, flags: MeasureFlags) => measure(command, [model], flags, signal));
}
