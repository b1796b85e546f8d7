import { execFileSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { messageOf } from "../src/errors.ts";

/** What `peers/quantize.py` is asked for; its head says what the fields mean. */
export interface PeerConfig {
  readonly model: string;
  readonly output: string;
  readonly method: "static" | "dynamic" | "matmul_nbits";
  readonly preprocess?: boolean;
  readonly calibration?: string;
  readonly options?: object;
}

const driver = fileURLToPath(new URL("peers/quantize.py", import.meta.url));

/**
 * Quantizes by onnxruntime.quantization: at the model's own operator set, or where the static method fails there, at 13,
 * which a scale for each channel needs.
 *
 * @param python the interpreter
 * @param folder where it may leave files
 * @throws Error with the tool's message
 */
export function quantizeByPeer(python: string, config: PeerConfig, folder: string): void {
  const attempt = (whole: object): string => {
    try {
      const printed = execFileSync(python, [driver, "-"], {
        input: JSON.stringify(whole),
        encoding: "utf8",
        stdio: ["pipe", "pipe", "ignore"],
        cwd: folder,
        maxBuffer: 2 ** 26,
      });
      return errorOf(printed) ?? "";
    } catch (error) {
      return errorOf((error as { stdout?: string }).stdout ?? "") ?? messageOf(error);
    }
  };
  const opset = config.method === "static" ? { opset: 13 } : {};
  const error = attempt(config) && attempt({ ...config, ...opset });
  if (error) throw new Error(error);
}

/** The error that the last line of what was printed tells of. */
function errorOf(printed: string): string | undefined {
  const line = printed.trim().split("\n").at(-1);
  return line?.startsWith("{") ? (JSON.parse(line) as { error?: string }).error : undefined;
}
