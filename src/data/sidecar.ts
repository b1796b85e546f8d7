import { z } from "zod";
import { fail, messageOf } from "../errors.ts";
import type { Files } from "./files.ts";
import { preprocessSchema } from "./preprocess.ts";

/** What `<model>.pare.yaml` may say. */
export const sidecarSchema = z.strictObject({
  version: z.literal(1).default(1),
  preprocess: preprocessSchema.optional(),
  task: z.enum(["classification", "regression", "segmentation", "detection", "language-model"]).optional(),
  classes: z.array(z.string()).optional().describe("class names in label order"),
  metrics: z.array(z.string()).optional().describe("metrics to report, the first one leads"),
});

/** The small file beside a model that says how to feed and judge it. */
export type Sidecar = z.infer<typeof sidecarSchema>;

/** The path of a model's sidecar: `model.onnx` -> `model.pare.yaml`. */
export function sidecarPath(model: string): string {
  return `${model.replace(/\.[^./\\]+$/, "")}.pare.yaml`;
}

/**
 * Reads a sidecar's text.
 *
 * @throws PareError where it is not YAML, or a field is not known or wrong
 */
export async function parseSidecar(text: string, who: string): Promise<Sidecar> {
  const { parse } = await import("yaml"); // few models have a sidecar
  let value: unknown;
  try {
    value = parse(text) ?? {};
  } catch (error) {
    return fail(who, `is not YAML: ${messageOf(error).split("\n")[0]}`, "Mend the line it names", error);
  }
  const result = sidecarSchema.safeParse(value);
  if (result.success) return result.data;
  const issue = result.error.issues[0]!;
  const field = issue.path.length > 0 ? `field '${issue.path.join(".")}'` : "it";
  return fail(who, `${field}: ${issue.message}`, `Known fields: ${Object.keys(sidecarSchema.shape).join(", ")}`);
}

/** A sidecar's text. */
export async function formatSidecar(sidecar: Sidecar): Promise<string> {
  const { stringify } = await import("yaml");
  return stringify(sidecar);
}

/**
 * The sidecar beside a model, if there is one.
 *
 * @throws PareError where it is there but wrong
 */
export async function readSidecar(model: string, files: Files): Promise<Sidecar | undefined> {
  const path = sidecarPath(model);
  if (!(await files.stat(path))) return undefined;
  return parseSidecar(new TextDecoder().decode(await files.read(path)), path);
}
