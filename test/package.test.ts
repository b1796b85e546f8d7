import { execFile } from "node:child_process";
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { transform } from "esbuild";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { version } from "../src/version.ts";

const execute = promisify(execFile);
const root = fileURLToPath(new URL("..", import.meta.url));
const manifest = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as {
  readonly version: string;
  readonly files: readonly string[];
  readonly dependencies: Readonly<Record<string, string>>;
  readonly exports: Readonly<Record<string, unknown>>;
};

const folder = mkdtempSync(join(tmpdir(), "pare-package-"));
const source = join(folder, "source");
const project = join(folder, "project");
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** The TypeScript program that README.md shows. */
const readmeProgram = /```ts\n(.*?)```/s.exec(readFileSync(join(root, "README.md"), "utf8"))![1]!;

const subpaths = Object.keys(manifest.exports)
  .filter((path) => path !== "./package.json" && path !== "./web")
  .map((path) => path.replace(/^\./, "pare"));

/** A link for each package that npm would install beside pare: the real ones, without a network. */
function linkDependencies(modules: string): void {
  for (const name of Object.keys(manifest.dependencies)) {
    mkdirSync(dirname(join(modules, name)), { recursive: true });
    symlinkSync(join(root, "node_modules", name), join(modules, name), "dir");
  }
}

beforeAll(async () => {
  // built in a copy, so that the checkout's own dist is left alone
  for (const name of ["package.json", "tsconfig.json", "tsconfig.build.json", "LICENSE", "README.md", "bin", "src"]) {
    cpSync(join(root, name), join(source, name), { recursive: true });
  }
  symlinkSync(join(root, "node_modules"), join(source, "node_modules"), "dir");
  const { stdout } = await execute("npm", ["pack", "--json", "--pack-destination", folder], { cwd: source });
  const [{ filename }] = JSON.parse(stdout.slice(stdout.indexOf("["))) as [{ filename: string }];
  const modules = join(project, "node_modules");
  mkdirSync(join(modules, "pare"), { recursive: true });
  mkdirSync(join(modules, ".bin"));
  await execute("tar", ["-xzf", join(folder, filename), "-C", join(modules, "pare"), "--strip-components=1"]);
  linkDependencies(modules);
  symlinkSync(join("..", "pare", "bin", "pare.js"), join(modules, ".bin", "pare"));
  writeFileSync(join(project, "package.json"), JSON.stringify({ name: "user", private: true, type: "module" }));
}, 120_000);

describe("the packed package in an empty project", () => {
  test("holds what runs and nothing else", () => {
    const inside = (name: string) => existsSync(join(project, "node_modules", "pare", name));
    for (const name of ["bin/pare.js", "dist/index.js", "dist/index.d.ts", "LICENSE", "README.md"]) {
      expect([name, inside(name)]).toEqual([name, true]);
    }
    for (const name of ["src", "test", "tsconfig.json"]) expect([name, inside(name)]).toEqual([name, false]);
    expect(manifest.version).toBe(version);
  });

  test("imports from every subpath and runs a model", async () => {
    writeFileSync(
      join(project, "use.js"),
      `import { makeGraph, makeNode, float32 } from "pare";
import { load, runtime, save } from "pare/node";
for (const path of ${JSON.stringify(subpaths)}) await import(path);
const value = (name) => ({ name, type: { kind: "tensor", dtype: "float32", shape: [2] } });
const graph = makeGraph({ nodes: [makeNode("Neg", ["x"], ["y"])], inputs: [value("x")], outputs: [value("y")] });
await save(graph, "model.onnx");
const session = await (await runtime({ threads: 1 })).open(await load("model.onnx"));
const { y } = await session.run({ x: float32([2], [1, -2]) });
console.log(new Float32Array(y.bytes().slice().buffer).join());
await session.release();
`,
    );
    const { stdout } = await execute(process.execPath, ["use.js"], { cwd: project });
    expect(stdout.trim()).toBe("-1,2");
  });

  test("reads data in a thread of its own", async () => {
    writeFileSync(
      join(project, "data.mjs"),
      `import { isMainThread } from "node:worker_threads";
export default function* () { yield { inputs: { x: { shape: [1], data: [isMainThread ? 1 : 2] } } }; }
`,
    );
    writeFileSync(
      join(project, "thread.js"),
      `import { nodeFiles } from "pare/node";
import { openDataset } from "pare/data";
const data = await openDataset("data.mjs", nodeFiles, { inputs: [], background: true });
for await (const { inputs } of data.batches({ batch: 1 })) console.log(new Float32Array(inputs.x.bytes().slice().buffer)[0]);
`,
    );
    const { stdout } = await execute(process.execPath, ["thread.js"], { cwd: project });
    expect(stdout.trim()).toBe("2");
  });

  test("has types for a strict project that resolves as Node does", async () => {
    writeFileSync(
      join(project, "use.ts"),
      `${subpaths.map((path, i) => `import * as part${i} from "${path}";`).join("\n")}
import * as web from "pare/web";
import { type Graph, edit } from "pare";
import { load, runtime, save } from "pare/node";
export const parts = [${subpaths.map((_, i) => `part${i}`).join(", ")}, web];
export async function copy(from: string, to: string): Promise<number> {
  const graph: Graph = edit(await load(from), (draft) => { draft.metadata.by = "me"; });
  const { threads } = await runtime({ provider: "cpu" });
  // @ts-expect-error a path must be a string
  await save(graph, 1);
  return threads + (await save(graph, to)).bytes;
}
`,
    );
    writeFileSync(join(project, "readme.ts"), readmeProgram);
    const options = {
      module: "nodenext",
      target: "es2023",
      lib: ["es2023", "dom"],
      types: [],
      strict: true,
      exactOptionalPropertyTypes: true,
      noUncheckedIndexedAccess: true,
      noEmit: true,
    };
    writeFileSync(
      join(project, "tsconfig.json"),
      JSON.stringify({ compilerOptions: options, files: ["use.ts", "readme.ts"] }),
    );
    const compiler = join(root, "node_modules", ".bin", "tsc");
    const { stdout } = await execute(compiler, ["-p", "."], { cwd: project }).catch(
      (error: { stdout: string }) => error,
    );
    expect(stdout).toBe("");
  });

  test("runs the program of the README", async () => {
    cpSync(join(root, "examples", "digits", "model.onnx"), join(project, "model.onnx"));
    writeFileSync(join(project, "readme.js"), (await transform(readmeProgram, { loader: "ts" })).code);
    await execute(process.execPath, ["readme.js"], { cwd: project });
    expect(statSync(join(project, "small.onnx")).size).toBeLessThan(statSync(join(project, "model.onnx")).size / 5);
  });

  test("npx pare answers", async () => {
    const { stdout } = await execute("npx", ["--no-install", "pare", "--version"], { cwd: project });
    expect(stdout.trim()).toBe(version);
  });
});
