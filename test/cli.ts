import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { cpSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
/** Where {@link build} puts the compiled files. */
export const dist = join(root, "node_modules", ".cache", `pare-cli-${process.pid}`);
const bin = join(dist, "bin.mjs");

/** What a finished command left. */
export interface Finished {
  readonly status: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
  readonly ms: number;
}

/** Compiles the command line as it is published; call {@link removeBuild} at the end. */
export function build(): void {
  const tsc = join(root, "node_modules", "typescript", "bin", "tsc");
  execFileSync(process.execPath, [tsc, "-p", join(root, "tsconfig.build.json"), "--outDir", dist], {
    stdio: "inherit",
  });
  writeFileSync(bin, 'import { main } from "./cli/main.js";\nawait main(process.argv.slice(2));\n');
}

/** Removes what {@link build} has made. */
export function removeBuild(): void {
  rmSync(dist, { recursive: true, force: true });
}

/** Starts `pare` with arguments in a folder. */
export function start(args: readonly string[], cwd: string, node: readonly string[] = []): ChildProcess {
  return spawn(process.execPath, [...node, bin, ...args], { cwd });
}

/** Runs `pare` to its end. */
export async function pare(args: readonly string[], cwd: string): Promise<Finished> {
  const begin = performance.now();
  const child = start(args, cwd);
  let [stdout, stderr] = ["", ""];
  child.stdout!.on("data", (chunk) => (stdout += chunk));
  child.stderr!.on("data", (chunk) => (stderr += chunk));
  return new Promise((resolve) => {
    child.on("close", (status, signal) => resolve({ status, signal, stdout, stderr, ms: performance.now() - begin }));
  });
}

/** A folder of its own with the digits example in `digits/`. */
export function workplace(): string {
  const folder = mkdtempSync(join(tmpdir(), "pare-test-"));
  cpSync(join(root, "examples", "digits"), join(folder, "digits"), { recursive: true });
  return folder;
}
